"""Results as annotations of other tools: COCO keypoints, and the ``.pts`` files of 300-W.

A COCO file has ``images``, ``annotations`` and ``categories``, as ``pycocotools`` loads it; see `Landmarks.to_coco`.
The ``id`` of an image is the frame's number. A ``.pts`` file has the landmarks of one object and counts pixels from 1.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

from cunet_deploy._files import unwritable, write_text_atomic
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks, coco_category
from cunet_deploy.media.frames import Frame
from cunet_deploy.media.writers.linefile import LineFile
from cunet_deploy.skeletons import Skeleton

__all__ = ["CocoFile", "PtsFiles", "pts_text"]


class CocoFile:
    """A COCO keypoints file; it grows on the disk and not in memory. In ``with``, as `LineFile`."""

    def __init__(self, path: Path, skeleton: Skeleton, *, overwrite: bool) -> None:
        """Choose a file; it is created when the block is entered."""
        self._path, self._skeleton = path, skeleton
        self._file = LineFile(path, overwrite=overwrite)
        self._stack = ExitStack()
        self._annotations = self._images = 0
        self._spool: IO[str]

    def write(self, frame: Frame) -> None:
        """Add a frame.

        Raises:
            CunetError: the file cannot be written.
        """
        for annotation in frame.landmarks.to_coco(frame.index, self._annotations + 1):
            self._file.write(",\n" * (self._annotations > 0) + json.dumps(annotation))
            self._annotations += 1
        try:
            text = json.dumps(frame.to_coco_image(), ensure_ascii=False)
            self._spool.write(",\n" * (self._images > 0) + text)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._images += 1

    def __enter__(self) -> CocoFile:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            # beside the file and not in a folder for temporary files, which may be memory
            self._spool = stack.enter_context(
                tempfile.TemporaryFile("w+", encoding="utf-8", dir=self._path.resolve().parent)
            )
            self._file.write('{"annotations": [\n')
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._end()
            except Exception as failure:
                self._stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)

    def _end(self) -> None:
        """Close the list of annotations, and copy that of images behind it."""
        category = json.dumps(coco_category(self._skeleton), ensure_ascii=False)
        self._file.write(f'\n],\n"categories": [{category}],\n"images": [\n')
        try:
            self._spool.seek(0)
            for line in self._spool:
                self._file.write(line)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._file.write("\n]}\n")


class PtsFiles:
    """One ``.pts`` file for each object of each frame, written at once."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Choose where to write.

        Args:
            path: a folder; or, with the suffix ``.pts``, the file of a single image.
            overwrite: whether to replace files that exist.
        """
        self._path, self._overwrite = path, overwrite
        self._written: set[Path] = set()

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
        texts = pts_text(frame.landmarks)
        for number, text in enumerate(texts, 1):
            path = base.with_name(f"{base.name}_{number}.pts" if len(texts) > 1 else f"{base.name}.pts")
            if path in self._written:
                raise InputError(f"{path}: two images have landmarks for this file; localize in one of them at a time")
            write_text_atomic(path, text, overwrite=self._overwrite)
            self._written.add(path)


def pts_text(landmarks: Landmarks) -> list[str]:
    """The content of each object's ``.pts`` file, which counts pixels from 1."""
    head = f"version: 1\nn_points: {len(landmarks.skeleton)}\n{{\n"
    points = (landmarks.points.astype(float) + 1).tolist()
    return [head + "".join(f"{x:.3f} {y:.3f}\n" for x, y in one) + "}\n" for one in points]
