"""Landmarks drawn into images, readable at any resolution and in any kind of colour vision."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.skeletons import Skeleton

__all__ = ["draw_into", "draw_landmarks"]

# Blue and yellow of Okabe and Ito's palette, BGR: told apart in every common kind of colour blindness, and both are
# seen on skin. A dark rim keeps them apart from bright ground.
_LINE = (233, 180, 86)
_POINT = (66, 228, 240)
_RIM = (32, 32, 32)
_FRACTION_BITS = 4
_LIMIT = 1 << 20


def draw_landmarks(
    image: NDArray[np.uint8],
    points: NDArray[np.floating],
    ids: NDArray[np.integer],
    skeleton: Skeleton,
) -> NDArray[np.uint8]:
    """A copy of an image with the landmarks of N objects; see `draw_into`."""
    canvas = image.copy()
    draw_into(canvas, points, ids, skeleton)
    return canvas


def draw_into(
    canvas: NDArray[np.uint8],
    points: NDArray[np.floating],
    ids: NDArray[np.integer],
    skeleton: Skeleton,
) -> None:
    """Draw the landmarks of N objects: contours along the skeleton's edges, points on top.

    Args:
        canvas: (H, W, 3) uint8 BGR, writable and contiguous; it is changed.
        points: (N, K, 2) pixels of the image.
        ids: (N,) numbers, written beside the objects where there are several.
        skeleton: of the K landmarks.
    """
    edges = np.array(skeleton.edges, np.intp).reshape(-1, 2)
    for landmarks, identity in zip(points, ids, strict=True):
        extent = float(np.ptp(landmarks, axis=0).max())
        line = max(round(extent / 160), 1)
        rim = line + (2 if extent > 100 else 1)
        fixed = np.round(landmarks.clip(-_LIMIT, _LIMIT) * 2**_FRACTION_BITS).astype(np.int32)
        lines = list(fixed[edges])
        cv2.polylines(canvas, lines, False, _RIM, rim, cv2.LINE_AA, _FRACTION_BITS)
        cv2.polylines(canvas, lines, False, _LINE, line, cv2.LINE_AA, _FRACTION_BITS)
        # a line of no length is a dot; one call for all of them, not one each, lets other threads run meanwhile
        dots, dot = list(np.stack([fixed, fixed], axis=1)), max(round(extent / 60), 1)
        kind = cv2.LINE_AA if dot > 1 else cv2.LINE_8  # an anti-aliased line of no length and width 1 is nothing
        cv2.polylines(canvas, dots, False, _POINT, dot, kind, _FRACTION_BITS)
        if len(points) > 1:
            _write_number(canvas, str(int(identity)), landmarks, extent)


def _write_number(canvas: NDArray[np.uint8], text: str, landmarks: NDArray[np.floating], extent: float) -> None:
    left, top = landmarks.min(axis=0).clip(0, _LIMIT)
    scale = max(extent / 240, 0.4)
    place = (int(left), int(max(top - 4, 12)))
    for colour, width in ((_RIM, 3), (_POINT, 1)):
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, width, cv2.LINE_AA)
