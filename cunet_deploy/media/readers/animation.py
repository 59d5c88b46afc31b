"""Animated WebP, AVIF and PNG files, which are read as video. Their frames are few: all are decoded at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import LeftOut, Picture
from cunet_deploy.media.readers.heif import HeifItems, size_of_tracks, turned

__all__ = ["AnimatedImage"]

_DEFAULT_MS = 100.0
_MOST_PIXELS = 2 * 10**8
"""Limit for the pixels of all frames together, four bytes each: a small file may announce more than memory holds."""


class AnimatedImage:
    """An animation in an image file. Iterating raises `InputError` where it is damaged."""

    moving = True
    live = False

    def __init__(self, where: Path | bytes, count: int, *, name: str | None = None, stem: str | None = None) -> None:
        """Take a file.

        Args:
            where: the file, or its content.
            count: how many frames it has.
            name: what messages call it; ``None``: by its path, as all that follows.
            stem: what results are called after.
        """
        self._where = where
        self.originals = (where,) if isinstance(where, Path) else ()
        self.name = str(where) if name is None else name
        self.stem = Path(self.name).stem if stem is None else stem
        self.count: int | None = count
        self.fps = 1000 / _DEFAULT_MS
        self.left_out: list[LeftOut] = []

    def _check_size(self, data: bytes) -> None:
        width, height = _canvas(data)
        if width * height * (self.count or 1) > _MOST_PIXELS:
            shape = f"{self.count} frames of {width} x {height}"
            raise InputError(f"{self.name}: {shape} are too many to decode at once; convert it to a video")

    def __iter__(self) -> Iterator[Picture]:
        try:
            data = self._where if isinstance(self._where, bytes) else self._where.read_bytes()
            self._check_size(data)
            if not hasattr(cv2, "imdecodeanimation"):
                raise InputError(
                    f"{self.name}: OpenCV {cv2.__version__} decodes no animations; upgrade it, or convert the file to "
                    "a video"
                )
            read, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
        except (cv2.error, OSError) as error:
            raise InputError(f"{self.name}: the animation is damaged; copy it again") from error
        if not read:
            raise InputError(f"{self.name}: the animation is damaged; copy it again")
        time_ms, turns = 0.0, HeifItems(data).turns
        for index, (image, shown) in enumerate(zip(animation.frames, animation.durations, strict=False)):
            bgr = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR) if image.shape[2] == 4 else image
            yield Picture(index, time_ms, turned(np.asarray(bgr, np.uint8), turns))
            time_ms += float(shown) if shown > 0 else _DEFAULT_MS


def _canvas(data: bytes) -> tuple[int, int]:
    """Width and height by the header of a PNG, WebP or AVIF file; 0 where they are not known."""
    if data[:4] == b"\x89PNG" and data[12:16] == b"IHDR":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:4] == b"RIFF" and data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return size_of_tracks(data)  # that of the still picture beside them may be another
