uniform vec3 colour;
uniform vec3 surface; // shine, opacity, unevenness

void main() {
    vec3 n = normalize(N);
    if (!gl_FrontFacing) n = -n;
    vec3 albedo = colour * (1.0 + surface.z * (cloud(R * 3.0) - 0.5));
    result = develop(shade(albedo, n, surface.x, 30.0, vec3(0.0), A), surface.y);
}
