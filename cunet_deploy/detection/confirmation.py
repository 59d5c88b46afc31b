"""Confirmation of detections by landmarks, where the detector is not confident."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.detection.base import Detector
from cunet_deploy.detection.search import confirmed
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou, share_inside
from cunet_deploy.locate import check_boxes
from cunet_deploy.sessions.base import Session

__all__ = ["SAME_OBJECT_IOU", "Detections", "detect_confirmed", "least_score"]

SAME_OBJECT_IOU = 0.3
"""A detection that overlaps a followed box by this much is that object."""
_PART_MIN_OVERLAP = 0.7
"""A box of which this share lies in that of something followed shows a part of it."""
_SURE_RATIO = 0.5
"""Share of the model's minimum score that is enough where the detector is confident. That score tells objects from
background anywhere; where a confident detector looked there is hardly any, and what the network knows less well, such
as faces in profile, scores low."""


class Detections(NamedTuple):
    """Boxes to localize in.

    Attributes:
        boxes: (N, 4) tight xyxy boxes.
        sure: (N,) whether the detector is confident of them.
    """

    boxes: NDArray[np.float64]
    sure: NDArray[np.bool_]


def least_score(min_score: float, sure: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) mean landmark score from which something new is believed, by whether the detector is confident of it."""
    return np.where(sure, _SURE_RATIO * min_score, min_score)


def detect_confirmed(
    detector: Detector,
    session: Session,
    image: NDArray[np.uint8],
    index: int = 0,
    name: str = "",
    known: NDArray[np.float64] | None = None,
) -> Detections:
    """Find objects; landmarks have to confirm new ones that the detector is not confident of.

    Boxes that lie in the box of what is followed are a part of it, and say that it is still there.

    Args:
        detector: where to look.
        session: the network of landmarks.
        image: (H, W, 3) uint8 BGR.
        index: of the frame in its source.
        name: of the image file, without folders; empty for video.
        known: in video, (M, 4) boxes of what is followed.

    Raises:
        InputError: the detector does not return what `Detector.detect` describes.
    """
    boxes, scores = _checked(detector, detector.detect(image, index, name, known))
    if detector.confident_score <= 0:
        return Detections(boxes, np.zeros(len(boxes), np.bool_))
    followed = np.zeros((0, 4)) if known is None else known
    sure = scores >= detector.confident_score
    doubtful = ~sure & ~(box_iou(boxes, followed) >= SAME_OBJECT_IOU).any(axis=1)
    parts = doubtful[:, None] & (share_inside(boxes, followed) >= _PART_MIN_OVERLAP)
    new = doubtful & ~parts.any(axis=1)
    kept = ~doubtful
    kept[new] = confirmed(session, image, boxes[new])
    again = followed[parts.any(axis=0)]
    unsure = np.zeros(len(again), np.bool_)
    return Detections(np.concatenate([boxes[kept], again]), np.concatenate([sure[kept], unsure]))


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
