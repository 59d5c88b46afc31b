"""Handling of one request: a picture in, boxes, landmarks, scores and ids out; the same in every server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.localizer import Localizer
from cunet_deploy.media.readers.images import decode_image
from cunet_deploy.pixels import as_bgr

__all__ = ["INTERNAL_ERROR", "MAX_PIXELS", "Handler"]

MAX_PIXELS = 50_000_000
"""Largest number of pixels of a picture; a larger one is refused. A file of a few bytes can unpack to any size, so a
server also sets ``OPENCV_IO_MAX_IMAGE_PIXELS`` before OpenCV is loaded."""


INTERNAL_ERROR = "internal error; the log of the server has the details"
"""Answer to a client whose request failed for another reason than what was sent."""


class Handler:
    """Answers requests with one `Localizer`.

    Args:
        model: as `Localizer` takes it.
        detector: likewise.
        backend: likewise.
        threads: of the network; one leaves the other processors to other instances.
        licence: as `Localizer` takes it.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        detector: str | None = None,
        backend: str | None = None,
        threads: int = 1,
        licence: str | None = None,
    ) -> None:
        self._localizer = Localizer(model, detector=detector, backend=backend, threads=threads, licence=licence)
        self.answer(frame=np.full((64, 64, 3), 128, np.uint8))  # the first run of a network takes longer

    def answer(
        self,
        *,
        image: bytes | None = None,
        frame: NDArray[np.uint8] | None = None,
        boxes: NDArray[np.float32] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Localize the objects in one picture.

        Args:
            image: an encoded picture (JPEG, PNG, WebP, ...), or
            frame: (H, W, 3) uint8 BGR.
            boxes: (N, 4) where the objects are, as `Localizer.predict` takes it; ``None``: the detector looks.

        Returns:
            ``boxes`` (N, 4), ``landmarks`` (N, K, 2) and ``scores`` (N, K), float32, in pixels of the picture, and
            ``ids`` (N,) int64.

        Raises:
            InputError: what was sent is no picture, is too large or lacks its form; the client is told.
        """
        if (image is None) == (frame is None):
            raise InputError("send one of image (an encoded picture) and frame (H x W x 3 pixels, BGR)")
        picture = as_bgr(frame) if image is None else decode_image(image, "image", most_pixels=MAX_PIXELS)
        if picture.shape[0] * picture.shape[1] > MAX_PIXELS:
            raise InputError(f"the picture has more than {MAX_PIXELS // 10**6} megapixels; send a smaller one")
        found = self._localizer.predict(picture, boxes=boxes)
        return {"boxes": found.boxes, "landmarks": found.points, "scores": found.scores, "ids": found.ids}

    def close(self) -> None:
        """Release the networks."""
        self._localizer.close()
