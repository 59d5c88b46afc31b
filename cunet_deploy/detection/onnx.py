"""Any detector as an ONNX file whose last step is already the list of boxes.

The network takes one image of fixed size, ``(1, 3, H, W)`` float32 RGB in [0, 1] or ``(1, H, W, 3)`` uint8 BGR; frames
are shrunk or enlarged into it with their aspect kept, centred on grey (114). Its first output has a row for each box:
``x0, y0, x1, y1, score`` and optionally a class, in pixels of that input, after non-maximum suppression: ``(N, 5)``,
``(N, 6)``, or the same with a leading 1. Boxes should be tight around the landmarks; all classes count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import ArtifactError, CunetError
from cunet_deploy.locate import MAX_COORDINATE
from cunet_deploy.preprocess import shrink
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.foreign import open_foreign
from cunet_deploy.sessions.providers import first_line, ort_errors_and

__all__ = ["OnnxDetector", "letterbox", "open_spec"]

_MIN_SCORE = 0.4
_PADDING_GREY = 114


class OnnxDetector:
    """See `cunet_deploy.detection.base.Detector`."""

    every = 15
    retry = 3
    exact = False
    confident_score = 0.0

    def __init__(self, path: Path) -> None:
        """Load the detector.

        Raises:
            ArtifactError: ONNX Runtime cannot load it, or its input is of another form.
        """
        self._path = path
        # one thread: two pools that spin would take each other's processors
        self._session: Any = open_foreign(path, threads=1)
        node = self._session.get_inputs()[0]
        shape, self._input = list(node.shape), node.name
        self._planar = len(shape) == 4 and shape[1] == 3
        sides = shape[2:] if self._planar else shape[1:3]
        kind = "tensor(float)" if self._planar else "tensor(uint8)"
        if len(shape) != 4 or 3 not in (shape[1], shape[3]) or not all(isinstance(side, int) for side in sides):
            raise ArtifactError(
                f"{path}: input {shape} found; a detector takes (1, 3, H, W) or (1, H, W, 3), fixed size"
            )
        if node.type != kind:
            raise ArtifactError(f"{path}: input of type {node.type} found, {kind} expected for shape {shape}")
        self._height, self._width = (int(side) for side in sides)

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find objects; see `cunet_deploy.detection.base.Detector.detect`.

        Raises:
            ArtifactError: the output has another form.
        """
        session = self._session
        if session is None:
            raise CunetError(f"{self._path}: the detector is closed; open it again")
        canvas, scale, offset = letterbox(image, self._width, self._height)
        tensor: Any = canvas[None]
        if self._planar:
            tensor = np.ascontiguousarray(canvas[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / 255
        try:
            rows = np.asarray(session.run(None, {self._input: tensor})[0], np.float64)
        except ort_errors_and(TypeError, ValueError) as error:
            reason = first_line(error)
            raise ArtifactError(f"{self._path}: ONNX Runtime cannot run it as a detector ({reason})") from error
        rows = rows[0] if rows.ndim == 3 and rows.shape[0] == 1 else rows
        if rows.ndim != 2 or rows.shape[1] not in (5, 6):
            raise ArtifactError(
                f"{self._path}: output {rows.shape} found; expected rows of x0, y0, x1, y1, score[, class]"
            )
        boxes = (rows[:, :4] + 0.5 - np.tile(offset, 2)) / np.tile(scale, 2) - 0.5
        real = (np.abs(boxes) <= MAX_COORDINATE).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        good = (rows[:, 4] >= _MIN_SCORE) & real
        order = np.flatnonzero(good)[rows[good, 4].argsort()[::-1]]
        return boxes[order], rows[order, 4]

    def close(self) -> None:
        """Release the network."""
        self._session = None


def open_spec(argument: str, session: Session | None) -> OnnxDetector:
    """``onnx:FILE``."""
    return OnnxDetector(Path(argument))


def letterbox(
    image: NDArray[np.uint8], width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Fit an image into a canvas, aspect kept, centred on grey.

    Returns:
        canvas: (height, width, 3).
        scale: (2,) canvas pixels per image pixel in x and y.
        offset: (2,) where the image's left and top edge are on the canvas.
    """
    factor = min(width / image.shape[1], height / image.shape[0])
    size = (max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1))
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas = np.full((height, width, 3), _PADDING_GREY, np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = shrink(image, *size)
    scale = np.array([size[0] / image.shape[1], size[1] / image.shape[0]])
    return canvas, scale, np.array([left, top], np.float64)
