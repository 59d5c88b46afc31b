uniform vec3 eye_centre; // in rest pose
uniform float eye_radius;
uniform vec4 gaze;       // direction, and half angle of the iris
uniform vec3 iris_colour;
uniform float pupil;

void main() {
    vec3 d = (R - eye_centre) / eye_radius;
    float a = acos(clamp(dot(normalize(d), gaze.xyz), -1.0, 1.0)) / gaze.w;
    vec3 white = vec3(0.60, 0.56, 0.54) * (1.0 - 0.12 * cloud(R * 9.0));
    vec3 iris = iris_colour * (0.55 + 0.9 * cloud(vec3(atan(d.y, d.x) * 0.7, a * 0.2, 0.3)));
    iris *= 0.45 + 0.55 * smoothstep(1.02, 0.75, a);
    vec3 albedo = mix(iris, white, smoothstep(0.95, 1.08, a));
    albedo = mix(vec3(0.012), albedo, smoothstep(pupil - 0.06, pupil + 0.06, a));
    result = develop(shade(albedo, normalize(N), 0.8, 120.0, vec3(0.0), mix(0.35, 0.9, smoothstep(0.0, 0.6, A))), 1.0);
}
