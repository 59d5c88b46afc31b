uniform vec2 lashes; // strength of the upper ones, and of the lower ones

// At this distance lashes are a dark fringe: dense at the lid, thin at the tips.
void main() {
    vec2 d = vec2(abs(R.x) - 0.315, R.y - 7.275);
    float from_lid = length(d * vec2(0.85, 1.5)) / 0.2;
    float strength = d.y > -0.005 ? lashes.x : lashes.y;
    float alpha = strength * smoothstep(1.5, 0.7, from_lid) * (0.6 + 0.8 * cloud(R * vec3(9.0, 2.0, 9.0)));
    if (alpha < 0.06) discard;
    result = develop(shade(vec3(0.02, 0.015, 0.012), normalize(N), 0.0, 10.0, vec3(0.0), 0.6), clamp(alpha, 0.0, 1.0));
}
