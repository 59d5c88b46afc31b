"""Draws at random what surrounds a head: light, background, camera and its flaws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cunet_deploy.synthesis.options import FaceOptions

__all__ = ["Background", "Camera", "Lens", "Light", "sample_background", "sample_camera", "sample_lens", "sample_light"]

Rng = np.random.Generator
Triple = tuple[float, float, float]

_STAGE = np.array(
    [[1.0, 0.1, 0.1], [0.15, 0.25, 1.0], [0.9, 0.1, 0.9], [0.1, 0.9, 0.25], [1.0, 0.55, 0.1], [0.1, 0.8, 0.9]]
)


@dataclass(frozen=True)
class Light:
    """``environment`` picks surrounding light by share of the list; ``key`` and ``rim`` are lamps.

    Attributes:
        environment: in [0, 1).
        turn: of the environment about the vertical, in eighths.
        tint: how much of the environment's colour is kept.
        key: direction to the key lamp; ``key_colour`` its strength.
        rim: direction to the second lamp, which throws no shadow; ``rim_colour`` its strength.
        exposure: in stops around the right one.
        occlusion: exponent of ambient occlusion.
    """

    environment: float
    turn: int
    tint: float
    key: Triple
    key_colour: Triple
    rim: Triple
    rim_colour: Triple
    exposure: float
    occlusion: float


@dataclass(frozen=True)
class Background:
    """``kind`` is ``environment``, ``picture`` or ``drawn``; ``seed`` draws its details.

    Attributes:
        kind: what it is made of.
        seed: of its details.
        blur: standard deviation as a share of the picture's side.
        heads: number of other heads behind.
        clutter: number of drawn shapes.
    """

    kind: str
    seed: int
    blur: float
    heads: int
    clutter: int


@dataclass(frozen=True)
class Camera:
    """``distance`` in metres; ``extent``, the landmarks' longer side, and ``shift`` are shares of the picture."""

    distance: float
    extent: float
    shift: tuple[float, float]


@dataclass(frozen=True)
class Lens:
    """Flaws of the camera.

    Attributes:
        defocus: standard deviation in pixels of a 192 px picture.
        motion: length of the smear in pixels of a 192 px picture; ``motion_turn`` its direction in degrees.
        pixels: share of the resolution that is left.
        gamma, contrast, brightness: of the tone curve.
        white: factors of blue, green and red.
        shot, noise: noise that grows with the signal, and noise that does not, in grey levels.
        coarse: size of a noise grain in pixels.
        grey: whether the picture has no colour.
        quality: of the stored JPEG, and ``twice`` of one before it, 0 for none.
    """

    defocus: float
    motion: float
    motion_turn: float
    pixels: float
    gamma: float
    contrast: float
    brightness: float
    white: Triple
    shot: float
    noise: float
    coarse: float
    grey: bool
    quality: int
    twice: int
    seed: int


def _triple(values: object) -> Triple:
    a, b, c = np.asarray(values, np.float64)
    return float(a), float(b), float(c)


def _direction(azimuth: float, height: float) -> Triple:
    """A unit vector: azimuth from the camera's direction to the right, height upward, in degrees."""
    a, h = np.radians([azimuth, height])
    return _triple([np.sin(a) * np.cos(h), np.sin(h), np.cos(a) * np.cos(h)])


def sample_light(rng: Rng, options: FaceOptions) -> Light:
    """Random light; of an infrared camera mostly its own lamp's."""
    key = _direction(float(rng.normal(0, 55)), float(rng.uniform(-15, 75)))
    strength = float(np.clip(rng.exponential(0.9), 0, 3.2))
    key_colour = np.array([1 + rng.normal(0, 0.07), 1.0, 1 + rng.normal(0, 0.09)]) * strength
    behind = float(rng.choice([-1, 1])) * float(rng.uniform(80, 160))
    rim = _direction(behind, float(rng.uniform(-10, 60)))
    rim_colour = np.ones(3) * float(rng.exponential(0.7)) * float(rng.random() < 0.35)
    tint, exposure = float(rng.uniform(0, 0.3)), float(rng.normal(0, 0.35))
    stage, pair, sizes = rng.random() < 0.1, rng.integers(len(_STAGE), size=2), rng.uniform(0.6, 2.6, 2)
    if stage and options.has("stage-light"):
        key_colour, rim_colour, tint = _STAGE[pair[0]] * sizes[0], _STAGE[pair[1]] * sizes[1], 1.0
        exposure -= 0.3
    if options.style == "infrared":
        key = _direction(float(rng.normal(0, 8)), float(rng.normal(5, 8)))
        key_colour, rim_colour = np.ones(3) * float(rng.uniform(1.0, 3.0)), np.zeros(3)
    return Light(
        environment=float(rng.random()),
        turn=int(rng.integers(8)),
        tint=tint,
        key=key,
        key_colour=_triple(np.maximum(key_colour, 0)),
        rim=rim,
        rim_colour=_triple(np.maximum(rim_colour, 0)),
        exposure=exposure,
        occlusion=float(rng.uniform(0.8, 1.9)),
    )


def sample_background(rng: Rng, options: FaceOptions) -> Background:
    """A random background."""
    pick, heads = rng.random(), int(rng.integers(1, 4)) if rng.random() < 0.1 else 0
    clutter = int(rng.integers(1, 12)) if rng.random() < 0.3 else 0
    blur = float(rng.choice([0.0, rng.uniform(0.003, 0.01), rng.uniform(0.01, 0.045)], p=[0.3, 0.35, 0.35]))
    seed = int(rng.integers(2**31))
    kind = "drawn" if not options.has("environments") or pick > 0.85 else "environment"
    if options.backgrounds is not None and pick < 0.7:
        kind = "picture"
    return Background(kind, seed, blur, heads if options.has("heads") else 0, clutter)


def sample_camera(rng: Rng, options: FaceOptions) -> Camera:
    """A random camera in front of the head."""
    near, far = np.log(options.distance)
    distance = float(np.exp(rng.uniform(near, far)))
    extent = float(rng.uniform(0.44, 0.66))
    shift = rng.normal(0, 0.04, 2)
    return Camera(distance, extent, (float(shift[0]), float(shift[1])))


def sample_lens(streams: dict[str, Rng], options: FaceOptions, camera: Camera) -> Lens:
    """Random flaws.

    Args:
        streams: one generator each for ``blur``, ``noise``, ``tone`` and ``jpeg``; consumed.
        options: which groups are wanted; a focal length decides the resolution.
        camera: where the camera is.
    """
    defocus, motion, turn, pixels = _blur(streams["blur"], options, camera)
    rng = streams["tone"]
    white = 1 + rng.normal(0, 0.04 if rng.random() < 0.85 else 0.13, 3)
    gamma, contrast, brightness = rng.uniform(0.75, 1.35), rng.uniform(0.8, 1.25), rng.normal(0, 10)
    grey = bool(rng.random() < 0.08) or options.style != "colour"
    rng = streams["noise"]
    shot, noise, coarse = rng.exponential(0.06), rng.exponential(2.2) * (rng.random() < 0.7), rng.uniform(0, 1.2)
    dark, drop, gain = rng.random() < 0.12, rng.uniform(0.12, 0.45), rng.uniform(3, 11)
    if dark and options.has("low-light"):
        gamma, brightness, noise, shot = gamma / (1 - drop), brightness - 60 * drop, gain, 0.3 + shot
    if not options.has("low-light"):
        shot, noise = 0.0, min(noise, 1.0)
    if options.noise is not None:
        shot, noise = 0.0, rng.uniform(0, options.noise)
    rng = streams["jpeg"]
    quality, twice = int(rng.integers(30, 96)), int(rng.integers(15, 70)) if rng.random() < 0.25 else 0
    if not options.has("jpeg"):
        quality, twice = 95, 0
    return Lens(
        defocus=defocus,
        motion=motion,
        motion_turn=turn,
        pixels=pixels,
        gamma=float(gamma),
        contrast=float(contrast),
        brightness=float(brightness),
        white=_triple(white),
        shot=float(shot),
        noise=float(noise),
        coarse=float(coarse),
        grey=grey,
        quality=quality,
        twice=twice,
        seed=int(streams["noise"].integers(2**31)),
    )


def _blur(rng: Rng, options: FaceOptions, camera: Camera) -> tuple[float, float, float, float]:
    """Defocus, motion, its direction, and the share of the resolution that is left."""
    soft, strong = rng.uniform(0.2, 0.8), rng.uniform(0.8, 2.4)
    defocus = float(rng.choice([0.0, soft, strong], p=[0.3, 0.5, 0.2]))
    motion = float(rng.uniform(3, 11)) * float(rng.random() < 0.14)
    turn = float(rng.uniform(0, 180))
    pixels = float(rng.choice([1.0, rng.uniform(0.25, 0.7)], p=[0.8, 0.2]))
    if not options.has("blur"):
        defocus, motion, pixels = 0.0, 0.0, 1.0
    if options.focal is not None:  # a face is about 0.14 m wide between the outer landmarks
        pixels = float(np.clip(options.focal * 0.14 / camera.distance / (options.size * camera.extent), 0.05, 1.0))
    return defocus, motion, turn, pixels
