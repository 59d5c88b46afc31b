"""Draws at random who is shown: shape, expression and pose of a head."""

from __future__ import annotations

import functools
import itertools
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from cunet_deploy.synthesis.options import FaceOptions

__all__ = ["Expression", "Person", "Pose", "sample_expression", "sample_person", "sample_pose"]

Rng = np.random.Generator

_AGES = (("baby", 0.0), ("child", 0.1875), ("young", 0.5), ("old", 1.0))  # MakeHuman's scale
_ETHNICITIES = ("caucasian", "asian", "african")
_OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)
_EXPRESSIONS = {
    "neutral": 0.16,
    "smile": 0.24,
    "laugh": 0.22,
    "talk": 0.13,
    "open": 0.05,
    "surprise": 0.04,
    "angry": 0.05,
    "sad": 0.04,
    "pucker": 0.02,
    "disgust": 0.02,
    "mixed": 0.03,
}


@dataclass(frozen=True)
class Person:
    """A shape, and what looks follow from.

    Attributes:
        weights: of shape targets, by name.
        age: 0 baby, 0.19 child, 0.5 young, 1 old.
        male: 0 female to 1 male.
        ethnicity: shares of the three MakeHuman macros, which steer shape and the spread of skin tones.
    """

    weights: dict[str, float]
    age: float
    male: float
    ethnicity: tuple[float, float, float]

    @property
    def grown(self) -> bool:
        """Return whether the person may have a beard or grey hair."""
        return self.age > 0.42


@dataclass(frozen=True)
class Expression:
    """An expression's name and the weights of its face units."""

    name: str
    weights: dict[str, float]


@dataclass(frozen=True)
class Pose:
    """A pose in degrees.

    Attributes:
        yaw: positive when the face looks to the right of the picture.
        pitch: positive when it looks down.
        roll: positive counter-clockwise.
        body: yaw of the shoulders.
        lean: roll of the shoulders.
    """

    yaw: float
    pitch: float
    roll: float
    body: float
    lean: float


def sample_person(rng: Rng, options: FaceOptions, names: tuple[str, ...]) -> Person:
    """A random shape.

    Args:
        rng: consumed.
        options: whether children are wanted.
        names: of all targets of the mesh.
    """
    band = int(rng.choice(4, p=[0.07, 0.18, 0.43, 0.32]))
    low, high = ((0.02, 0.19), (0.19, 0.45), (0.45, 0.62), (0.6, 1.0))[band]
    share = rng.random()
    if not options.has("children") and band < 2:
        low, high = 0.45, 0.62
    age = low + share * (high - low)
    male = float(rng.beta(0.4, 0.4))
    ethnicity = rng.dirichlet([0.55, 0.4, 0.4])
    weights: dict[str, float] = defaultdict(float)
    _add_macros(weights, rng, age, male, ethnicity, frozenset(names))
    _add_details(weights, rng, names)
    return Person(dict(weights), float(age), male, (float(ethnicity[0]), float(ethnicity[1]), float(ethnicity[2])))


def _add_macros(
    weights: dict[str, float], rng: Rng, age: float, male: float, ethnicity: Any, names: frozenset[str]
) -> None:
    """Blend MakeHuman's macro targets of age, sex, ethnicity, muscle and weight."""
    muscle, fat = rng.uniform(0, 1), float(np.clip(rng.normal(0.5, 0.25), 0, 1))
    for sex, sex_share in (("female", 1 - male), ("male", male)):
        for years, age_share in _age_shares(age).items():
            for people, share in zip(_ETHNICITIES, ethnicity, strict=True):
                weights[f"macrodetails/{people}-{sex}-{years}"] += sex_share * age_share * float(share)
            for muscles, muscle_share in _thirds(muscle).items():
                for fatness, fat_share in _thirds(fat).items():
                    name = f"macrodetails/universal-{sex}-{years}-{muscles}muscle-{fatness}weight"
                    if name in names:
                        weights[name] += sex_share * age_share * muscle_share * fat_share


def _age_shares(age: float) -> dict[str, float]:
    for (younger, low), (older, high) in itertools.pairwise(_AGES):
        if age <= high:
            share = (age - low) / (high - low)
            return {younger: 1 - share, older: share}
    return {_AGES[-1][0]: 1.0}


def _thirds(value: float) -> dict[str, float]:
    return {"min": max(0.0, 1 - 2 * value), "average": 1 - abs(2 * value - 1), "max": max(0.0, 2 * value - 1)}


def _add_details(weights: dict[str, float], rng: Rng, names: tuple[str, ...]) -> None:
    """Move most paired details a little, both sides nearly alike, and add some of the unpaired ones."""
    pairs, single = _paired(names)
    spread = rng.uniform(0.12, 0.45)
    for key, both_sides in pairs.items():
        used, size, jitter = rng.random() < 0.75, rng.normal(0, 1), rng.normal(0, 0.05, 2)
        scale = (0.5 if key.startswith("head/") and ("trans" in key or "scale" in key) else 1.0) * (
            0.6 if "trans" in key else 1.0
        )
        if used:
            amount = float(np.clip(size * spread * scale, -0.9, 0.9))
            for (down, up), extra in zip(both_sides, jitter, strict=False):
                weights[up if amount + extra > 0 else down] += abs(amount + float(extra))
    heads = [name for name in single if name.startswith("head/")]
    for name in rng.choice(heads, 2, replace=False):
        weights[str(name)] += float(rng.uniform(0, 0.6))
    others = [name for name in single if not name.startswith(("head/", "ears/"))]
    name, amount, used = str(rng.choice(others)), float(rng.uniform(0, 0.5)), rng.random() < 0.3
    if used:
        weights[name] += amount


@functools.lru_cache(maxsize=4)
def _paired(names: tuple[str, ...]) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Targets that are opposites, by their name without the side, and targets without an opposite."""
    known = set(names)
    pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
    single = []
    for name in names:
        if name.startswith(("macrodetails/", "unit/", "neck/")):
            continue
        for low, high in _OPPOSITES:
            if name.endswith(f"-{low}") and name[: -len(low)] + high in known:
                pairs[re.sub(r"/[lr]-", "/", name)].append((name, name[: -len(low)] + high))
                break
            if name.endswith(f"-{high}") and name[: -len(high)] + low in known:
                break
        else:
            single.append(name)
    return pairs, single


def sample_expression(rng: Rng, options: FaceOptions) -> Expression:
    """A random expression; face units that every expression may have come on top."""
    name = str(rng.choice(list(_EXPRESSIONS), p=list(_EXPRESSIONS.values())))
    main, extra = rng.spawn(2)
    if name == "laugh" and not options.has("laughs"):
        name = "smile"
    weights: dict[str, float] = defaultdict(float)
    _RECIPES[name](_Units(weights, main))
    _add_habits(_Units(weights, extra))
    return Expression(name, {key: value for key, value in weights.items() if value > 0})


class _Units:
    """Adds face units, on one side or on both with a little difference."""

    def __init__(self, weights: dict[str, float], rng: Rng) -> None:
        self.weights, self.rng = weights, rng

    def one(self, name: str, low: float, high: float, chance: float = 1.0) -> None:
        amount, used = float(self.rng.uniform(low, high)), self.rng.random() < chance
        self.weights[f"unit/{name}"] += amount * used

    def both(self, name: str, low: float, high: float, chance: float = 1.0, differ: float = 0.12) -> None:
        amount, used = float(self.rng.uniform(low, high)), self.rng.random() < chance
        for side, factor in zip(("Left", "Right"), 1 + self.rng.normal(0, differ, 2), strict=True):
            self.weights[f"unit/{name}{side}"] += max(0.0, amount * float(factor)) * used


def _neutral(units: _Units) -> None:
    units.one("jawOpen", 0, 0.06)


def _smile(units: _Units) -> None:
    units.both("mouthSmile", 0.3, 1.0)
    units.both("cheekSquint", 0.1, 0.6)
    units.both("eyeSquint", 0, 0.5)
    units.one("jawOpen", 0, 0.12)
    units.both("mouthUpperUp", 0.1, 0.8, chance=0.6)
    units.both("mouthLowerDown", 0, 0.4, chance=0.6)


def _laugh(units: _Units) -> None:
    units.both("mouthSmile", 0.5, 1.1)
    units.both("cheekSquint", 0.3, 0.9)
    units.both("eyeSquint", 0, 0.9)
    units.one("jawOpen", 0.05, 0.75)
    units.both("mouthUpperUp", 0.2, 0.9)
    units.both("mouthLowerDown", 0.1, 0.8)
    units.both("mouthStretch", 0, 0.4)


def _talk(units: _Units) -> None:
    units.one("jawOpen", 0.03, 0.45)
    units.both("mouthLowerDown", 0, 0.6)
    units.both("mouthUpperUp", 0, 0.5)
    units.one("mouthFunnel", 0, 0.6, chance=0.5)
    units.both("mouthStretch", 0, 0.5)


def _open(units: _Units) -> None:
    units.one("jawOpen", 0.5, 1.1)
    units.both("mouthStretch", 0, 0.6)


def _surprise(units: _Units) -> None:
    units.one("jawOpen", 0.2, 0.8)
    units.both("eyeWide", 0.4, 1.0)
    units.both("browOuterUp", 0.4, 1.0)
    units.one("browInnerUp", 0.4, 1.0)


def _angry(units: _Units) -> None:
    units.both("browDown", 0.5, 1.0)
    units.both("mouthFrown", 0, 0.6)
    units.both("noseSneer", 0, 0.6)
    units.both("mouthPress", 0, 0.8)
    units.both("eyeSquint", 0, 0.6)


def _sad(units: _Units) -> None:
    units.one("browInnerUp", 0.4, 1.0)
    units.both("mouthFrown", 0.3, 1.0)
    units.one("mouthShrugLower", 0, 0.6)


def _pucker(units: _Units) -> None:
    units.one("mouthPucker", 0.3, 1.0)


def _disgust(units: _Units) -> None:
    units.both("noseSneer", 0.4, 1.0)
    units.both("mouthUpperUp", 0.2, 0.8)
    units.both("browDown", 0, 0.8)
    units.both("eyeSquint", 0.2, 0.9)


def _mixed(units: _Units) -> None:
    for name in ("browInnerUp", "cheekPuff", "mouthPucker", "mouthRollLower", "mouthShrugUpper"):
        units.one(name, 0, 0.7, chance=0.5)
    for name in ("mouthSmile", "mouthFrown", "mouthStretch", "eyeSquint", "browDown", "mouthDimple"):
        units.both(name, 0, 0.7, chance=0.4, differ=0.4)


_RECIPES = {
    "neutral": _neutral,
    "smile": _smile,
    "laugh": _laugh,
    "talk": _talk,
    "open": _open,
    "surprise": _surprise,
    "angry": _angry,
    "sad": _sad,
    "pucker": _pucker,
    "disgust": _disgust,
    "mixed": _mixed,
}


def _add_habits(units: _Units) -> None:
    """Add what comes with any expression: brows, half closed eyes, winks, crooked mouths."""
    units.one("browInnerUp", 0, 0.5, chance=0.35)
    units.both("browOuterUp", 0, 0.6, chance=0.35)
    units.both("browDown", 0, 0.6, chance=0.3)
    units.both("eyeBlink", 0, 0.4, chance=0.5, differ=0.1)
    units.both("eyeBlink", 0.6, 1.0, chance=0.06, differ=0.02)
    units.one("eyeBlinkLeft", 0.7, 1.0, chance=0.01)
    units.one("eyeBlinkRight", 0.7, 1.0, chance=0.01)
    for name in ("mouthLeft", "mouthRight", "jawLeft", "jawRight"):
        units.one(name, 0, 0.5, chance=0.04)
    for name in ("mouthRollLower", "mouthRollUpper", "mouthDimpleLeft", "cheekPuff"):
        units.one(name, 0, 0.5, chance=0.05)


def sample_pose(rng: Rng, options: FaceOptions) -> Pose:
    """A random pose: three in five look roughly at the camera, the rest turn evenly up to the largest yaw."""
    near, even = rng.normal(0, (13.0, 28.0)[int(rng.integers(2))]), rng.uniform(-1, 1) * options.yaw
    yaw = float(np.clip(near if rng.random() < 0.58 else even, -options.yaw, options.yaw))
    pitch, roll = float(rng.normal(2, 11)), float(np.clip(rng.normal(0, 10), -35, 35))
    pitch = float(np.clip(pitch, *options.elevation))
    body = float(yaw * rng.uniform(0.25, 0.95) + rng.normal(0, 8))
    if abs(yaw - body) > 55:  # a neck turns no farther
        body = yaw - float(np.sign(yaw - body)) * 55
    return Pose(yaw, pitch, roll, body, roll * 0.3)
