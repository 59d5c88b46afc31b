"""OpenCV's face detector YuNet. The user brings its ONNX file (OpenCV zoo, MIT licence)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import ArtifactError
from cunet_deploy.onnx_graph.external import missing_weights
from cunet_deploy.preprocess import shrink
from cunet_deploy.sessions.base import Session

__all__ = ["YuNet", "open_spec", "tight_boxes"]

# From YuNet's box to the tight box of the 68 landmarks: centre offset and ratio of the sides, in units of YuNet's box.
# Medians over 1,207 faces of the HELEN and AFW training photos (standard deviations: 0.03 and 0.03; 0.05 and 0.06);
# mean overlap rises from 0.71 to 0.88. Measured with tools/release/fit_detector_boxes.py.
_CENTER_SHIFT = np.array([0.0, 0.12])
_SIDE_RATIO = np.array([1.03, 0.762])

_MIN_SCORE = 0.6
_NMS_IOU = 0.3
_QUICK_SIDE, _FULL_SIDE = 320, 640
"""Longer side that a frame is shrunk to before detection; faces from about 10 pixels on are found there. In video the
quick look, which takes a third of the time, comes first; the full one only where it finds nothing."""


def tight_boxes(boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """YuNet's (N, 4) x, y, w, h to tight (N, 4) xyxy landmark boxes."""
    size = np.asarray(boxes[:, 2:4], np.float64)
    center = boxes[:, :2] + size * (0.5 + _CENTER_SHIFT)
    return np.concatenate([center - size * _SIDE_RATIO / 2, center + size * _SIDE_RATIO / 2], axis=1)


class YuNet:
    """See `cunet_deploy.detection.base.Detector`."""

    every = 30
    retry = 3
    exact = False
    confident_score = 0.0

    def __init__(self, path: Path) -> None:
        """Load the detector.

        Raises:
            ArtifactError: OpenCV cannot load the file.
        """
        self._path = path
        self._lock = threading.Lock()  # OpenCV's detector keeps the frame size and buffers
        try:
            create: Any = getattr(cv2, "FaceDetectorYN_create")  # noqa: B009  (not in OpenCV's type stubs)
            self._detector = create(str(path), "", (320, 320), _MIN_SCORE, _NMS_IOU, 1000)
            self._find(np.zeros((64, 64, 3), np.uint8))
        except (cv2.error, AttributeError) as error:
            reason = missing_weights(path) or (
                f"OpenCV {cv2.__version__} cannot use it as a YuNet face detector; take face_detection_yunet_*.onnx "
                "from OpenCV zoo, made for this OpenCV"
            )
            raise ArtifactError(f"{path}: {reason}") from error

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find faces; see `cunet_deploy.detection.base.Detector.detect`."""
        for side in (_FULL_SIDE,) if known is None else (_QUICK_SIDE, _FULL_SIDE):
            boxes, scores = self.look(image, side)
            if len(boxes) or (known is not None and len(known)):
                break
        return boxes, scores

    def look(self, image: NDArray[np.uint8], side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Faces in an image whose longer side is shrunk to ``side``, best first."""
        height, width = image.shape[:2]
        factor = max(max(height, width) / side, 1.0)
        if factor > 1:
            size = (max(round(width / factor), 1), max(round(height / factor), 1))
            image = shrink(image, *size)
        found = self._find(image)
        scale = np.tile([width / image.shape[1], height / image.shape[0]], 2)
        boxes = (tight_boxes(found[:, :4]) + 0.5) * scale - 0.5
        scores = found[:, -1].astype(np.float64)
        order = scores.argsort()[::-1]
        return boxes[order], scores[order]

    def close(self) -> None:
        """Nothing to release: OpenCV does it with the object."""

    def _find(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, 15) rows of YuNet: x, y, w, h, five landmarks, score."""
        with self._lock:
            self._detector.setInputSize((image.shape[1], image.shape[0]))
            _, found = self._detector.detect(image)
        return np.zeros((0, 15), np.float32) if found is None else np.asarray(found, np.float32)


def open_spec(argument: str, session: Session | None) -> YuNet:
    """``yunet:FILE``."""
    return YuNet(Path(argument))
