"""Draws at random how a person looks: skin, eyes, brows, hair, beard. Colours are linear RGB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cunet_deploy.synthesis.colours import Colour, to_colour
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.people import Person

__all__ = ["Appearance", "Beard", "Brow", "Hair", "Skin", "sample_appearance"]

Rng = np.random.Generator

_SKIN_TONES = np.array(
    [
        [0.86, 0.66, 0.55],
        [0.80, 0.58, 0.46],
        [0.72, 0.50, 0.38],
        [0.60, 0.40, 0.28],
        [0.45, 0.28, 0.18],
        [0.30, 0.18, 0.12],
        [0.20, 0.12, 0.08],
    ]
)
_HAIR_COLOURS = np.array(
    [
        [0.012, 0.010, 0.009],
        [0.030, 0.020, 0.014],
        [0.070, 0.040, 0.024],
        [0.130, 0.075, 0.040],
        [0.260, 0.170, 0.090],
        [0.450, 0.340, 0.200],
        [0.220, 0.080, 0.035],
        [0.350, 0.340, 0.330],
        [0.600, 0.590, 0.570],
    ]
)
_GREY = (7, 8)
_BROWN = 3  # so many of the first irises are
_IRIS_COLOURS = np.array(
    [
        [0.10, 0.055, 0.03],
        [0.07, 0.04, 0.02],
        [0.16, 0.10, 0.05],
        [0.18, 0.17, 0.09],
        [0.20, 0.28, 0.34],
        [0.25, 0.33, 0.38],
        [0.14, 0.22, 0.15],
    ]
)


@dataclass(frozen=True)
class Skin:
    """Colour and texture: ``blotch``, ``grain`` and ``redness`` are strengths; ``shine`` is specular."""

    colour: Colour
    lips: Colour
    blotch: float
    grain: float
    redness: float
    shine: float
    bump: float
    wrinkles: float
    freckles: int
    eyeliner: float
    eyeshadow: float


@dataclass(frozen=True)
class Brow:
    """A brow relative to the usual one: shifts in decimetres, ``density`` of its hairs."""

    width: float
    density: float
    lift: float
    arch: float
    slope: float
    inner: float
    outer: float
    colour: Colour


@dataclass(frozen=True)
class Hair:
    """``volume`` stands off the head, ``length`` hangs below the hairline, ``fringe`` on the forehead (decimetres).

    Attributes:
        kind: ``bald``, ``short``, ``curly``, ``swept``, ``bob`` or ``long``.
        recess: how far the hairline has gone back at the temples, in degrees.
        hairline: shift of the whole hairline, in degrees.
        ear: whether long hair falls in front of the ears.
        sweep: how far a fringe is combed to one side, in degrees.
        part: side of the parting in degrees from the middle.
        curl: roughness of the surface.
        strand: strands per degree: fine or coarse.
    """

    kind: str
    colour: Colour
    volume: float
    length: float
    fringe: float
    recess: float
    hairline: float
    ear: bool
    sweep: float
    part: float
    curl: float
    strand: float
    gloss: float


@dataclass(frozen=True)
class Beard:
    """``kind`` is ``none``, ``stubble``, ``full``, ``goatee`` or ``moustache``; ``length`` in decimetres."""

    kind: str
    colour: Colour
    length: float
    density: float
    cheek: float
    soft: float


@dataclass(frozen=True)
class Appearance:
    """Everything that belongs to the body. ``gaze`` is yaw and pitch of the eyes in degrees."""

    skin: Skin
    brow: Brow
    hair: Hair
    beard: Beard
    iris: Colour
    iris_size: float
    pupil: float
    gaze: tuple[float, float]
    lashes: float
    teeth: Colour


def sample_appearance(streams: dict[str, Rng], options: FaceOptions, person: Person) -> Appearance:
    """A random appearance that fits the person's age and sex.

    Args:
        streams: one generator each for ``skin``, ``brow``, ``hair``, ``beard`` and ``eyes``; consumed.
        options: which groups are wanted.
        person: the shape.
    """
    colour = _hair_colour(streams["hair"], person)
    skin = _skin(streams["skin"], person)
    rng = streams["eyes"]
    pick, brown, shade = int(rng.integers(len(_IRIS_COLOURS))), rng.random() < 0.85, rng.uniform(0.6, 1.3)
    if brown and person.ethnicity[0] < 0.5:
        pick %= _BROWN
    iris = to_colour(_IRIS_COLOURS[pick] * shade)
    white = float(rng.uniform(0.45, 0.85))
    return Appearance(
        skin=skin,
        brow=_brow(streams["brow"], person, colour),
        hair=_hair(streams["hair"], options, person, colour),
        beard=_beard(streams["beard"], options, person, colour),
        iris=iris,
        iris_size=float(rng.uniform(0.40, 0.47)),
        pupil=float(rng.uniform(0.25, 0.55)),
        gaze=(float(rng.normal(0, 12)), float(rng.normal(0, 8))),
        lashes=float(rng.uniform(0.1, 0.6) if person.male > 0.5 else rng.uniform(0.25, 0.95)),
        teeth=to_colour([white, white * 0.95, white * rng.uniform(0.75, 0.95)]),
    )


def _skin(rng: Rng, person: Person) -> Skin:
    tone = float(np.clip(np.dot(person.ethnicity, [1.0, 1.9, 4.6]) + rng.normal(0, 0.8), 0, 5.99))
    low, share = int(tone), tone % 1
    base = _SKIN_TONES[low] * (1 - share) + _SKIN_TONES[low + 1] * share
    base = np.clip(base * rng.uniform(0.85, 1.1) * (1 + rng.normal(0, 0.025, 3)), 0.03, 0.95) ** 1.35
    painted = rng.random() < 0.3 and person.male < 0.5 and person.age > 0.3
    lips = base * (rng.uniform(0.2, 1.0) * np.array([1.2, 0.35, 0.4]) if painted else np.array([0.95, 0.62, 0.6]))
    old = float(np.clip((person.age - 0.55) / 0.4, 0, 1))
    makeup = person.male < 0.5 and person.age > 0.3
    return Skin(
        colour=to_colour(base),
        lips=to_colour(lips),
        blotch=float(rng.uniform(0.05, 0.4)),
        grain=float(rng.uniform(0.02, 0.14)),
        redness=float(rng.uniform(0.1, 0.9)),
        shine=float(np.clip(rng.exponential(0.12), 0.01, 0.55)),
        bump=float(rng.uniform(0.05, 0.4)),
        wrinkles=float(rng.uniform(0, 0.4) + 0.6 * old),
        freckles=int(rng.exponential(25) if rng.random() < 0.3 else rng.exponential(2)),
        eyeliner=float(rng.uniform(0, 0.75) * (1.0 if makeup else 0.4)),
        eyeshadow=float(rng.uniform(0.1, 0.7) if makeup and rng.random() < 0.5 else 0.0),
    )


def _hair_colour(rng: Rng, person: Person) -> Colour:
    light, dark, grey = (
        int(rng.choice(9, p=[0.2, 0.22, 0.2, 0.13, 0.08, 0.05, 0.05, 0.05, 0.02])),
        int(rng.choice([0, 0, 0, 1, 1, 2])),
        int(rng.choice(_GREY)),
    )
    turned, fair = rng.random() < 0.6, rng.uniform(0.6, 1.4)
    index = grey if turned and person.age > 0.75 else light if person.ethnicity[0] > 0.5 else dark
    if index in _GREY and not person.grown:
        index = 2
    return to_colour(_HAIR_COLOURS[index] * fair)


def _brow(rng: Rng, person: Person, hair: Colour) -> Brow:
    own, factor, dark = rng.random() < 0.8, rng.uniform(0.5, 1.1), np.array([0.05, 0.035, 0.03])
    return Brow(
        width=float(np.clip(rng.normal(0.046 + 0.018 * person.male, 0.015), 0.02, 0.1)),
        density=float(rng.uniform(0.35, 1.0)) * (1.0 if person.grown else 0.7),
        lift=float(rng.normal(0, 0.02)),
        arch=float(rng.normal(0, 0.022)),
        slope=float(rng.normal(0, 0.02)),
        inner=float(rng.normal(0, 0.018)),
        outer=float(rng.normal(0, 0.028)),
        colour=to_colour(np.asarray(hair) * factor if own else dark),
    )


def _hair(rng: Rng, options: FaceOptions, person: Person, colour: Colour) -> Hair:
    man, grown = person.male > 0.5, person.grown
    kinds = ("bald", "short", "curly", "swept", "bob", "long")
    shares = (0.14, 0.40, 0.14, 0.24, 0.03, 0.05) if man else (0.02, 0.10, 0.13, 0.20, 0.22, 0.33)
    kind = str(rng.choice(kinds, p=shares))
    draws = rng.uniform(0, 1, 12)
    if person.age < 0.06 or not options.has("hair"):
        kind = "bald"
    elif kind == "bald" and not grown:
        kind = "short"
    volume = {"bald": 0.0, "short": 0.03 + 0.1 * draws[0], "curly": 0.12 + 0.38 * draws[0]}.get(
        kind, 0.08 + 0.18 * draws[0]
    )
    length = {"bob": 0.9 + 0.7 * draws[1], "long": 1.7 + 1.6 * draws[1]}.get(kind, 0.0)
    fringed = draws[2] < {"bald": 0.0, "short": 0.25, "curly": 0.3, "swept": 0.15}.get(kind, 0.5)
    fringe = 0.0
    if fringed and options.has("fringes"):
        fringe = 0.2 + 0.55 * draws[3] ** 1.3
    old_man = man and person.age > 0.55 and draws[4] < 0.4
    curl = 0.06 + 0.1 * draws[5] if kind == "curly" else 0.035 * draws[5] ** 2
    return Hair(
        kind=kind,
        colour=colour,
        volume=float(volume),
        length=float(length),
        fringe=float(fringe),
        recess=float(22 * draws[6] if old_man else 5 * draws[6]),
        hairline=float(rng.normal(0, 3.5)) - (8.0 * float(draws[7]) if old_man else 0.0),
        ear=bool(draws[8] < 0.6),
        sweep=float(rng.normal(0, 14)),
        part=float(rng.normal(0, 25)),
        curl=float(curl),
        strand=float(0.5 + 1.2 * draws[9]),
        gloss=float(0.1 + 1.1 * draws[10]),
    )


def _beard(rng: Rng, options: FaceOptions, person: Person, colour: Colour) -> Beard:
    kind = str(rng.choice(["none", "stubble", "full", "goatee", "moustache"], p=[0.34, 0.26, 0.22, 0.1, 0.08]))
    if person.male <= 0.5 or not person.grown or not options.has("beards"):
        kind = "none"
    return Beard(
        kind=kind,
        colour=to_colour(np.asarray(colour) * rng.uniform(0.6, 1.2)),
        length=float(0.02 + rng.exponential(0.06)),
        density=float(rng.uniform(0.15, 0.6) if kind == "stubble" else rng.uniform(0.45, 0.9)),
        cheek=float(rng.uniform(-0.08, 0.1)),
        soft=float(rng.uniform(1, 3)),
    )
