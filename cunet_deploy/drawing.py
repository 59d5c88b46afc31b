"""Landmarks drawn into images, readable at any resolution and in any kind of colour vision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.pixels import as_bgr
from cunet_deploy.skeletons import Skeleton

__all__ = [
    "DOUBTED",
    "FOUND",
    "PARTS",
    "TRUE",
    "Style",
    "contact_sheet",
    "draw_into",
    "draw_landmarks",
    "draw_tile",
]

PARTS = ("points", "lines", "ids", "scores", "box")
"""Parts that can be drawn."""

# Lines and points of each track id, BGR: colours of Okabe and Ito's palette, told apart in every common kind of colour
# blindness, with a second one that differs in lightness. A dark rim keeps them apart from bright ground.
_SKY, _YELLOW, _ORANGE, _GREEN = (233, 180, 86), (66, 228, 240), (0, 159, 230), (115, 158, 0)
_RED, _PURPLE, _BLUE, _WHITE = (0, 94, 213), (167, 121, 204), (178, 114, 0), (245, 245, 245)
_PALETTE = (
    (_SKY, _YELLOW),
    (_ORANGE, _WHITE),
    (_GREEN, _WHITE),
    (_PURPLE, _YELLOW),
    (_RED, _WHITE),
    (_BLUE, _YELLOW),
    (_YELLOW, _WHITE),
)
_RIM = (32, 32, 32)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
FOUND, TRUE, DOUBTED = (0, 200, 255), (255, 160, 60), (60, 60, 230)
"""Colours of found, labelled and doubted landmarks, BGR; distinct for any kind of colour vision."""
_FRACTION_BITS = 4
_LIMIT = 1 << 20
_LETTERS = 22.0
"""Height of the letters of OpenCV's font at scale 1, in pixels."""


@dataclass(frozen=True)
class Style:
    """Parts and colours that are drawn of each object.

    Attributes:
        points: a dot at each landmark.
        lines: contours, or limbs: the skeleton's edges.
        ids: the track id; ``None``: where there are several.
        scores: the mean score of its landmarks.
        box: where it was looked for.
        visible_score: landmarks of a lower score are hidden: they have no dot, and their lines are thin. ``None``:
            scores do not tell, see `cunet_deploy.manifest.Manifest`.
    """

    points: bool = True
    lines: bool = True
    ids: bool | None = None
    scores: bool = False
    box: bool = False
    visible_score: float | None = None

    @classmethod
    def of(cls, parts: Iterable[str]) -> Style:
        """Only these of `PARTS`.

        Raises:
            InputError: one is not known, or there is none.
        """
        chosen = [part.strip() for part in parts]
        unknown = [part for part in chosen if part not in PARTS]
        if unknown or not chosen:
            raise InputError(f"{', '.join(unknown) or 'nothing'} cannot be drawn; choose from {', '.join(PARTS)}")
        return cls(**{part: part in chosen for part in PARTS})


def contact_sheet(tiles: Sequence[NDArray[np.uint8]], columns: int, blank: int = 0) -> NDArray[np.uint8]:
    """Pictures in a grid, in order.

    Args:
        tiles: at least one, all (H, W, 3) of one size.
        columns: of the grid.
        blank: grey level of the rest of the last row.
    """
    blanks = [np.full_like(tiles[0], blank)] * (-len(tiles) % columns)
    cells = [*tiles, *blanks]
    return np.vstack([np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)])


def draw_tile(
    tile: NDArray[np.uint8],
    layers: Iterable[tuple[NDArray[np.floating], tuple[int, int, int]]],
    edges: Sequence[tuple[int, int]],
    text: str,
) -> NDArray[np.uint8]:
    """Draw landmarks and a line of text into a tile of a contact sheet.

    Args:
        tile: (H, W, 3) uint8 BGR; it is changed.
        layers: (K, 2) points in pixels of the tile, NaN for what is not drawn, each with its colour.
        edges: pairs of landmarks that a line joins where both are drawn.
        text: along the lower edge.

    Returns:
        The tile.
    """
    for points, colour in layers:
        known = np.asarray(np.isfinite(points).all(axis=1))
        places = np.where(known[:, None], points, 0).clip(-9999, 9999).round().astype(int).tolist()
        for a, b in edges:
            if known[a] and known[b]:
                cv2.line(tile, places[a], places[b], colour, 1, cv2.LINE_AA)
        for index in np.flatnonzero(known):
            cv2.circle(tile, places[index], 2, colour, -1, cv2.LINE_AA)
    _put_label(tile, text, (4, len(tile) - 6), 0.4, 1, (255, 255, 255))
    return tile


def draw_landmarks(
    image: NDArray[np.uint8] | NDArray[np.uint16],
    points: NDArray[np.floating],
    ids: NDArray[np.integer],
    skeleton: Skeleton,
) -> NDArray[np.uint8]:
    """A copy of an image with the landmarks of N objects, (H, W, 3) BGR; see `as_bgr` for images and `draw_into`."""
    canvas = as_bgr(image).copy()
    draw_into(canvas, points, ids, skeleton)
    return canvas


def draw_into(
    canvas: NDArray[np.uint8],
    points: NDArray[np.floating],
    ids: NDArray[np.integer],
    skeleton: Skeleton,
    *,
    scores: NDArray[np.floating] | None = None,
    boxes: NDArray[np.floating] | None = None,
    style: Style | None = None,
) -> None:
    """Draw the landmarks of N objects: contours along the skeleton's edges, points on top. A track id keeps its colour.

    Args:
        canvas: (H, W, 3) uint8 BGR, writable and contiguous; it is changed.
        points: (N, K, 2) pixels of the image.
        ids: (N,) track ids.
        skeleton: of the K landmarks.
        scores: (N, K) of the landmarks, which ``style.scores`` and ``style.visible_score`` need.
        boxes: (N, 4) xyxy, which ``style.box`` needs.
        style: what to draw; ``None``: points and lines, and track ids where there are several objects.
    """
    shown = style or Style()
    edges = np.array(skeleton.edges, np.intp).reshape(-1, 2)
    for index, (landmarks, identity) in enumerate(zip(points, ids, strict=True)):
        line_colour, point_colour = _PALETTE[int(identity) % len(_PALETTE)]
        extent = float(np.ptp(landmarks, axis=0).max())
        line = max(round(extent / 160), 1)
        rim = line + (2 if extent > 100 else 1)
        if shown.box and boxes is not None:
            _draw_box(canvas, boxes[index], line, rim, line_colour)
        fixed = np.round(landmarks.clip(-_LIMIT, _LIMIT) * 2**_FRACTION_BITS).astype(np.int32)
        visible = np.ones(len(landmarks), np.bool_)
        if shown.visible_score is not None and scores is not None:
            visible = scores[index] >= shown.visible_score
        if shown.lines:
            whole = visible[edges].all(axis=1)
            lines = list(fixed[edges[whole]])
            cv2.polylines(canvas, list(fixed[edges[~whole]]), False, line_colour, 1, cv2.LINE_AA, _FRACTION_BITS)
            cv2.polylines(canvas, lines, False, _RIM, rim, cv2.LINE_AA, _FRACTION_BITS)
            cv2.polylines(canvas, lines, False, line_colour, line, cv2.LINE_AA, _FRACTION_BITS)
        if shown.points:
            # a line of no length is a dot; one call for all of them, not one each, lets other threads run meanwhile
            dots, dot = list(np.stack([fixed, fixed], axis=1)[visible]), max(round(extent / 60), 1)
            kind = cv2.LINE_AA if dot > 1 else cv2.LINE_8  # an anti-aliased line of no length and width 1 is nothing
            cv2.polylines(canvas, dots, False, point_colour, dot, kind, _FRACTION_BITS)
        words = [str(int(identity))] if shown.ids or (shown.ids is None and len(points) > 1) else []
        if shown.scores and scores is not None:
            words.append(f"{float(scores[index].mean()):.2f}")
        if words:
            _write(canvas, " ".join(words), landmarks, point_colour)


def _draw_box(
    canvas: NDArray[np.uint8], box: NDArray[np.floating], line: int, rim: int, colour: tuple[int, int, int]
) -> None:
    x0, y0, x1, y1 = (round(float(value)) for value in box.clip(-_LIMIT, _LIMIT))
    cv2.rectangle(canvas, (x0, y0), (x1, y1), _RIM, rim)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, line)


def _write(canvas: NDArray[np.uint8], text: str, landmarks: NDArray[np.floating], colour: tuple[int, int, int]) -> None:
    """Write above an object, within the image, in letters that are read when the whole image is looked at."""
    height, width = canvas.shape[:2]
    letters = max(min(height, width) / 40, 9.0)
    scale, thick = letters / _LETTERS, max(round(letters / 12), 1)
    (wide, high), below = cv2.getTextSize(text, _FONT, scale, thick)
    left, top = landmarks.min(axis=0).clip(0, _LIMIT)
    x = max(min(int(left), width - wide - thick), thick)
    y = min(max(int(top) - round(letters / 2), high + thick), height - below)
    _put_label(canvas, text, (x, y), scale, thick, colour)


def _put_label(
    canvas: NDArray[np.uint8], text: str, place: tuple[int, int], scale: float, thick: int, colour: tuple[int, int, int]
) -> None:
    """Write on a dark ground. ``place`` is the left end of the base line.

    A dark rim of thicker letters would do on the fonts of OpenCV 4; those of OpenCV 5 are wider where they are thicker.
    """
    (x, y), ((wide, high), below) = place, cv2.getTextSize(text, _FONT, scale, thick)
    cv2.rectangle(canvas, (x - thick, y - high - thick), (x + wide + thick, y + below), _RIM, -1)
    cv2.putText(canvas, text, (x, y), _FONT, scale, colour, thick, cv2.LINE_AA)
