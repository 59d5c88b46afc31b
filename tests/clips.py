"""Small video files of the kinds that people have; see `tools.clips`."""

from __future__ import annotations

from pathlib import Path

from cunet_deploy.media.writers.video import VideoWriter
from tools.clips import make_clip, moving_square, spoil

__all__ = ["make_clip", "moving_square", "spoil", "write_clip"]


def write_clip(path: Path, count: int = 30, fps: float = 25) -> Path:
    """A clip as this package writes it: 160x120."""
    writer = VideoWriter(path, fps, (160, 120))
    for index in range(count):
        writer.write(moving_square(index))
    writer.close()
    return path
