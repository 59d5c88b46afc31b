"""Draws at random what a person wears or holds. Colours are linear RGB, lengths decimetres, angles degrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cunet_deploy.synthesis.colours import Colour, cloth_colour, to_colour
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.people import Person

__all__ = ["Collar", "Glasses", "Hand", "Hat", "Prop", "Wear", "sample_wear"]

Rng = np.random.Generator


@dataclass(frozen=True)
class Collar:
    """Collar around the neck: ``kind`` is ``none``, ``shirt``, ``turtleneck``, ``scarf`` or ``hood``."""

    kind: str
    colour: Colour
    height: float
    bulk: float
    fold: float
    pattern: float


@dataclass(frozen=True)
class Glasses:
    """Frames: half width and half height of a lens, corner exponent, thickness; ``tint`` is the lens' opacity."""

    width: float
    height: float
    corner: float
    wire: float
    drop: float
    frame: Colour
    lens: Colour
    tint: float


@dataclass(frozen=True)
class Hat:
    """``kind`` is ``cap``, ``brim``, ``beanie`` or ``band``; ``low`` is the height of its edge above the eyes."""

    kind: str
    colour: Colour
    low: float
    tall: float
    brim: float
    tilt: float


@dataclass(frozen=True)
class Hand:
    """The back of a hand towards the camera: where its middle is on the face, how it is turned, how it bends."""

    x: float
    y: float
    turn: float
    tip: float
    curl: float
    left: bool
    gap: float


@dataclass(frozen=True)
class Prop:
    """A thing in front of the face: ``kind`` is ``microphone``, ``ball``, ``box`` or ``rod``."""

    kind: str
    colour: Colour
    x: float
    y: float
    size: float
    turn: float


@dataclass(frozen=True)
class Wear:
    """Clothes and glasses; ``None`` where something is not worn."""

    cloth: Colour
    neckline: float
    vneck: float
    collar: Collar | None
    glasses: Glasses | None
    hat: Hat | None
    hand: Hand | None
    prop: Prop | None


def sample_wear(streams: dict[str, Rng], options: FaceOptions, person: Person) -> Wear:
    """Random clothes and things.

    Args:
        streams: one generator each for ``cloth``, ``collar``, ``glasses``, ``hat``, ``hand`` and ``prop``; consumed.
        options: which groups are wanted.
        person: the shape.
    """
    rng = streams["cloth"]
    return Wear(
        cloth=cloth_colour(rng),
        neckline=float(rng.uniform(5.55, 6.2)),
        vneck=float(rng.uniform(0.3, 1.4) if rng.random() < 0.35 else 0.0),
        collar=_collar(streams["collar"]) if options.has("collars") else None,
        glasses=_glasses(streams["glasses"], person) if options.has("glasses") else None,
        hat=_hat(streams["hat"]) if options.has("hats") else None,
        hand=_hand(streams["hand"]) if options.has("hands") else None,
        prop=_prop(streams["prop"]) if options.has("objects") else None,
    )


def _collar(rng: Rng) -> Collar | None:
    kind = str(rng.choice(["none", "shirt", "turtleneck", "scarf", "hood"], p=[0.42, 0.22, 0.12, 0.14, 0.10]))
    if kind == "none":
        return None
    return Collar(
        kind=kind,
        colour=cloth_colour(rng),
        height=float(rng.uniform(0, 1)),
        bulk=float(rng.uniform(0, 1)),
        fold=float(rng.uniform(0.2, 1.0)),
        pattern=float(rng.uniform(0, 1)),
    )


def _glasses(rng: Rng, person: Person) -> Glasses | None:
    worn, sun, dark = rng.random() < 0.22 and person.age > 0.1, rng.random() < 0.3, rng.random() < 0.6
    frame = rng.uniform(0, 0.12, 3) if dark else rng.uniform(0.05, 0.7, 3)
    lens = rng.uniform(0.0, 0.06, 3) if sun else rng.uniform(0.3, 0.9, 3)
    tint = rng.uniform(0.55, 0.98) if sun else rng.uniform(0.03, 0.22)
    if not worn:
        return None
    return Glasses(
        width=float(rng.uniform(0.21, 0.31)),
        height=float(rng.uniform(0.13, 0.25)),
        corner=float(rng.choice([2.0, 2.6, 3.5, 5.0])),
        wire=float(rng.uniform(0.009, 0.03)),
        drop=float(rng.uniform(-0.01, 0.07)),
        frame=to_colour(frame),
        lens=to_colour(lens),
        tint=float(tint),
    )


def _hat(rng: Rng) -> Hat | None:
    kind = str(rng.choice(["none", "cap", "brim", "beanie", "band"], p=[0.87, 0.045, 0.03, 0.035, 0.02]))
    if kind == "none":
        return None
    return Hat(
        kind=kind,
        colour=cloth_colour(rng),
        low=float(rng.uniform(0.36, 0.72)),
        tall=float(rng.uniform(0.05, 0.5)),
        brim=float(rng.uniform(0.15, 0.5)),
        tilt=float(rng.uniform(-0.1, 0.2)),
    )


def _hand(rng: Rng) -> Hand | None:
    used, place = rng.random() < 0.1, int(rng.integers(4))
    x, y = ((0.0, 6.6), (0.05, 6.3), (0.42, 6.7), (0.35, 7.2))[place]
    left = bool(rng.random() < 0.5)
    if not used:
        return None
    side = 1.0 if left else -1.0
    return Hand(
        x=side * (x + float(rng.normal(0, 0.1))),
        y=y + float(rng.normal(0, 0.1)),
        turn=side * float(rng.normal(-55 if place < 2 else -20, 25)),
        tip=float(rng.normal(0, 12)),
        curl=float(rng.uniform(0, 1)),
        left=left,
        gap=float(rng.uniform(0.02, 0.25)),
    )


def _prop(rng: Rng) -> Prop | None:
    kind = str(rng.choice(["none", "microphone", "ball", "box", "rod"], p=[0.88, 0.045, 0.03, 0.025, 0.02]))
    if kind == "none":
        return None
    stage = kind == "microphone"
    return Prop(
        kind=kind,
        colour=to_colour(rng.uniform(0.01, 0.15, 3)) if stage else cloth_colour(rng),
        x=float(rng.normal(0, 0.12 if stage else 0.45)),
        y=float(rng.normal(6.35, 0.15) if stage else rng.normal(6.9, 0.45)),
        size=float(rng.uniform(0.12, 0.2) if stage else rng.uniform(0.06, 0.35)),
        turn=float(rng.normal(0, 30) if stage else rng.uniform(-180, 180)),
    )
