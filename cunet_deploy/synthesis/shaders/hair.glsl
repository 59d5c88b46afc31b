uniform vec3 hair_colour;
uniform vec4 strands; // strands a degree, curl, gloss, raggedness
uniform float layer;  // 0: the body of the hair; 1: single strands above it

// U.x: degrees around the head; U.y: share of the length from root to tip; E: distance from the root in decimetres.
void main() {
    vec3 n = normalize(N);
    if (!gl_FrontFacing) n = -n;
    float along = mix(0.10, 0.9, clamp(strands.y * 8.0, 0.0, 1.0));
    vec3 coarse_at = vec3(U.x * 0.030 * strands.x, E * along * 0.5, 0.2);
    vec3 fine_at = vec3(U.x * 0.105 * strands.x, E * along, 0.7);
    vec4 fines = clouds(fine_at);
    float coarse = cloud(coarse_at), fine = fines.r;
    float streak = 0.5 * coarse + 0.5 * fine;
    float tip = 1.0 - U.y;
    float alpha = (tip - strands.w * (streak - 0.15)) * 22.0;
    if (layer > 0.5) alpha = min(alpha, (streak - 0.52) * 14.0);
    alpha = clamp(alpha, 0.0, 1.0);
    if (alpha < 0.12) discard;
    n = normalize(n + 0.5 * (fines.gba - 0.5));
    vec3 albedo = hair_colour * (0.35 + 1.3 * streak) * (gl_FrontFacing ? 1.0 : 0.45);
    result = develop(shade(albedo, n, 0.16 * strands.z * smoothstep(0.3, 0.7, coarse), 14.0, vec3(0.1), A), alpha);
}
