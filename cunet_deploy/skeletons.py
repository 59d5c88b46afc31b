"""Landmark sets: the names of the landmarks, which are mirror images, how to draw them, how to normalize errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.boxmaps import MAPS
from cunet_deploy.errors import InputError

__all__ = ["BOX", "COCO17", "IBUG68", "LSP14", "MPII16", "SKELETONS", "Skeleton", "get_skeleton", "map_landmarks"]


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
    landmarks: tuple[str, ...]
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
                sigmas=tuple(float(sigma) for sigma in table.get("sigmas", ())),
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


_SIGMAS = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
"""By joint, as COCO measured them on people's labels (``sigmas`` of its COCOeval)."""


def _body_sigmas(landmarks: tuple[str, ...]) -> tuple[float, ...]:
    """COCO's sigmas; joints that COCO lacks have 0.026, that of its best-defined landmark, as MMPose has for MPII."""
    return tuple(_SIGMAS.get(name.split("_")[-1], 0.026) for name in landmarks)


def _mpii16() -> Skeleton:
    """The 16 body joints of MPII Human Pose (Andriluka et al., 2014), 0-based; "left" is the person's left.

    The length of the head from neck to top stands for MPII's own unit, which needs a labelled head box.
    """
    landmarks = (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("pelvis", "thorax", "upper_neck", "head_top"),
        *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    )
    return Skeleton(
        name="mpii16",
        landmarks=landmarks,
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
        sigmas=_body_sigmas(landmarks),
    )


def _lsp14() -> Skeleton:
    """The 14 body joints of Leeds Sports Pose (Johnson and Everingham, 2010), 0-based; "left" is the person's left.

    The torso is the diagonal from the right hip to the left shoulder, as in the evaluation of LSP that papers use
    (``eval_pck.m`` of the MPII toolkit, after Sapp and Taskar, CVPR 2013: joints 3 and 10, counted from 1).
    """
    landmarks = (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
        *("neck", "head_top"),
    )
    return Skeleton(
        name="lsp14",
        landmarks=landmarks,
        flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)),
        edges=(
            *_chain(0, 2),
            *_chain(3, 5),
            *_chain(6, 8),
            *_chain(9, 11),
            *((2, 3), (8, 12), (9, 12), (12, 13), (2, 8), (3, 9)),
        ),
        normalizers={"torso": ((2,), (9,))},
        sigmas=_body_sigmas(landmarks),
    )


def _coco17() -> Skeleton:
    """The 17 keypoints of COCO (Lin et al., 2014), 0-based; "left" is the person's left."""
    sides = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    landmarks = ("nose", *(f"{side}_{part}" for part in sides for side in ("left", "right")))
    return Skeleton(
        name="coco17",
        landmarks=landmarks,
        flip_pairs=tuple((index, index + 1) for index in range(1, 17, 2)),
        edges=(
            *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8)),
            *((7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
        ),
        normalizers={"torso": ((12,), (5,))},
        sigmas=_body_sigmas(landmarks),
    )


IBUG68 = _ibug68()
MPII16 = _mpii16()
LSP14 = _lsp14()
COCO17 = _coco17()
BOX = Skeleton("box", MAPS, flip_pairs=(), edges=())
"""Not landmarks but the maps of a network that finds boxes; see `cunet_deploy.boxmaps`."""

SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in (IBUG68, MPII16, LSP14, COCO17, BOX)}


def get_skeleton(name: str) -> Skeleton:
    """The skeleton of that name.

    Raises:
        InputError: there is none; the message lists the names.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        raise InputError(f"no skeleton is called {name!r}; known: {', '.join(sorted(SKELETONS))}") from None


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
        raise InputError(f"skeletons {source.name} and {target.name} have no landmark in common")
    mapped = np.full((*given.shape[:-2], len(target), 2), np.nan)
    for own, other in enumerate(found):
        if other is not None:
            mapped[..., own, :] = given[..., other, :]
    return mapped
