"""Results as the ``.pts`` files of 300-W: the landmarks of one object each, pixels counted from 1."""

from __future__ import annotations

from pathlib import Path

from cunet_deploy._files import write_text_atomic
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import format_pts
from cunet_deploy.media.frames import Frame, LeftOut
from cunet_deploy.media.writers.base import ResultWriter

__all__ = ["PtsFiles"]


class PtsFiles(ResultWriter):
    """One ``.pts`` file for each object of each frame, written at once."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Choose where to write.

        Args:
            path: a folder; or, with the suffix ``.pts``, the file of a single image.
            overwrite: whether to replace files that exist.
        """
        self._path, self._overwrite = path, overwrite
        self._written: set[Path] = set()

    def leave_out(self, item: LeftOut) -> None:
        """Nothing: there is no file where there is no object."""

    def write(self, frame: Frame) -> None:
        """Write the files of a frame: ``STEM.pts`` for one object, ``STEM_1.pts`` and so on for several.

        ``STEM`` is that of the image file, or ``frame_000012``.

        Raises:
            InputError: a file exists, or two images give files of one name.
            CunetError: a file cannot be written.
        """
        if self._path.suffix.lower() == ".pts":
            base = self._path.with_suffix("")
        else:
            base = self._path / (Path(frame.name).stem if frame.name else f"frame_{frame.index:06d}")
        texts = [format_pts(points) for points in frame.landmarks.points]
        for number, text in enumerate(texts, 1):
            path = base.with_name(f"{base.name}_{number}.pts" if len(texts) > 1 else f"{base.name}.pts")
            if path in self._written:
                raise InputError(f"{path}: two images have landmarks for this file; localize in one of them at a time")
            write_text_atomic(path, text, overwrite=self._overwrite)
            self._written.add(path)
