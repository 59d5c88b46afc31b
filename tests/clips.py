"""Small video files of the kinds that people have; see `tools.clips`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from cunet_deploy.media.writers.video import VideoWriter
from tools.clips import make_clip, moving_square, spoil

__all__ = ["make_clip", "moving_square", "spoil", "write_animation", "write_clip", "write_gif"]


def write_clip(path: Path, count: int = 30, fps: float = 25) -> Path:
    """A clip as this package writes it: 160x120."""
    writer = VideoWriter(path, fps, (160, 120))
    for index in range(count):
        writer.write(moving_square(index))
    writer.close()
    return path


def write_animation(path: Path, count: int = 3) -> Path:
    """An animation, of the type that the suffix says, of 80x60."""
    animation = cv2.Animation()
    animation.frames = [moving_square(index, (80, 60)) for index in range(count)]
    animation.durations = [100 + 50 * index for index in range(count)]
    cv2.imwriteanimation(str(path), animation)
    return path


def write_gif(path: Path, count: int, size: int = 16, stated: Sequence[int] = range(99)) -> Path:
    """Written by hand: not every OpenCV writes animations. Frames in ``stated`` have durations."""
    pixels = size * size
    table = bytes(value for grey in range(128) for value in (grey * 2,) * 3)
    data = b"GIF89a" + size.to_bytes(2, "little") * 2 + bytes([0xF6, 0, 0]) + table
    for index in range(count):
        data += b"\x21\xf9\x04\x00\x0a\x00\x00\x00" if index in stated else b""
        data += b"\x2c" + bytes(4) + size.to_bytes(2, "little") * 2 + b"\x00"
        # 7-bit codes in bytes of their own: clear, then pixels in runs short enough that codes stay 8 bits wide
        codes = []
        for start in range(0, pixels, 100):
            codes += [128] + [(index * 15 + p) % 128 for p in range(start, min(start + 100, pixels))]
        body = bytes([*codes, 129])
        data += b"\x07" + b"".join(
            bytes([len(part)]) + part for part in (body[i : i + 255] for i in range(0, len(body), 255))
        )
        data += b"\x00"
    path.write_bytes(data + b"\x3b")
    return path
