"""Frames as plain bytes from a pipe, for programs that decode on their own, FFmpeg first of all.

ffmpeg -loglevel error -i clip.mp4 -f rawvideo -pix_fmt bgr24 -s 640x480 - | cunet-deploy infer - --size 640x480@30
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.frames import FrameSize, LeftOut, Picture

__all__ = ["RawFrames", "open_stdin"]

_USUAL_FPS = 30.0


class _Bytes(Protocol):
    def readinto(self, buffer: memoryview, /) -> int | None: ...


class RawFrames:
    """Frames of one size, each as height times width times B, G, R. Nothing is dropped: the pipe holds its writer back.

    Iterating raises `CunetError` when the last frame is not whole, and `InputError` when there is none.

    Attributes:
        fps: as given, else 30; it makes the frames' times.
        stem: what result files are called after.
    """

    moving = True
    live = False
    count: int | None = None
    originals: tuple[Path, ...] = ()
    name = stem = "stdin"

    def __init__(self, stream: _Bytes, size: FrameSize) -> None:
        """Take bytes.

        Args:
            stream: an unbuffered or buffered binary file.
            size: of the frames.
        """
        self._stream, self._size = stream, size
        self.left_out: list[LeftOut] = []
        self.fps = size.fps or _USUAL_FPS

    def __iter__(self) -> Iterator[Picture]:
        index = 0
        while True:
            image = np.empty((self._size.height, self._size.width, 3), np.uint8)
            room = image.reshape(-1).data
            got = 0
            while got < len(room) and (count := self._stream.readinto(room[got:])):
                got += count
            if got < len(room):
                self._check_end(got, len(room), index)
                return
            yield Picture(index, index * 1000 / self.fps, image)
            index += 1

    def _check_end(self, got: int, whole: int, frames: int) -> None:
        size = f"{self._size.width}x{self._size.height}"
        if not frames:
            raise InputError(
                f"stdin: ended after {got} bytes, and frames of {size} have {whole}; check the size and the writer",
                option="size",
            )
        if got:
            raise CunetError(
                f"stdin: breaks off within frame {frames + 1}, at byte {got} of {whole}; check the size and the writer",
                option="size",
            )


def open_stdin(size: FrameSize | None) -> RawFrames:
    """Frames from standard input.

    Raises:
        InputError: no size is given, or standard input is closed or a terminal.
    """
    if size is None:
        raise InputError("raw frames on stdin have no size of their own; give it, as WIDTHxHEIGHT@FPS", option="size")
    if sys.__stdin__ is None:
        raise InputError("stdin is closed; pipe bgr24 frames into it")
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):  # replaced by something in memory
        return RawFrames(cast("io.BufferedReader", sys.stdin.buffer), size)
    if os.isatty(number):
        raise InputError(
            "stdin is a terminal; pipe bgr24 frames into it, from `ffmpeg ... -f rawvideo -pix_fmt bgr24 -`"
        )
    # unbuffered: a thread that waits in a buffered file holds its lock, and Python cannot end then
    return RawFrames(os.fdopen(number, "rb", buffering=0, closefd=False), size)
