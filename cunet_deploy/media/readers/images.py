"""Image files, checked to be whole: OpenCV fills what a cut-off file lacks with grey and says nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.pixels import as_bgr

__all__ = ["IMAGE_SUFFIXES", "read_image"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) BGR uint8, turned as its EXIF data says.

    Raises:
        InputError: it is missing, empty, cut off or not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not data:
        raise InputError(f"{path}: is empty; replace the file")
    if _cut_off(data):
        raise InputError(f"{path}: the image is cut off; copy it again")
    try:
        # of a picture of more bits OpenCV would keep the upper 8, which are all but black where 12 bits lie in 16
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype not in (np.uint8, np.uint16):  # floating point, which OpenCV converts
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # for example more pixels than OpenCV accepts
        image = None
    if image is None:
        raise InputError(f"{path}: is damaged or not an image; expected one of {', '.join(IMAGE_SUFFIXES)}")
    return as_bgr(image)


def _cut_off(data: bytes) -> bool:
    """Whether a JPEG, PNG or WebP file lacks its end."""
    if data[:2] == b"\xff\xd8":
        return b"\xff\xd9" not in data[data.rfind(b"\xff\xda") :]  # behind the last scan, not in a thumbnail
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" not in data[-64:] and b"IEND" not in data
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    return False
