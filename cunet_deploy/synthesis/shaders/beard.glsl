uniform sampler2D lip_mask;
uniform sampler2D beard_mask;
uniform vec3 beard_colour;
uniform float layer;
uniform vec2 beard_hair; // frequency, gloss

void main() {
    vec3 n = normalize(N);
    float lips = texture(lip_mask, U).r;
    float mask = texture(beard_mask, vec2((R.x + 0.9) / 1.8, (R.y - 6.0) / 2.2)).r;
    mask *= smoothstep(0.45, 0.8, R.z) * smoothstep(6.0, 6.2, R.y);
    float strand = cloud(R * vec3(1.0, 0.45, 1.0) * beard_hair.x);
    float alpha = (strand * 0.8 + 0.35 * mask - 0.35 - 0.38 * layer) * 9.0 + 0.4;
    alpha = min(alpha, (mask - 0.12) * 5.0);
    if (lips > 0.3 || alpha < 0.12) discard;
    vec3 albedo = beard_colour * (0.45 + 0.55 * layer) * (0.6 + 0.9 * strand);
    float ao = A * (0.5 + 0.5 * layer);
    result = develop(shade(albedo, n, 0.15 * beard_hair.y, 12.0, vec3(0.1), ao), clamp(alpha, 0.0, 1.0));
}
