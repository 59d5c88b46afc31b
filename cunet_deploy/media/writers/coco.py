"""Results as a COCO keypoints file.

It has ``images``, ``annotations`` and ``categories``, as ``pycocotools`` loads it; see `Landmarks.to_coco`. The ``id``
of an image is the frame's number. What could not be read stands in the list ``left_out`` of ``info``.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

from cunet_deploy._files import unwritable
from cunet_deploy.landmarks import coco_category
from cunet_deploy.media.frames import Frame, LeftOut
from cunet_deploy.media.writers.linefile import LineFile
from cunet_deploy.skeletons import Skeleton

__all__ = ["CocoFile"]


class CocoFile:
    """A COCO keypoints file; it grows on the disk and not in memory. In ``with``, as `LineFile`."""

    def __init__(self, path: Path, skeleton: Skeleton, *, overwrite: bool, visible_score: float | None = None) -> None:
        """Choose a file; it is created when the block is entered."""
        self._path, self._skeleton, self._visible_score = path, skeleton, visible_score
        self._file = LineFile(path, overwrite=overwrite)
        self._stack = ExitStack()
        self._annotations = self._images = 0
        self._left_out: list[LeftOut] = []
        self._spool: IO[str]

    def write(self, frame: Frame) -> None:
        """Add a frame.

        Raises:
            CunetError: the file cannot be written.
        """
        found, first = frame.landmarks, self._annotations + 1
        for annotation in found.to_coco(frame.index, first, visible_score=self._visible_score):
            self._file.add(",\n" * (self._annotations > 0) + json.dumps(annotation))
            self._annotations += 1
        try:
            text = json.dumps(frame.to_coco_image(), ensure_ascii=False)
            self._spool.write(",\n" * (self._images > 0) + text)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._images += 1

    def leave_out(self, item: LeftOut) -> None:
        """Note what gave no picture."""
        self._left_out.append(item)

    def __enter__(self) -> CocoFile:
        with ExitStack() as stack:
            stack.enter_context(self._file)
            # beside the file and not in a folder for temporary files, which may be memory
            self._spool = stack.enter_context(
                tempfile.TemporaryFile("w+", encoding="utf-8", dir=self._path.resolve().parent)
            )
            self._file.add('{"annotations": [\n')
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
        self._file.add(f'\n],\n"categories": [{category}],\n"images": [\n')
        try:
            self._spool.seek(0)
            for line in self._spool:
                self._file.add(line)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._file.add("\n]")
        if self._left_out:
            rows = [
                {"frame": item.index, "frames": item.count, "time_ms": round(item.time_ms, 3), "error": item.reason}
                | ({"file_name": item.name} if item.name else {})
                for item in self._left_out
            ]
            self._file.add(f',\n"info": {json.dumps({"left_out": rows}, ensure_ascii=False)}')
        self._file.add("}\n")
