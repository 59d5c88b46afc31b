"""A landmark set: the names of the landmarks, which are mirror images, how to draw them, how to normalize errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError

__all__ = ["Name", "Names", "Skeleton", "map_landmarks"]

Name = Annotated[str, Meta(min_length=1, description="a name")]
Names = Annotated[tuple[Name, ...], Meta(min_length=1, description="a list of names")]


@dataclass(frozen=True)
class Skeleton:
    """A set of K landmarks.

    Attributes:
        name: identifier, as written in configurations and manifests.
        landmarks: K names, in the order of the model's output.
        flip_pairs: pairs of indices that trade places in a mirrored image; an index in no pair stays.
        edges: pairs of indices joined by a line when drawn.
        normalizers: for each name, two groups of indices; the distance between the groups' centroids is the unit of
            the normalized mean error. The first is the default. Every skeleton also knows ``"box"``, the geometric
            mean of the sides of the tight landmark box.
        sigmas: for each landmark how far people's labels of it scatter, as a share of the square root of the object's
            area: what object keypoint similarity is measured in. Empty where nobody measured them.
    """

    name: str
    landmarks: Names
    flip_pairs: tuple[tuple[int, int], ...]
    edges: tuple[tuple[int, int], ...]
    normalizers: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.landmarks)
        pairs = [*self.flip_pairs, *self.edges, *(group for both in self.normalizers.values() for group in both)]
        if any(not 0 <= index < count for pair in pairs for index in pair):
            raise InputError(f"skeleton {self.name}: an index is outside 0..{count - 1}; fix the pair or edge lists")
        swapped = [index for pair in self.flip_pairs for index in pair]
        if len(swapped) != len(set(swapped)):
            raise InputError(f"skeleton {self.name}: a landmark stands in two flip pairs; each may stand in one")
        if self.sigmas and (len(self.sigmas) != count or not all(sigma > 0 for sigma in self.sigmas)):
            raise InputError(f"skeleton {self.name}: sigmas must be {count} positive numbers, or none")

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def flip_order(self) -> NDArray[np.intp]:
        """(K,) index that reorders the landmarks of a mirrored image: ``points[flip_order]``."""
        order = np.arange(len(self))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return order

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, as a manifest stores them."""
        table: dict[str, Any] = {
            "name": self.name,
            "landmarks": list(self.landmarks),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "edges": [list(edge) for edge in self.edges],
            "normalizers": {name: [list(a), list(b)] for name, (a, b) in self.normalizers.items()},
        }
        if self.sigmas:  # models from before there were any keep their bytes
            table["sigmas"] = list(self.sigmas)
        return table


_ALIASES = {"upper_neck": "neck"}
"""Names of what is the same joint elsewhere."""


def map_landmarks(points: ArrayLike, source: Skeleton, target: Skeleton) -> NDArray[np.float64]:
    """(..., K, 2) points of one skeleton as (..., L, 2) of another, by name; NaN where the first has no such landmark.

    Raises:
        InputError: the two have no name in common.
    """
    given = np.asarray(points, np.float64)
    if source.landmarks == target.landmarks:
        return given
    index = {_ALIASES.get(name, name): place for place, name in enumerate(source.landmarks)}
    found = [index.get(_ALIASES.get(name, name)) for name in target.landmarks]
    if all(place is None for place in found):
        raise InputError(f"skeletons {source.name} and {target.name} have no landmark in common; choose two that have")
    mapped = np.full((*given.shape[:-2], len(target), 2), np.nan)
    for own, other in enumerate(found):
        if other is not None:
            mapped[..., own, :] = given[..., other, :]
    return mapped
