"""Finding one object without a detector, coarse to fine, with the localizer itself.

Square windows of several sizes go through the network; from the best few, the crop moves to the landmarks found until
it stays. That works for one object that fills a fair part of the frame. A detector does it better where there is one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import CropRule, box_iou, landmark_boxes
from cunet_deploy.locate import locate
from cunet_deploy.preprocess import shrink
from cunet_deploy.sessions.base import Session

__all__ = ["CoarseToFineSearch", "confirmed", "open_spec", "plausible", "windows"]

FloatArray = NDArray[np.float64]

_WINDOW_SIDES = ((1.0, 0.7, 0.5), (0.35,))
"""Sides of the windows, as shares of the frame's shorter side; small ones are only looked at when no find is sure."""
_ACCEPTED_SHARE, _CONFIDENT_SHARE = 0.25, 0.5
"""Shares of the way from the model's minimum score to 1 from which a find is believed, and ends the search early.
The best of some sixty windows is sure of itself more often by chance than a box that a detector vouches for."""
_MAX_ASPECT = 8
"""Aspect ratio beyond which windows get no smaller: in longer and narrower frames there would be thousands."""
_MAX_CANDIDATES = 3
_MAX_ROUNDS = 4
_STABLE_MOVE_RATIO = 0.1
_VIEW_OFFSETS = np.array([[0.0, 0.0, 1.0], [0.06, -0.06, 0.88], [-0.06, 0.06, 1.15]])
"""Shift in x and y, in shares of the box's longer side, and scale of the boxes that a find is looked at again with."""
_MAX_DEVIATION = 0.05
"""Largest movement of landmarks between these views, in shares of the longer side. On real faces they move by 0.01 to
0.04, where there is none by 0.05 to 0.2, however sure the network is."""
_MAX_DEVIATION_FOLLOWED = 0.08
"""The same for an object that is followed: a face that turns away or is touched is not given up at once."""
_MAX_SIDE_IN_INPUTS = 3
"""The frame is searched with its shorter side at most this many network inputs long."""


def windows(width: int, height: int, shares: tuple[float, ...]) -> FloatArray:
    """(M, 4) squares to look at in a frame, overlapping by at least half.

    Args:
        width: of the frame.
        height: of the frame.
        shares: sides, in shares of the frame's shorter side; 1 adds a square around the whole frame.
    """
    longer = max(width, height)
    shorter = max(min(width, height), longer / _MAX_ASPECT)
    squares = [_square((width - 1) / 2, (height - 1) / 2, longer)] if 1.0 in shares else []
    for share in shares:
        side = shorter * share
        for y in _positions(height, side):
            squares.extend(_square(x, y, side) for x in _positions(width, side))
    unique = dict.fromkeys(squares)
    return np.array(list(unique), np.float64)


def _positions(length: int, side: float) -> list[float]:
    """Centres of intervals of ``side`` that cover ``length`` pixels, neighbours overlapping by at least half."""
    room = max(length - side, 0.0)
    steps = math.ceil(room / (side / 2) - 1e-9)
    first = (length - 1 - room) / 2
    return [first + room * step / steps for step in range(steps + 1)] if steps else [(length - 1) / 2]


def _square(x: float, y: float, side: float) -> tuple[float, float, float, float]:
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def plausible(tight: NDArray[np.floating], boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return whether landmarks spread about as much as the box they were looked for in.

    Args:
        tight: (N, 4) boxes around the landmarks, see `landmark_boxes`.
        boxes: (N, 4) tight boxes that the crops were made from.

    Returns:
        (N,) False where the landmarks collapse to a spot or a line.
    """
    spread, box = tight[:, 2:] - tight[:, :2], boxes[:, 2:] - boxes[:, :2]
    return np.asarray((spread.max(axis=1) > 0.25 * box.max(axis=1)) & (spread.min(axis=1) > 0.2 * spread.max(axis=1)))


class CoarseToFineSearch:
    """Looks for one object in whole frames. Has the form of a detector; keeps nothing between frames."""

    every = 15
    retry = 5
    exact = False
    confident_score = 0.0

    def __init__(self, session: Session) -> None:
        self._session = session

    def close(self) -> None:
        """Nothing to release: the network belongs to the localizer."""

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Find the most certain object.

        Args:
            image: (H, W, 3) uint8 BGR.
            index: of the frame; not used.
            name: of the frame; not used.
            known: (M, 4) boxes where objects should be; if they are still there, nothing else is looked for.

        Returns:
            boxes: (0, 4) or (1, 4) tight xyxy boxes.
            scores: (0,) or (1,) mean landmark score, the lowest of a few looks at it.
        """
        manifest = self._session.manifest
        if known is not None and len(known):
            scores = np.array([self._look_again(image, box, _MAX_DEVIATION_FOLLOWED) for box in known])
            if scores.max() >= manifest.min_score:
                order = scores.argsort()[::-1]
                order = order[scores[order] >= manifest.min_score]
                return known[order], scores[order]
        small, scale = _shrink(image, _MAX_SIDE_IN_INPUTS * manifest.crop.size)
        accepted, confident = (
            manifest.min_score + share * (1 - manifest.min_score) for share in (_ACCEPTED_SHARE, _CONFIDENT_SHARE)
        )
        found = (0.0, np.zeros(4))
        for shares in _WINDOW_SIDES:
            boxes = _unpad(windows(small.shape[1], small.shape[0], shares), manifest.crop)
            points, heights = locate(self._session, small, boxes)
            likely = heights.mean(axis=1) * plausible(landmark_boxes(points), boxes)
            candidates = self._refine(small, points[likely.argsort()[::-1][:_MAX_CANDIDATES]])
            looks = [(self._look_again(small, box, _MAX_DEVIATION), box) for box in candidates]
            found = max([found, *looks], key=lambda look: look[0])
            if found[0] >= confident:
                break
        score, box = found
        if score < accepted:
            return np.zeros((0, 4)), np.zeros(0)
        return ((box + 0.5) * np.tile(scale, 2) - 0.5)[None], np.array([score])

    def _refine(self, image: NDArray[np.uint8], points: NDArray[np.float32]) -> FloatArray:
        """Move each crop to the landmarks that it showed, until it stays: (M, 4) boxes that still show an object."""
        boxes = _usable(landmark_boxes(points))
        for _ in range(_MAX_ROUNDS):
            if not len(boxes):
                break
            points, heights = locate(self._session, image, boxes)
            moved = landmark_boxes(points)
            stable = bool((_moves(boxes, moved) < _STABLE_MOVE_RATIO).all())
            good = (heights.mean(axis=1) >= self._session.manifest.min_score) & plausible(landmark_boxes(points), boxes)
            boxes = moved[good & ~_repeated(moved)]
            if stable:
                break
        return boxes

    def _look_again(self, image: NDArray[np.uint8], box: FloatArray, max_deviation: float) -> float:
        """The lowest mean score over slightly different crops; 0 where the landmarks do not agree."""
        points, heights = locate(self._session, image, _views(box))
        moved = np.linalg.norm(points[1:] - points[0], axis=-1).mean() / (box[2:] - box[:2]).max()
        return float(heights.mean(axis=1).min()) if moved <= max_deviation else 0.0


def open_spec(argument: str, session: Session | None) -> CoarseToFineSearch:
    """``full``.

    Raises:
        InputError: there is no network to search with.
    """
    if session is None:
        raise InputError("the detector full searches with a network of landmarks; give one, or another detector")
    return CoarseToFineSearch(session)


def confirmed(session: Session, image: NDArray[np.uint8], boxes: FloatArray) -> NDArray[np.bool_]:
    """Return whether a network of landmarks is sure that an object is there, however it is looked at.

    Each box is moved to the landmarks that it shows, and these are looked for again in a few slightly different crops:
    background that passes for an object in one of them seldom does in all.

    Args:
        session: the network.
        image: (H, W, 3) uint8 BGR.
        boxes: (N, 4) tight xyxy boxes.

    Returns:
        (N,) whether the lowest mean score is the least that the model asks for.
    """
    points, _ = locate(session, image, boxes)
    good = plausible(landmark_boxes(points), boxes)
    moved = landmark_boxes(points)
    for index in np.flatnonzero(good):
        _, heights = locate(session, image, _views(moved[index]))
        good[index] = heights.mean(axis=1).min() >= session.manifest.min_score
    return good


def _views(box: FloatArray) -> FloatArray:
    """(3, 4) boxes around and beside a (4,) box, to look at what is in it again."""
    center, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    centers, halves = center + _VIEW_OFFSETS[:, :2] * size.max(), _VIEW_OFFSETS[:, 2:] * size / 2
    return np.asarray(np.concatenate([centers - halves, centers + halves], axis=1))


def _unpad(squares: FloatArray, rule: CropRule) -> FloatArray:
    """The tight boxes whose crops are these squares."""
    center, half = (squares[:, 2:] + squares[:, :2]) / 2, (squares[:, 2:] - squares[:, :2]) / 2 / rule.padding
    return np.concatenate([center - half, center + half], axis=1)


def _usable(boxes: FloatArray) -> FloatArray:
    return np.asarray(boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)])


def _moves(old: FloatArray, new: FloatArray) -> FloatArray:
    """(N,) largest shift of a box's edge, as a share of its longer side."""
    return np.asarray(np.abs(new - old).max(axis=1) / (old[:, 2:] - old[:, :2]).max(axis=1))


def _repeated(boxes: FloatArray) -> NDArray[np.bool_]:
    """(N,) whether an earlier box is nearly the same."""
    return np.asarray(np.tril(box_iou(boxes, boxes) > 0.8, -1).any(axis=1))


def _shrink(image: NDArray[np.uint8], limit: int) -> tuple[NDArray[np.uint8], FloatArray]:
    """The image with its shorter side at most ``limit``, and image pixels per pixel of it in x and y."""
    height, width = image.shape[:2]
    factor = min(height, width) / limit
    if factor <= 1:
        return image, np.ones(2)
    size = (round(width / factor), round(height / factor))
    return shrink(image, *size), np.array([width / size[0], height / size[1]])
