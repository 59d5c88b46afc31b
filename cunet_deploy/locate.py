"""Boxes in an image to landmarks in that image: crop, run, decode, map back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.preprocess import sample
from cunet_deploy.sessions.base import Decoding, Session

__all__ = ["MAX_BATCH", "MAX_COORDINATE", "check_boxes", "locate", "read_crops"]

MAX_COORDINATE = 1e9
"""Largest coordinate; beyond it, or not finite, is no pixel."""

MAX_BATCH = 16
"""Crops that go through the network at once; more only cost memory."""


def check_boxes(boxes: Any) -> NDArray[np.float64]:
    """(N, 4) boxes, checked.

    Raises:
        InputError: another shape, a number beyond `MAX_COORDINATE` or not finite, or a box without area.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("boxes must be numbers of shape (N, 4): x0, y0, x1, y1 in pixels of the image") from error
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"boxes must have shape (N, 4): x0, y0, x1, y1 in pixels of the image; got {array.shape}")
    bad = ~((np.abs(array) <= MAX_COORDINATE).all(axis=1) & (array[:, 2:] > array[:, :2]).all(axis=1))
    if bad.any():
        index = int(bad.argmax())
        values = ", ".join(f"{value:g}" for value in array[index])
        raise InputError(f"box {index} is [{values}]; expected x0 < x1 and y0 < y1 in pixels (xyxy, not xywh)")
    return array


def locate(
    session: Session, image: NDArray[np.uint8], boxes: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Localize the landmarks of the object in each box.

    Args:
        session: the network.
        image: (H, W, 3) uint8 BGR.
        boxes: (N, 4) tight xyxy boxes in pixels of the image; they may reach outside it.

    Returns:
        points: (N, K, 2) pixels of the image.
        heights: (N, K) of the peaks, in [0, 1]; see `Manifest.scores`.
    """
    manifest = session.manifest
    crops = [manifest.crop.crop(box) for box in np.asarray(boxes, np.float64).reshape(-1, 4)]
    points = np.zeros((len(crops), len(manifest.skeleton), 2), np.float32)
    scores = np.zeros(points.shape[:2], np.float32)
    for start in range(0, len(crops), MAX_BATCH):
        batch = crops[start : start + MAX_BATCH]
        inputs, heights = read_crops(session, np.stack([sample(image, crop) for crop in batch]))
        for index, crop in enumerate(batch, start):
            points[index] = crop.to_image(inputs[index - start])
        scores[start : start + len(batch)] = heights
    return points, scores


def read_crops(session: Session, images: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.float32]]:
    """(B, size, size, 3) uint8 BGR crops to (B, K, 2) landmarks in pixels of the crops, and (B, K) scores."""
    if isinstance(session, Decoding) and session.decodes:
        return session.landmarks(images)
    return session.manifest.read(session.run(images))
