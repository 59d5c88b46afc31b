in vec3 position;
in vec3 normal;
in vec3 rest;   // where the point is on the unshaped mesh: texture in three dimensions
in vec2 uv;
in float ao;    // share of the surroundings that the point sees
in float extra; // scalp: degrees inside the hairline; hair: distance from the root

uniform mat4 view_projection;
uniform mat4 light_projection;
uniform float shell; // how far this layer of hair stands off
uniform vec3 comb;

out vec3 P;
out vec3 N;
out vec3 R;
out vec2 U;
out float A;
out float E;
out vec4 S;

void main() {
    vec3 p = position + shell * normal + comb;
    P = p;
    N = normal;
    R = rest;
    U = uv;
    A = ao;
    E = extra;
    S = light_projection * vec4(p, 1.0);
    gl_Position = view_projection * vec4(p, 1.0);
}
