"""Camera effects on a picture: blur, low resolution, tone curve, noise, grey or infrared, JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.scene import Lens

__all__ = ["encode_jpeg", "expose", "take_picture"]

Image = NDArray[np.float32]

_USUAL_SIDE = 192  # that lengths in pixels refer to
_GREY = np.array([0.114, 0.587, 0.299], np.float32)


def take_picture(image: Image, lens: Lens) -> NDArray[np.uint8]:
    """The finished picture.

    Args:
        image: (H, W, 3) BGR in [0, 255].
        lens: what to do to it.
    """
    return expose(_blurred(image, lens), lens)


def _blurred(image: Image, lens: Lens) -> Image:
    """Loss of sharpness; lengths grow with the picture."""
    height, width = image.shape[:2]
    scale = max(height, width) / _USUAL_SIDE
    if lens.motion > 0:
        reach = max(3, round(lens.motion * scale))
        kernel = np.zeros((reach, reach), np.float32)
        half = (reach - 1) / 2
        dx, dy = half * np.cos(np.radians(lens.motion_turn)), half * np.sin(np.radians(lens.motion_turn))
        start, end = (round(half - dx), round(half - dy)), (round(half + dx), round(half + dy))
        cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA)
        image = np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.float32)
    if lens.pixels < 0.97:
        small = (max(4, round(width * lens.pixels)), max(4, round(height * lens.pixels)))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.float32)
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    if lens.defocus > 0:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), lens.defocus * scale), np.float32)
    return image


def expose(image: Image, lens: Lens) -> NDArray[np.uint8]:
    """Tone curve, white balance and noise of a sharp picture in [0, 255]."""
    rng = np.random.default_rng(lens.seed)
    if lens.grey:
        image = np.repeat((image @ _GREY)[..., None], 3, axis=2)
    image = np.asarray(255 * np.clip(image / 255, 0, 1) ** lens.gamma, np.float32)
    image = (image - 128) * lens.contrast + 128 + lens.brightness
    if not lens.grey:
        image = np.asarray(image * np.asarray(lens.white), np.float32)
    height, width = image.shape[:2]
    if lens.noise > 0 or lens.shot > 0:
        grain = rng.standard_normal((height, width, 1 if lens.grey else 3), np.float32)
        if lens.coarse > 0.5:
            grain = cv2.GaussianBlur(grain, (0, 0), lens.coarse).reshape(grain.shape) * (2 * lens.coarse)
        spread = np.sqrt(lens.noise**2 + lens.shot * np.clip(image, 0, 255))
        image = np.asarray(image + grain * spread, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def encode_jpeg(image: NDArray[np.uint8], quality: int, twice: int = 0) -> bytes:
    """A JPEG file; ``twice`` is the quality of one that it went through before, 0 for none."""
    if twice:
        _, first = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, twice])
        image = np.asarray(cv2.imdecode(first, cv2.IMREAD_UNCHANGED), np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
