uniform vec3 skin_colour;
uniform vec4 texture_strength;

void main() {
    vec3 n = normalize(N);
    vec4 grains = clouds(R * 3.6);
    float blotch = cloud(R * 0.6) - 0.5, grain = grains.r - 0.5;
    vec3 albedo = skin_colour * (1.0 + texture_strength.x * blotch + 1.5 * texture_strength.y * grain);
    n = normalize(n + 0.3 * (grains.gba - 0.5));
    result = develop(shade(albedo, n, texture_strength.w, 18.0, vec3(0.35, 0.15, 0.1), 0.85), 1.0);
}
