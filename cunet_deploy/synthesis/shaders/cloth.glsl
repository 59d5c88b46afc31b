uniform vec3 colour;
uniform vec3 surface; // pattern: 0 plain, up to 1 striped; folds; seed

void main() {
    vec3 n = normalize(N);
    if (!gl_FrontFacing) n = -n;
    vec3 at = vec3(U.x * 2.0, U.y * 0.7, surface.z);
    n = normalize(n + surface.y * (clouds(at).gba - 0.5));
    float stripes = step(0.5, fract(U.y * 5.0)) * step(0.3, fract(U.x * 7.0));
    vec3 albedo = colour * mix(1.0, 0.25 + stripes, surface.x) * (0.8 + 0.4 * cloud(vec3(U * 9.0, 0.1)));
    result = develop(shade(albedo, n, 0.02, 10.0, vec3(0.05), A), 1.0);
}
