"""``cunet-deploy infer``."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from cunet_deploy.cli._options import backend_options, overwrite_option, progress, resolve_backend
from cunet_deploy.errors import CunetError
from cunet_deploy.zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from cunet_deploy.localizer import Localizer
    from cunet_deploy.media import Frame, Outputs, Source
    from cunet_deploy.runtime.smooth import Smoothing

__all__ = ["command"]


@click.command("infer")
@click.argument("source", metavar="SOURCE")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, metavar="NAME|PATH", help="Released model or file.")
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), metavar="OUT", help="Where to write; see above."
)
@click.option(
    "--detector",
    metavar="NAME|PATH|full|boxes:FILE|yunet:FILE|onnx:FILE",
    help="Where to look: a model that finds boxes, a search of whole frames for one large object, given boxes, "
    "OpenCV's YuNet, or any ONNX detector.  [default: what the model names, face-detect-s for faces]",
)
@click.option(
    "--smooth",
    type=click.Choice(["one-euro", "both-ways", "off"]),
    default="one-euro",
    show_default=True,
    help="Steady landmarks in video: as frames come, or forwards and backwards over the whole file, without lag.",
)
@click.option("--no-draw", is_flag=True, help="Write landmarks only, no annotated picture or video.")
@backend_options
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="CPU threads of the network; decoding, drawing and encoding run beside it.  [default: half, at most 4]",
)
@overwrite_option
def command(
    source: str,
    model: str,
    out: Path | None,
    detector: str | None,
    smooth: str,
    no_draw: bool,
    backend: str | None,
    trust: bool,
    threads: int | None,
    overwrite: bool,
) -> None:
    """Find landmarks in SOURCE: an image, a folder or pattern of images, a video or an animated GIF.

    Writes the annotated picture or video, the landmarks as JSON Lines and as CSV: `-o out.mp4` writes out.mp4,
    out.jsonl and out.csv. Several images go to a folder, `-o DIR`. `-o out.jsonl` or `-o out.csv` writes that file
    alone. Without -o, files are called after the source, in the current folder.

    In video a found object is followed from frame to frame. Ctrl-C stops early and keeps the finished part.

    \b
    Examples:
      cunet-deploy infer portrait.jpg -o out.jpg
      cunet-deploy infer clip.mp4 -o out.mp4 --detector yunet:face_detection_yunet.onnx
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # OpenCV's remarks would break the progress bar
    import cv2  # these load OpenCV and ONNX Runtime, which --help does not need

    from cunet_deploy.cpu import available_cpus
    from cunet_deploy.localizer import Localizer
    from cunet_deploy.media import Outputs, open_source, plan_outputs
    from cunet_deploy.runtime.smooth import Smoothing

    # more threads than that do not speed up small networks, and take the processors from decoding and encoding
    threads = threads or min(max(available_cpus() // 2, 1), 4)
    cv2.setNumThreads(threads)
    opened = open_source(source)
    read = [Path(model)] if detector is None else [Path(model), Path(detector.partition(":")[2] or detector)]
    plan = plan_outputs(opened, out, draw=not no_draw, read=tuple(read))
    steady = Smoothing(both_ways=True) if smooth == "both-ways" else smooth == "one-euro"
    backend = resolve_backend(model, backend, threads)
    with Localizer(model, threads=threads, detector=detector, backend=backend, trust=trust) as localizer:
        outputs = Outputs(plan, localizer.manifest.skeleton, opened.fps, named=not opened.moving, overwrite=overwrite)
        tally = _Tally()
        failure = _run(localizer, opened, outputs, tally, steady)
    click.echo(tally.line(source, outputs, plan.files))
    if failure is not None:
        raise failure


@dataclass
class _Tally:
    """What was done so far; seconds are wall time of the main thread.

    Attributes:
        frames: done.
        found: of them, with at least one object.
        localize: seconds spent on finding landmarks.
        read: seconds of waiting for the next frame, which is decoded in another thread.
        elapsed: seconds in all.
    """

    frames: int = 0
    found: int = 0
    localize: float = 0.0
    read: float = 0.0
    elapsed: float = 0.0

    def add(self, frame: Frame) -> None:
        """Count a frame that was localized."""
        self.frames += 1
        self.found += len(frame.landmarks) > 0
        self.localize += frame.seconds

    def line(self, source: str, outputs: Outputs, files: list[Path]) -> str:
        """The summary."""
        stages = {
            "read": self.read,
            "localize": self.localize,
            "draw": outputs.draw_seconds,
            "write": outputs.write_seconds,
        }
        times = ", ".join(f"{name} {seconds / self.frames * 1000:.1f}" for name, seconds in stages.items())
        names = [str(path) for path in files]
        shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} files in {files[-1].parent}"
        fps = self.frames / max(self.read + self.localize, 1e-9)  # drawing and encoding run beside it
        all_fps = self.frames / max(self.elapsed, 1e-9)
        return (
            f"{source}: {self.frames} frames, {self.found} with landmarks, {all_fps:.0f} fps, "
            f"{fps:.0f} fps without drawing and encoding (ms a frame: {times}); wrote {shown}"
        )


def _run(
    localizer: Localizer,
    source: Source,
    outputs: Outputs,
    tally: _Tally,
    smooth: bool | Smoothing,
) -> CunetError | KeyboardInterrupt | None:
    """Localize and write until the source ends, breaks off, or Ctrl-C; then what is done so far is kept.

    Returns:
        Why it ended early, or ``None``.
    """
    from cunet_deploy.media import DEPTH, WriteBehind

    begun = time.perf_counter()
    failure: CunetError | KeyboardInterrupt | None = None
    with _interrupt_flag() as interrupted:  # around all: Ctrl-C while the files are finished must not lose them
        with outputs, progress("{task.fields[fps]:.0f} fps") as bar:
            task = bar.add_task("infer", total=source.count, fps=0.0)
            frames = localizer.stream(source, follow=source.moving, smooth=smooth)
            depth = 0 if not source.moving and source.count == 1 else DEPTH  # threads are not worth it for one image
            with closing(frames), WriteBehind(outputs.write, depth) as writer:
                while not interrupted.is_set():
                    start = time.perf_counter()
                    try:
                        frame = next(frames)
                    except StopIteration:
                        break
                    except CunetError as error:
                        if not tally.frames:
                            raise
                        failure = error
                        break
                    tally.read += time.perf_counter() - start - frame.seconds
                    writer.put(frame)
                    tally.add(frame)
                    bar.update(task, completed=tally.frames, fps=tally.frames / (time.perf_counter() - begun))
            if interrupted.is_set() and not tally.frames:
                raise KeyboardInterrupt
        tally.elapsed = time.perf_counter() - begun
        return KeyboardInterrupt() if interrupted.is_set() else failure


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """Within the block Ctrl-C or SIGTERM sets a flag, which takes effect between frames; the second one raises."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield flag
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
