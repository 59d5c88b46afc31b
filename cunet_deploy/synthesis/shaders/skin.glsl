uniform sampler2D paint;
uniform sampler2D lip_mask;
uniform vec3 skin_colour;
uniform vec3 lip_colour;
uniform vec3 hair_colour;
uniform vec3 cloth_colour;
uniform vec4 texture_strength; // blotch, grain, redness, shine
uniform vec3 scalp; // strength of cropped hair on the scalp, roughness of the hairline, bump
uniform vec3 neckline; // height, depth of a V, pattern

void main() {
    vec3 n = normalize(N);
    // few look-ups, many uses: they cost more than all the rest
    float blotch = cloud(R * 0.35) - 0.5;
    vec4 patches = clouds(R * 1.4), grains = clouds(R * 3.6), fines = clouds(R * 7.1);
    float grain = grains.r - 0.5, fine = fines.r - 0.5;
    vec3 albedo = skin_colour * (1.0 + texture_strength.x * blotch + texture_strength.y * (grain + 0.6 * fine));
    float cheek = smoothstep(0.35, 0.0, length((R - vec3(sign(R.x) * 0.42, 6.95, 1.15)) * vec3(1.0, 1.0, 0.7)));
    float tip = smoothstep(0.28, 0.0, length(R - vec3(0.0, 6.97, 1.6)));
    float red = texture_strength.z * (cheek + 0.9 * tip + 0.3 * blotch);
    albedo *= vec3(1.0 + 0.25 * red, 1.0 - 0.28 * red, 1.0 - 0.22 * red);
    float lips = smoothstep(0.25, 0.75, texture(lip_mask, U).r);
    albedo = mix(albedo, lip_colour * (1.0 + 0.5 * fine + 0.4 * grain), lips * 0.9);
    vec4 painted = texture(paint, vec2((R.x + 0.9) / 1.8, (R.y - 6.0) / 2.2));
    albedo = mix(albedo, painted.rgb * painted.rgb, painted.a * smoothstep(0.3, 0.6, R.z));
    float grown = smoothstep(-3.0, 5.0, E + (patches.r - 0.5) * 18.0 * scalp.y) * scalp.x;
    albedo = mix(albedo, hair_colour * (0.7 + 0.6 * fines.g), grown);
    n = normalize(n + scalp.z * (grains.gba - 0.5));
    float shine = texture_strength.w * (0.6 + 0.8 * patches.g) * (1.0 + 1.5 * lips) * (1.0 - 0.8 * grown);
    vec3 wrap = vec3(0.35, 0.15, 0.1);
    float open = neckline.y * smoothstep(0.75, 0.0, abs(R.x)) * smoothstep(0.0, 0.5, R.z);
    if (R.y < neckline.x - 0.25 * R.z - open + 0.06 * blotch) {
        float stripes = mix(1.0, step(0.5, fract(R.y * 6.0 + R.x * 2.0)), neckline.z * 0.7);
        albedo = cloth_colour * stripes * (0.75 + 0.5 * fines.b);
        shine = 0.02;
        wrap = vec3(0.05);
    }
    result = develop(shade(albedo, n, shine, 18.0, wrap, A), 1.0);
}
