"""Confirmation of detections by landmarks, where the detector is not confident."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.detection.base import Detector
from cunet_deploy.detection.search import confirmed
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou, share_inside
from cunet_deploy.locate import check_boxes
from cunet_deploy.sessions.base import Session

__all__ = ["SAME_OBJECT_IOU", "detect_confirmed"]

SAME_OBJECT_IOU = 0.3
"""A detection that overlaps a followed box by this much is that object."""
_PART_MIN_OVERLAP = 0.7
"""A box of which this share lies in that of something followed shows a part of it."""


def detect_confirmed(
    detector: Detector,
    session: Session,
    image: NDArray[np.uint8],
    index: int = 0,
    name: str = "",
    known: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Find objects; landmarks have to confirm new ones that the detector is not confident of.

    Boxes that lie in the box of what is followed are a part of it, and say that it is still there.

    Args:
        detector: where to look.
        session: the network of landmarks.
        image: (H, W, 3) uint8 BGR.
        index: of the frame in its source.
        name: of the image file, without folders; empty for video.
        known: in video, (M, 4) boxes of what is followed.

    Returns:
        (N, 4) xyxy boxes.

    Raises:
        InputError: the detector does not return what `Detector.detect` describes.
    """
    boxes, scores = _checked(detector, detector.detect(image, index, name, known))
    if detector.confident_score <= 0:
        return boxes
    followed = np.zeros((0, 4)) if known is None else known
    doubtful = (scores < detector.confident_score) & ~(box_iou(boxes, followed) >= SAME_OBJECT_IOU).any(axis=1)
    parts = doubtful[:, None] & (share_inside(boxes, followed) >= _PART_MIN_OVERLAP)
    new = doubtful & ~parts.any(axis=1)
    kept = ~doubtful
    kept[new] = confirmed(session, image, boxes[new])
    return np.concatenate([boxes[kept], followed[parts.any(axis=0)]])


def _checked(detector: Detector, found: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes and scores of a detector, which may be a user's own: lists will do, and an empty one is no object."""
    try:
        given, rated = found
        boxes, scores = check_boxes(given), np.asarray(rated, np.float64)
        if scores.shape != (len(boxes),) or not np.isfinite(scores).all():
            raise InputError(f"scores of shape {scores.shape} came with {len(boxes)} boxes")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{type(detector).__name__}.detect returned other values than boxes (N, 4) and finite scores (N,): {error}"
        ) from error
    return boxes, scores
