"""Writing the result files of one source so that they are complete or not there."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import atomic_path, unwritable, write_bytes_atomic
from cunet_deploy.drawing import Style, draw_into
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.frames import Frame, LeftOut
from cunet_deploy.media.plan import OutputPlan
from cunet_deploy.media.writers.base import ResultWriter, WriteOptions
from cunet_deploy.media.writers.formats import FORMATS
from cunet_deploy.media.writers.jsonl import StandardOutput
from cunet_deploy.media.writers.video import VideoWriter
from cunet_deploy.media.writers.window import Window
from cunet_deploy.skeletons import Skeleton

__all__ = ["Outputs"]

_LOG = logging.getLogger(__name__)

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
        style: Style | None = None,
        audio: Path | None = None,
        window: Window | None = None,
        left_out: Sequence[LeftOut] = (),
    ) -> None:
        """Check the files, without creating any.

        Args:
            plan: which files.
            skeleton: of the landmarks.
            fps: of the annotated video, where its kind of file has a constant rate.
            named: whether frames come from image files, whose names are written.
            overwrite: whether to replace files that exist.
            style: what is drawn.
            audio: a video whose sound is copied.
            window: shows the annotated frames; then `write` has to be called in the main thread.
            left_out: of the source, see `cunet_deploy.media.Source`: what comes into it is written too.

        Raises:
            InputError: a file exists, or one that an earlier run did not finish, and ``overwrite`` is false.
        """
        self._plan, self._overwrite, self._style, self._window = plan, overwrite, style, window
        there = None if overwrite else plan.in_the_way()
        if there is not None:
            raise InputError(f"{there}: exists already; choose another name, or overwrite it", option="overwrite")
        left = plan.unfinished()
        if left and not overwrite:
            empty = left[0].stat().st_size == 0  # the mark of a run that stopped early, see `mark_unfinished`
            what = (
                "a run that stopped early"
                if empty
                else "a run that did not end, and holds what it had done; rename it to keep it"
            )
            raise InputError(f"{left[0]}: was left by {what}, or overwrite it", option="overwrite")
        for path in left:
            _LOG.warning("%s: was left by a run that did not end, and is replaced", path)
        options = WriteOptions(skeleton, named, overwrite, None if style is None else style.visible_score)
        self._writers: list[ResultWriter] = [FORMATS[name].open(path, options) for name, path in plan.records.items()]
        if plan.stdout:
            self._writers.append(StandardOutput())
        self._video = None if plan.video is None else _VideoFile(plan.video, fps, audio, overwrite=overwrite)
        self._files: list[AbstractContextManager[object]] = []
        self._left_out, self._left_out_written = left_out, 0
        self._looked = 0.0
        self.frames = 0
        self.draw_seconds = 0.0
        self.write_seconds = 0.0
        self.closed = False

    def __enter__(self) -> Outputs:
        with ExitStack() as stack:  # closes what is open when a later file cannot be opened
            files: list[AbstractContextManager[object]] = [*self._writers]
            files += [] if self._video is None else [self._video]
            for file in files:
                stack.enter_context(file)
                self._files.append(file)
            stack.pop_all()
        return self

    def write(self, frame: Frame) -> None:
        """Add a frame. For annotated pictures its own image is drawn into: pass a frame that nobody needs any more.

        Raises:
            CunetError: a file cannot be written.
        """
        start = time.perf_counter()
        try:
            self._write_left_out(frame.index)
            for writer in self._writers:
                writer.write(frame)
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

    def _write_left_out(self, before: int | None = None) -> None:
        """Write what gave no picture before a frame of that number, or all."""
        for item in self._left_out[self._left_out_written :]:
            if before is not None and item.index > before:
                return
            for writer in self._writers:
                writer.leave_out(item)
            self._left_out_written += 1

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
        try:
            good, data = cv2.imencode(path.suffix, image)
        except cv2.error:
            good = False
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
        if error is None:
            try:
                self._write_left_out()
            except CunetError as failure:
                late = failure
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

    def __init__(self, path: Path, fps: float, audio: Path | None, *, overwrite: bool) -> None:
        self.path = path
        self._fps, self._audio, self._overwrite = fps, audio, overwrite
        self._writer: VideoWriter | None = None

    def write(self, image: NDArray[np.uint8], time_ms: float) -> None:
        """Append a frame where it belongs in time."""
        if self._writer is None:
            size = (image.shape[1], image.shape[0])
            self._writer = VideoWriter(self._temporary, self._fps, size, name=self.path, audio=self._audio)
        self._writer.write(image, time_ms)

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
                writer.abort()
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
