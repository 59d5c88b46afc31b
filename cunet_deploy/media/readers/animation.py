"""Animated WebP, AVIF and PNG files, which are read as video. Their frames are few: all are decoded at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import LeftOut, Picture

__all__ = ["AnimatedImage"]

_DEFAULT_MS = 100.0


class AnimatedImage:
    """An animation in an image file. Iterating raises `InputError` where it is damaged."""

    moving = True
    live = False

    def __init__(self, path: Path, count: int) -> None:
        """Take a file.

        Args:
            path: the file.
            count: how many frames it has.
        """
        self.path, self.name, self.stem, self.originals = path, str(path), path.stem, (path,)
        self.count: int | None = count
        self.fps = 1000 / _DEFAULT_MS
        self.left_out: list[LeftOut] = []

    def __iter__(self) -> Iterator[Picture]:
        try:
            read, animation = cv2.imdecodeanimation(np.frombuffer(self.path.read_bytes(), np.uint8))
        except (cv2.error, OSError) as error:
            raise InputError(f"{self.path}: the animation is damaged; copy it again") from error
        if not read:
            raise InputError(f"{self.path}: the animation is damaged; copy it again")
        time_ms = 0.0
        for index, (image, shown) in enumerate(zip(animation.frames, animation.durations, strict=False)):
            bgr = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR) if image.shape[2] == 4 else image
            yield Picture(index, time_ms, np.asarray(bgr, np.uint8))
            time_ms += float(shown) if shown > 0 else _DEFAULT_MS
