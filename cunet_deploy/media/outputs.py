"""Result files of one source: what they are called, and writing them so that they are complete or not there."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TextIO

import cv2
import numpy as np

from cunet_deploy._files import atomic_path, write_bytes_atomic
from cunet_deploy.drawing import draw_into
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.frames import Frame
from cunet_deploy.media.images import IMAGE_SUFFIXES
from cunet_deploy.media.records import csv_header, csv_lines, json_lines
from cunet_deploy.media.sources import ImageFiles, Source
from cunet_deploy.media.video import WRITABLE_SUFFIXES, VideoWriter
from cunet_deploy.skeletons import Skeleton

__all__ = ["OutputPlan", "Outputs", "plan_outputs"]


@dataclass(frozen=True)
class OutputPlan:
    """Which files to write.

    Attributes:
        jsonl: JSON Lines, or ``None``.
        csv: CSV, or ``None``.
        video: annotated video, or ``None``.
        images: annotated image for each image file's path, in its order; empty for video or without drawing.
    """

    jsonl: Path | None
    csv: Path | None
    video: Path | None = None
    images: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All of them, pictures first."""
        single = [path for path in (self.video, self.jsonl, self.csv) if path is not None]
        return [*self.images, *single]


def plan_outputs(
    source: Source, out: str | Path | None, *, draw: bool = True, read: tuple[Path, ...] = ()
) -> OutputPlan:
    """Name the result files.

    Args:
        source: what is localized in.
        out: for a video ``out.mp4``, for an image ``out.png``: ``.jsonl`` and ``.csv`` go beside it; for several
            images, a folder; ``out.jsonl`` or ``out.csv`` writes that file alone; ``None`` takes names after the
            source, in the current folder.
        draw: whether to write annotated pictures.
        read: further files that are read and must not be replaced.

    Raises:
        InputError: the suffix does not fit the source, or a result would replace a file that is read.
    """
    path = None if out is None else Path(out)
    if path is not None and path.suffix.lower() in (".jsonl", ".csv"):
        alone = path.suffix.lower()
        plan = OutputPlan(path if alone == ".jsonl" else None, path if alone == ".csv" else None)
    elif isinstance(source, ImageFiles) and not source.single:
        plan = _folder_plan(source, path, draw=draw)
    else:
        plan = _file_plan(source, path, draw=draw)
    taken = {original.resolve() for original in (*source.originals, *read)} & {file.resolve() for file in plan.files}
    if taken:
        raise InputError(f"{min(taken)}: is read and would be replaced; choose another output with -o")
    return plan


def _folder_plan(source: ImageFiles, out: Path | None, *, draw: bool) -> OutputPlan:
    folder = Path("landmarks") if out is None else out
    if (folder.exists() and not folder.is_dir()) or folder.suffix.lower() in (*IMAGE_SUFFIXES, *WRITABLE_SUFFIXES):
        raise InputError(f"{folder}: several images are written to a folder; give one with -o DIR")
    names = [path.name for path in source.paths]
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if repeated:
        raise InputError(f"two images are called {min(repeated)}; localize in one folder at a time")
    images = tuple(folder / name for name in names) if draw else ()
    return OutputPlan(folder / "landmarks.jsonl", folder / "landmarks.csv", images=images)


def _file_plan(source: Source, out: Path | None, *, draw: bool) -> OutputPlan:
    video = source.moving
    suffix = ".mp4" if video else ".png"
    if out is None or out.is_dir():
        out = (out or Path()) / f"{source.stem}.landmarks{suffix}"
    accepted = WRITABLE_SUFFIXES if video else IMAGE_SUFFIXES
    if out.suffix.lower() not in accepted:
        what = "a video" if video else "an image"
        raise InputError(
            f"{out}: the source is {what}; the output may end in {', '.join((*accepted, '.jsonl', '.csv'))}"
        )
    records = OutputPlan(out.with_suffix(".jsonl"), out.with_suffix(".csv"))
    if not draw:
        return records
    return OutputPlan(records.jsonl, records.csv, out if video else None, () if video else (out,))


class Outputs:
    """Writes the files of a plan. In ``with``: they get their names at the end, unless an error leaves the block.

    Attributes:
        draw_seconds: time spent drawing so far.
        write_seconds: time spent encoding and writing so far.
    """

    def __init__(self, plan: OutputPlan, skeleton: Skeleton, fps: float, *, named: bool, overwrite: bool) -> None:
        """Check the files, without creating any.

        Args:
            plan: which files.
            skeleton: of the landmarks.
            fps: of the annotated video.
            named: whether frames come from image files, whose names are written.
            overwrite: whether to replace files that exist.

        Raises:
            InputError: a file exists and ``overwrite`` is false.
        """
        self._plan, self._skeleton, self._fps = plan, skeleton, fps
        self._named, self._overwrite = named, overwrite
        for path in plan.files:
            if path.exists() and not overwrite:
                raise InputError(f"{path}: exists already; use --overwrite to replace it, or choose another name")
        self._stack = ExitStack()
        self._jsonl: TextIO | None = None
        self._csv: TextIO | None = None
        self._video_path: Path | None = None
        self._video: VideoWriter | None = None
        self.draw_seconds = 0.0
        self.write_seconds = 0.0

    def __enter__(self) -> Outputs:
        with ExitStack() as stack:  # closes what is open when a later file cannot be opened
            if self._plan.jsonl is not None:
                self._jsonl = self._open_text(stack, self._plan.jsonl)
            if self._plan.csv is not None:
                self._csv = self._open_text(stack, self._plan.csv)
                self._csv.write(csv_header(self._skeleton, named=self._named))
            if self._plan.video is not None:
                self._video_path = stack.enter_context(atomic_path(self._plan.video, overwrite=self._overwrite))
            self._stack = stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Add a frame. For annotated pictures its own image is drawn into: pass a frame that nobody needs any more.

        Raises:
            CunetError: a file cannot be written.
        """
        start = time.perf_counter()
        if self._jsonl is not None:
            self._jsonl.write(json_lines(frame))
        if self._csv is not None:
            self._csv.write(csv_lines(frame))
        wrote = time.perf_counter()
        self.write_seconds += wrote - start
        if self._video_path is None and not self._plan.images:
            return
        found = frame.landmarks
        image = np.require(frame.image, requirements=["C", "W"])  # a copy only of what cannot be drawn into
        draw_into(image, found.points, found.ids, found.skeleton)
        drew = time.perf_counter()
        self.draw_seconds += drew - wrote
        if self._video_path is not None:
            if self._video is None:
                size = (image.shape[1], image.shape[0])
                self._video = VideoWriter(self._video_path, self._fps, size, name=self._plan.video)
            self._video.write(image)
        else:
            path = self._plan.images[frame.index]
            good, data = cv2.imencode(path.suffix, image)
            if not good:
                raise CunetError(f"{path}: OpenCV cannot write this kind of image; choose .png or .jpg")
            write_bytes_atomic(path, data.tobytes(), overwrite=self._overwrite)
        self.write_seconds += time.perf_counter() - drew

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._video is not None:
                start = time.perf_counter()
                self._video.close()
                self.write_seconds += time.perf_counter() - start
        except CunetError as failure:
            if error is None:  # otherwise what went wrong first says more
                self._stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)

    def _open_text(self, stack: ExitStack, path: Path) -> TextIO:
        temporary = stack.enter_context(atomic_path(path, overwrite=self._overwrite))
        return stack.enter_context(temporary.open("w", encoding="utf-8", newline="\n"))
