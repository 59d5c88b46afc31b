"""Second opinions on labels: what several sources agree on, joint by joint, as a JSON file beside a data set.

::

    {"joints": ["right_ankle", ...], "images": {"im00001.jpg": {"a": [x, y, null, null, ...], "from": "1023..."}, ...}}

``a`` has x and y of each joint, in 0-based pixels of the photo, ``null`` where there is no agreement; ``from`` has a
digit for each: 0 nothing is agreed on, 1 the label of the data set, which is confirmed, 2 another place than its label,
3 a place where it has none. Other keys are left out. Each photo shows one object.

A confirmed label counts fully. One that others put in its place counts less: of 40 people whose labels were overruled
so, 3 became worse and 5 were unclear. A label that nobody confirms and nobody replaces is not learnt, and is not taken
for absent either. Landmarks that the file does not name are left as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json
from cunet_deploy.data.examples import Example
from cunet_deploy.data.layout import LEAST_LABELLED, read_label_json, refuse
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton, map_landmarks

__all__ = ["apply_agreement"]

_WEIGHTS = {"0": 0.0, "1": 1.0, "2": 0.8, "3": 0.8}
"""Weights by the source of a label; see the top of this module."""


class _File(msgspec.Struct, gc=False):
    joints: list[str]
    images: dict[str, msgspec.Raw]


class _Opinion(msgspec.Struct, gc=False):
    points: list[float | None] = msgspec.field(name="a")
    sources: str = msgspec.field(name="from")


def apply_agreement(
    examples: Sequence[Example], path: Path, skeleton: Skeleton, bad: list[str] | None = None
) -> list[Example]:
    """Objects with the labels that a file of agreement gives, and how much each counts.

    The box of an object without one of its own is the tight one around all its labels, those that are in doubt too.

    Args:
        examples: one a photo; photos that the file does not name stay as they are, and objects that are left with too
            few labels are left out.
        path: the file.
        skeleton: of the examples.
        bad: where to note rows that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the file holds something else, names no photo of the examples, or photos show several objects; or a
            row is bad and ``bad`` is ``None``.
    """
    table = read_label_json(path, _File, "a file of agreement on labels")
    if len(set(table.joints)) < len(table.joints):
        raise InputError(f"{path}: names a joint twice; give each once")
    own = Skeleton("agreement", tuple(table.joints), (), ())
    counts = Counter(example.image.name for example in examples)
    twice = [name for name in table.images if counts[name] > 1]
    if twice:
        raise InputError(f"{path}: {min(twice)} shows several objects; agreement is for photos of one each")
    found, used = [], 0
    for example in examples:
        raw = table.images.get(example.image.name)
        if raw is None:
            found.append(example)
            continue
        used += 1
        try:
            points, weights = _of_row(decode_json(raw, _Opinion), own, skeleton)
        except InputError as error:
            refuse(f"{path}: {example.image.name}: {error}", bad)
            continue
        agreed = _agreed(example, points, weights)
        if np.isfinite(agreed.points).all(axis=1).sum() >= LEAST_LABELLED:
            found.append(agreed)
    if not used:
        raise InputError(
            f"{path}: names no photo of the data set that it should be of; give the file that belongs to it"
        )
    return found


def _of_row(row: _Opinion, own: Skeleton, skeleton: Skeleton) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K, 2) agreed points, NaN where there is none, and (K,) weights, NaN for landmarks that are not judged."""
    unknown = set(row.sources) - set(_WEIGHTS)
    if len(row.points) != 2 * len(own) or len(row.sources) != len(own) or unknown:
        raise InputError(f"expected {len(own)} pairs in a and as many digits of {', '.join(_WEIGHTS)} in from")
    points = np.array([np.nan if value is None else value for value in row.points], np.float64).reshape(-1, 2)
    weights = np.array([_WEIGHTS[digit] for digit in row.sources])
    if not np.isfinite(points[weights > 0]).all():
        raise InputError("a joint has a source in from and no place in a")
    mapped = map_landmarks(np.where(weights[:, None] > 0, points, np.nan), own, skeleton)
    return mapped, map_landmarks(np.repeat(weights[:, None], 2, axis=1), own, skeleton)[:, 0]


def _agreed(example: Example, points: NDArray[np.float64], weights: NDArray[np.float64]) -> Example:
    judged, agreed = np.isfinite(weights), np.asarray(np.isfinite(points).all(axis=1))
    everything = np.where(agreed[:, None], points, example.points)
    is_open = np.asarray(judged & ~agreed)
    before = np.ones(len(points)) if example.weights is None else example.weights
    return replace(
        example,
        points=np.where(is_open[:, None], np.nan, everything),
        weights=np.where(judged, weights, 1.0) * np.where(judged & agreed, 1.0, before),
        given=example.given if example.given is not None else replace(example, points=everything, given=None).box,
    )
