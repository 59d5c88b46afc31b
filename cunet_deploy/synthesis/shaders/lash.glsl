uniform vec2 lashes; // number, thickness

void main() {
    vec2 d = vec2(abs(R.x) - 0.315, R.y - 7.275);
    float from_lid = length(d * vec2(0.85, 1.5)) / 0.2;
    float stripe = abs(fract(atan(d.y, d.x) * lashes.x + cloud(R * 2.0) * 1.5) - 0.5);
    if (stripe > lashes.y * (1.6 - from_lid) + 0.02) discard;
    result = develop(shade(vec3(0.02, 0.015, 0.012), normalize(N), 0.0, 10.0, vec3(0.0), 0.6), 1.0);
}
