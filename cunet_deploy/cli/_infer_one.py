"""``cunet-deploy infer`` with one source: localize, draw and write until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cunet_deploy._files import file_sha256
from cunet_deploy.cli._infer_record import Record
from cunet_deploy.cli._interrupts import interrupt_flag
from cunet_deploy.cli._watch import Tally, watching
from cunet_deploy.errors import CunetError, InputError

if TYPE_CHECKING:
    from cunet_deploy.localizer import Localizer
    from cunet_deploy.media import Frame, OutputPlan, Outputs, Source
    from cunet_deploy.tracking.one_euro import Smoothing

__all__ = ["Request", "Run", "run_one"]


@dataclass(frozen=True)
class Request:
    """The options of the command, as they were given."""

    sources: tuple[str, ...]
    model: str
    detector: str | None
    smooth: str
    out: str | None
    formats: tuple[str, ...] | None
    draw: tuple[str, ...] | None
    no_draw: bool
    show: bool
    progress: str
    size: str | None
    timeout: float
    reconnect: float
    frames: int | None
    backend: str | None
    trust: bool
    licence: str | None
    threads: int | None
    overwrite: bool
    resume: bool
    workers: int

    def open(self) -> Localizer:
        """Load the networks."""
        from cunet_deploy.localizer import Localizer

        return Localizer(
            self.model,
            threads=self.threads,
            detector=self.detector,
            backend=self.backend,
            trust=self.trust,
            licence=self.licence,
        )

    @property
    def read(self) -> tuple[Path, ...]:
        """Files beside the sources that are read, and must not be replaced."""
        from cunet_deploy.detection.open import named_files  # loads numpy

        return Path(self.model), *named_files(self.detector)

    @cached_property
    def options(self) -> dict[str, object]:
        """Options on which results depend beside their source; of files the SHA-256.

        Raises:
            InputError: there is no such model or detector.
        """
        from cunet_deploy.detection.open import named_files
        from cunet_deploy.licences import wanted_licence
        from cunet_deploy.sessions import model_file
        from cunet_deploy.sessions.registry import default_backend

        network = model_file(self.model, self.backend)
        given = [path if path.is_file() else model_file(path) for path in named_files(self.detector)]
        kind = (self.detector or f"usual for licence {wanted_licence(self.licence)}").partition(":")
        return {
            "model of SHA-256": file_sha256(network),
            "backend": self.backend or default_backend(network.suffix).name,
            "detector": kind[0] if kind[1] or not given else "model",
            "detector of SHA-256": [file_sha256(path) for path in given],
            "smooth": self.smooth,
            "frames": self.frames,
            "draw": None if self.draw is None else sorted(self.draw),
        }

    def check_smoothing(self, source: Source) -> None:
        """Refuse smoothing that needs the source twice where it comes once."""
        if self.smooth == "both-ways" and (source.live or source.name == "stdin"):
            raise InputError(
                "--smooth both-ways reads a file twice, which a camera, stream or pipe cannot give; leave it out"
            )


@dataclass(frozen=True)
class Run:
    """Outcome of one source.

    Attributes:
        line: the summary.
        failure: why it ended early, or ``None``.
        remark: on the licence of the weights, or empty.
    """

    line: str
    failure: CunetError | KeyboardInterrupt | None
    remark: str


def run_one(localizer: Localizer, source: Source, name: str, plan: OutputPlan, asked: Request) -> Run:
    """Localize in a source and write its results.

    Args:
        localizer: the network.
        source: open.
        name: what the summary calls it.
        plan: which files.
        asked: the options.

    Raises:
        CunetError: nothing was done at all.
    """
    from cunet_deploy.media import ImageFiles
    from cunet_deploy.tracking.one_euro import Smoothing
    from cunet_deploy.zoo import research_remark

    steady = Smoothing(both_ways=True) if asked.smooth == "both-ways" else asked.smooth == "one-euro"
    tally = Tally(_total(source, asked.frames), source.live)
    outputs = _outputs(localizer, source, plan, asked)
    record = Record(plan, name, source.originals, asked)
    failure = _run(localizer, source, outputs, plan, tally, asked, steady)
    stopped = isinstance(failure, KeyboardInterrupt) or (failure is None and outputs.closed)
    whole = source.live if stopped else failure is None  # nobody but its user ends a live source
    if not whole:
        plan.mark_unfinished()
    elif source.moving or (isinstance(source, ImageFiles) and not source.single):  # a single image is done as fast
        try:
            record.keep(0 if source.moving else len(source.left_out))
        except CunetError as error:
            failure = failure or error
    if failure is None and source.left_out and not source.moving:
        failure = CunetError(f"{len(source.left_out)} images were left out; the others are done")
    return Run(tally.line(name, outputs, plan), failure, research_remark(*localizer.manifests) or "")


def _total(source: Source, limit: int | None) -> int | None:
    """Number of frames to come, if known."""
    return min(source.count, limit) if source.count is not None and limit is not None else source.count or limit


def _outputs(localizer: Localizer, source: Source, plan: OutputPlan, asked: Request) -> Outputs:
    from cunet_deploy.drawing import Style
    from cunet_deploy.media import Outputs, VideoFile, Window

    style = Style() if asked.draw is None else Style.of(asked.draw)
    return Outputs(
        plan,
        localizer.manifest.skeleton,
        source.fps,
        named=not source.moving,
        overwrite=asked.overwrite or asked.resume,
        style=replace(style, visible_score=localizer.manifest.visible_score),
        audio=source.path if isinstance(source, VideoFile) else None,
        left_out=source.left_out,
        window=Window(f"cunet-deploy {asked.sources[0]}") if asked.show else None,
    )


def _run(
    localizer: Localizer,
    source: Source,
    outputs: Outputs,
    plan: OutputPlan,
    tally: Tally,
    asked: Request,
    smooth: bool | Smoothing,
) -> CunetError | KeyboardInterrupt | None:
    """Localize and write until the source ends or is lost, writing fails, or Ctrl-C; then what is done so far is kept.

    Returns:
        Why it ended early, or ``None``.
    """
    failure: CunetError | KeyboardInterrupt | None = None
    with interrupt_flag() as interrupted:  # around all: Ctrl-C while the files are finished must not lose them
        try:
            with outputs, watching(asked.progress, tally) as update:
                frames = localizer.stream(source, follow=source.moving, smooth=smooth, stop=interrupted)
                # threads are not worth it for one image, and a window belongs to the main thread
                depth = plan.depth if not asked.show and (source.moving or source.count != 1) else 0
                try:
                    _pump(frames, outputs, tally, update, lambda: interrupted.is_set() or outputs.closed, asked, depth)
                except CunetError as error:
                    if not outputs.frames:
                        raise
                    failure = error
                if interrupted.is_set() and not tally.frames:
                    raise KeyboardInterrupt
        except CunetError as error:
            if not outputs.frames:
                raise
            failure = failure or error  # of finishing the files
        tally.elapsed = time.perf_counter() - tally.begun
        return KeyboardInterrupt() if interrupted.is_set() else failure


def _pump(
    frames: Generator[Frame, None, None],
    outputs: Outputs,
    tally: Tally,
    update: Callable[[], None],
    ended: Callable[[], bool],
    asked: Request,
    depth: int,
) -> None:
    """Take frames and hand them to the outputs, in a thread for which ``depth`` may wait; 0: without."""
    from cunet_deploy.media import WriteBehind

    writer = WriteBehind(outputs.write, depth)
    try:
        with closing(frames), writer:
            while not ended() and tally.frames != asked.frames:
                start = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                tally.read += time.perf_counter() - start - frame.seconds
                writer.put(frame)
                tally.add(frame)
                update()
    finally:
        writer.stop()
