"""Writing the result files of one source so that they are complete or not there."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import atomic_path, unwritable, write_bytes_atomic
from cunet_deploy.drawing import Style, draw_into
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.frames import Frame
from cunet_deploy.media.plan import OutputPlan
from cunet_deploy.media.readers.video import FrameWriter, open_writer
from cunet_deploy.media.writers.annotations import CocoFile, PtsFiles
from cunet_deploy.media.writers.encode import Timeline
from cunet_deploy.media.writers.linefile import LineFile
from cunet_deploy.media.writers.records import csv_header, csv_lines, json_lines
from cunet_deploy.media.writers.window import Window
from cunet_deploy.skeletons import Skeleton

__all__ = ["Outputs"]

_LEAST_FREE_BYTES = 16 << 20
"""On the disk, while a video is written: what is needed to finish it so that it plays."""


class Outputs:
    """Writes the files of a plan. In ``with``: they get their names at the end, unless an error leaves the block.

    When writing fails, because the disk is full, the files can still be finished: leave the block without an error, and
    each holds what was written until then. A video that would not play is left out.

    Attributes:
        frames: written so far.
        draw_seconds: time spent drawing so far.
        write_seconds: time spent encoding and writing so far.
        closed: whether the window was closed by its user.
    """

    def __init__(
        self,
        plan: OutputPlan,
        skeleton: Skeleton,
        fps: float,
        *,
        named: bool,
        overwrite: bool,
        live: bool = False,
        style: Style | None = None,
        audio: Path | None = None,
        window: Window | None = None,
    ) -> None:
        """Check the files, without creating any.

        Args:
            plan: which files.
            skeleton: of the landmarks.
            fps: of the annotated video.
            named: whether frames come from image files, whose names are written.
            overwrite: whether to replace files that exist.
            live: whether frames of the video may be left out where they come faster than ``fps``.
            style: what is drawn.
            audio: a video whose sound is copied where there is an ffmpeg program.
            window: shows the annotated frames; then `write` has to be called in the main thread.

        Raises:
            InputError: a file exists and ``overwrite`` is false.
        """
        self._plan, self._skeleton, self._overwrite = plan, skeleton, overwrite
        self._named, self._style, self._window = named, style, window
        there = None if overwrite else plan.in_the_way()
        if there is not None:
            raise InputError(f"{there}: exists already; use --overwrite to replace it, or choose another name")
        self._files: list[AbstractContextManager[object]] = []
        self._jsonl = None if plan.jsonl is None else LineFile(plan.jsonl, overwrite=overwrite)
        self._csv = None if plan.csv is None else LineFile(plan.csv, overwrite=overwrite)
        self._coco = None if plan.coco is None else CocoFile(plan.coco, skeleton, overwrite=overwrite)
        self._pts = None if plan.pts is None else PtsFiles(plan.pts, overwrite=overwrite)
        self._video = None if plan.video is None else _VideoFile(plan.video, fps, live, audio, overwrite=overwrite)
        self._looked = 0.0
        self.frames = 0
        self.draw_seconds = 0.0
        self.write_seconds = 0.0
        self.closed = False

    def __enter__(self) -> Outputs:
        with ExitStack() as stack:  # closes what is open when a later file cannot be opened
            for file in (self._jsonl, self._csv, self._coco, self._video):
                if file is not None:
                    stack.enter_context(file)
                    self._files.append(file)
            if self._csv is not None:
                self._csv.write(csv_header(self._skeleton, named=self._named))
            stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Add a frame. For annotated pictures its own image is drawn into: pass a frame that nobody needs any more.

        Raises:
            CunetError: a file cannot be written.
        """
        start = time.perf_counter()
        try:
            self._write_records(frame)
            wrote = time.perf_counter()
            self.write_seconds += wrote - start
            if self._plan.draws or self._window is not None:
                image = self._drawn(frame)
                drew = time.perf_counter()
                self.draw_seconds += drew - wrote
                self._write_picture(frame, image)
                self.write_seconds += time.perf_counter() - drew
        except BrokenPipeError:  # nobody reads standard output any more
            raise
        except OSError as error:
            raise unwritable(error.filename or [Path("standard output"), *self._plan.files][-1], error) from error
        self.frames += 1

    def _write_records(self, frame: Frame) -> None:
        if self._jsonl is not None:
            self._jsonl.write(json_lines(frame))
        if self._csv is not None:
            self._csv.write(csv_lines(frame))
        if self._coco is not None:
            self._coco.write(frame)
        if self._pts is not None:
            self._pts.write(frame)
        if self._plan.stdout:
            sys.stdout.buffer.write(json_lines(frame).encode("utf-8"))
            sys.stdout.buffer.flush()

    def _drawn(self, frame: Frame) -> NDArray[np.uint8]:
        found = frame.landmarks
        image = np.require(frame.image, requirements=["C", "W"])  # a copy only of what cannot be drawn into
        draw_into(
            image,
            found.points,
            found.ids,
            found.skeleton,
            scores=found.scores,
            boxes=found.boxes,
            style=self._style,
        )
        return image

    def _write_picture(self, frame: Frame, image: NDArray[np.uint8]) -> None:
        if self._window is not None and not self._window.show(image):
            self.closed = True
        path = self._plan.numbered
        if self._video is not None:
            self._check_room(self._video.path)
            self._video.write(image, frame.time_ms)
        elif path is not None:
            self._write_image(path.with_name(path.name % frame.index), image)
        elif self._plan.images:
            self._write_image(self._plan.images[frame.index], image)

    def _write_image(self, path: Path, image: NDArray[np.uint8]) -> None:
        good, data = cv2.imencode(path.suffix, image)
        if not good:
            raise CunetError(f"{path}: OpenCV cannot write this kind of image; choose .png or .jpg")
        write_bytes_atomic(path, data.tobytes(), overwrite=self._overwrite)

    def _check_room(self, path: Path) -> None:
        """Once a second: stop while what was written can still be finished."""
        now = time.monotonic()
        if now - self._looked < 1:
            return
        self._looked = now
        free = shutil.disk_usage(path.resolve().parent).free
        if free < _LEAST_FREE_BYTES:
            raise CunetError(
                f"{path}: the disk is full but for {free >> 20} MiB, which finish what was written; free some space or "
                "choose another folder"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late: BaseException | None = None
        start = time.perf_counter()
        while self._files:
            file = self._files.pop()
            try:
                file.__exit__(kind, error, trace)
            except CunetError as failure:
                late = late or failure  # the others are finished all the same
            except BaseException as failure:  # noqa: BLE001  such as Ctrl-C; raised below
                late = failure
                kind, error, trace = type(failure), failure, failure.__traceback__
        self.write_seconds += time.perf_counter() - start
        if self._window is not None:
            self._window.close()
        # otherwise what went wrong first says more, unless this says it better
        if late is not None and (error is None or error in (late, late.__cause__)):
            raise late


class _VideoFile:
    """An annotated video that has its name when it is finished."""

    def __init__(self, path: Path, fps: float, live: bool, audio: Path | None, *, overwrite: bool) -> None:
        self.path = path
        self._fps, self._audio, self._overwrite = fps, audio, overwrite
        self._timeline = Timeline(fps, live=live)
        self._writer: FrameWriter | None = None
        self._last: NDArray[np.uint8] | None = None

    def write(self, image: NDArray[np.uint8], time_ms: float) -> None:
        """Append a frame where it belongs in time."""
        again, once = self._timeline.add(time_ms)
        if self._writer is None:
            size = (image.shape[1], image.shape[0])
            self._writer = open_writer(self._temporary, self._fps, size, name=self.path, audio=self._audio)
        for _ in range(again):
            self._writer.write(image if self._last is None else self._last)
        if once:
            self._writer.write(image)
        self._last = image

    def __enter__(self) -> _VideoFile:
        self._atomic = atomic_path(self.path, overwrite=self._overwrite)
        self._temporary = self._atomic.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, failure, playable = self._writer, error, False
        if writer is not None and error is not None:
            writer.abort()
        elif writer is not None:
            try:
                writer.close()
            except BaseException as caught:  # noqa: BLE001  raised below, when it is decided what becomes of the file
                failure = caught
            playable = writer.playable
        if error is None and playable and (failure is None or isinstance(failure, CunetError)):
            self._atomic.__exit__(None, None, None)
        else:
            self._drop(failure or InputError("no frame was written"))
        if failure is not None and failure is not error:
            raise failure

    def _drop(self, reason: BaseException) -> None:
        """Remove the temporary file."""
        self._atomic.__exit__(type(reason), reason, reason.__traceback__)
