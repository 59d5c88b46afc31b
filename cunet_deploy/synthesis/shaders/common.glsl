in vec3 P;
in vec3 N;
in vec3 R;
in vec2 U;
in float A;
in float E;
in vec4 S;
out vec4 result;

uniform sampler3D noise;
uniform sampler2DShadow shadow_map;
uniform vec3 harmonics[9];
uniform vec3 key;
uniform vec3 key_colour;
uniform vec3 rim;
uniform vec3 rim_colour;
uniform vec3 camera;
uniform float exposure;
uniform float occlusion;

// Clouds around one half, in steps of about one unit; four that do not look alike from one place.
float cloud(vec3 p) { return texture(noise, p).r; }
vec4 clouds(vec3 p) { return texture(noise, p); }

// Irradiance of the surroundings, of spherical harmonics up to the second order.
vec3 ambient(vec3 n) {
    vec3 light = harmonics[0] + harmonics[1] * n.y + harmonics[2] * n.z + harmonics[3] * n.x
        + harmonics[4] * (n.x * n.y) + harmonics[5] * (n.y * n.z) + harmonics[6] * (3.0 * n.z * n.z - 1.0)
        + harmonics[7] * (n.x * n.z) + harmonics[8] * (n.x * n.x - n.y * n.y);
    return max(light, vec3(0.02));
}

float lit(float bias) {
    vec3 q = S.xyz / S.w * 0.5 + 0.5;
    if (any(lessThan(q.xy, vec2(0.0))) || any(greaterThan(q.xy, vec2(1.0)))) return 1.0;
    float step = 1.6 / float(textureSize(shadow_map, 0).x);
    float sum = 0.0;
    for (int i = 0; i < 4; i++) {
        vec2 offset = (vec2(i % 2, i / 2) - 0.5) * 2.0 * step;
        sum += texture(shadow_map, vec3(q.xy + offset, q.z - bias));
    }
    return sum * 0.25;
}

// Colour of a surface. wrap: how far light reaches past the terminator in red, green, blue, as in skin.
vec3 shade(vec3 albedo, vec3 n, float shine, float power, vec3 wrap, float ao) {
    vec3 v = normalize(camera - P);
    float facing = dot(n, key);
    float free = lit(0.004 + 0.006 * (1.0 - clamp(facing, 0.0, 1.0)));
    vec3 diffuse = clamp((facing + wrap) / (1.0 + wrap), 0.0, 1.0);
    vec3 from_rim = clamp((dot(n, rim) + wrap) / (1.0 + wrap), 0.0, 1.0);
    vec3 half_key = normalize(key + v);
    float glint = pow(max(dot(n, half_key), 0.0), power) * shine;
    float edge = pow(1.0 - max(dot(n, v), 0.0), 4.0);
    float seen = pow(ao, occlusion);
    vec3 colour = albedo * (ambient(n) * seen + key_colour * diffuse * free * mix(1.0, seen, 0.5) + rim_colour * from_rim * seen);
    colour += key_colour * glint * free;
    colour += ambient(reflect(-v, n)) * shine * (0.10 + 0.12 * edge) * seen;
    return colour;
}

// Tone curve and display gamma.
vec4 develop(vec3 colour, float alpha) {
    colour *= exposure;
    colour = colour / (1.0 + 0.35 * colour);
    return vec4(pow(clamp(colour, 0.0, 1.0), vec3(1.0 / 2.2)), alpha);
}
