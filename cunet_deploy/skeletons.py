"""Landmark sets: the names of the landmarks, which are mirror images, how to draw them, how to normalize errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.boxmaps import MAPS
from cunet_deploy.errors import InputError

__all__ = ["BOX", "IBUG68", "MPII16", "SKELETONS", "Skeleton", "get_skeleton"]


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
    """

    name: str
    landmarks: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    edges: tuple[tuple[int, int], ...]
    normalizers: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.landmarks)
        pairs = [*self.flip_pairs, *self.edges, *(group for both in self.normalizers.values() for group in both)]
        if any(not 0 <= index < count for pair in pairs for index in pair):
            raise InputError(f"skeleton {self.name}: an index is outside 0..{count - 1}; fix the pair or edge lists")
        swapped = [index for pair in self.flip_pairs for index in pair]
        if len(swapped) != len(set(swapped)):
            raise InputError(f"skeleton {self.name}: a landmark stands in two flip pairs; each may stand in one")

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
        return {
            "name": self.name,
            "landmarks": list(self.landmarks),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "edges": [list(edge) for edge in self.edges],
            "normalizers": {name: [list(a), list(b)] for name, (a, b) in self.normalizers.items()},
        }

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Skeleton:
        """The inverse of `to_dict`.

        Raises:
            InputError: a key is missing or has the wrong form.
        """
        try:
            return cls(
                name=str(table["name"]),
                landmarks=tuple(str(name) for name in table["landmarks"]),
                flip_pairs=tuple((int(a), int(b)) for a, b in table["flip_pairs"]),
                edges=tuple((int(a), int(b)) for a, b in table["edges"]),
                normalizers={
                    str(name): (tuple(int(i) for i in a), tuple(int(i) for i in b))
                    for name, (a, b) in table["normalizers"].items()
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"skeleton: {error!r} is missing or malformed; expected the keys of Skeleton") from error


def _chain(first: int, last: int, *, closed: bool = False) -> tuple[tuple[int, int], ...]:
    edges = tuple((index, index + 1) for index in range(first, last))
    return (*edges, (last, first)) if closed else edges


def _ibug68() -> Skeleton:
    """The 68 face landmarks of iBUG 300-W (Sagonas et al., 2013), 0-based; "left" is left in the image."""
    groups = (
        ("jaw", 17),
        ("left_brow", 5),
        ("right_brow", 5),
        ("nose_bridge", 4),
        ("nose_base", 5),
        ("left_eye", 6),
        ("right_eye", 6),
        ("outer_lip", 12),
        ("inner_lip", 8),
    )
    jaw = tuple((i, 16 - i) for i in range(8))
    brows = tuple((17 + i, 26 - i) for i in range(5))
    nose = ((31, 35), (32, 34))
    eyes = ((36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46))
    mouth = ((48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65))
    return Skeleton(
        name="ibug68",
        landmarks=tuple(f"{group}_{i}" for group, count in groups for i in range(count)),
        flip_pairs=(*jaw, *brows, *nose, *eyes, *mouth),
        edges=(
            *_chain(0, 16),
            *_chain(17, 21),
            *_chain(22, 26),
            *_chain(27, 30),
            *_chain(31, 35),
            *_chain(36, 41, closed=True),
            *_chain(42, 47, closed=True),
            *_chain(48, 59, closed=True),
            *_chain(60, 67, closed=True),
        ),
        normalizers={
            "outer_eye": ((36,), (45,)),
            "pupil": (tuple(range(36, 42)), tuple(range(42, 48))),
        },
    )


def _mpii16() -> Skeleton:
    """The 16 body joints of MPII Human Pose (Andriluka et al., 2014), 0-based; "left" is the person's left.

    The length of the head from neck to top stands for MPII's own unit, which needs a labelled head box.
    """
    return Skeleton(
        name="mpii16",
        landmarks=(
            *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
            *("pelvis", "thorax", "upper_neck", "head_top"),
            *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
        ),
        flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
        edges=(
            *_chain(0, 2),
            *_chain(3, 5),
            *_chain(6, 9),
            *_chain(10, 12),
            *_chain(13, 15),
            *((2, 6), (3, 6), (12, 7), (13, 7)),
        ),
        normalizers={"head": ((8,), (9,)), "torso": ((2, 3), (12, 13))},
    )


IBUG68 = _ibug68()
MPII16 = _mpii16()
BOX = Skeleton("box", MAPS, flip_pairs=(), edges=())
"""Not landmarks but the maps of a network that finds boxes; see `cunet_deploy.boxmaps`."""

SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in (IBUG68, MPII16, BOX)}


def get_skeleton(name: str) -> Skeleton:
    """The skeleton of that name.

    Raises:
        InputError: there is none; the message lists the names.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        raise InputError(f"no skeleton is called {name!r}; known: {', '.join(sorted(SKELETONS))}") from None
