"""``cunet-deploy infer``."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cunet_deploy.cli._options import backend_options, detector_option, overwrite_option, resolve_backend
from cunet_deploy.cli._watch import Tally, say_left_out, watching
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from cunet_deploy.localizer import Localizer
    from cunet_deploy.media import Frame, OutputPlan, Outputs, Source
    from cunet_deploy.tracking.one_euro import Smoothing

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])


def _parts(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """``a,b`` as a tuple."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


def _source_options(function: F) -> F:
    """How cameras and streams are opened, and when to stop."""
    size = click.option(
        "--size",
        metavar="WxH[@FPS]",
        help="What to ask a camera for, such as 640x480@30; the size of raw frames on stdin, which need it.",
    )
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="A stream that gives nothing for that long is lost.",
    )
    reconnect = click.option(
        "--reconnect",
        type=click.FloatRange(min=0),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="A camera or stream that is lost is tried again for that long; 0: not at all.",
    )
    frames = click.option("--frames", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
    return size(timeout(reconnect(frames(function))))


def _result_options(function: F) -> F:
    """What is written, drawn and shown."""
    out = click.option("-o", "--output", "out", metavar="OUT", help="Where to write; see above.")
    formats = click.option(
        "--format",
        "formats",
        metavar="LIST",
        callback=_parts,
        help="Files with landmarks beside the picture or video, of jsonl, csv, coco (COCO keypoints) and pts (300-W, "
        "one file for each object).  [default: jsonl,csv]",
    )
    draw = click.option(
        "--draw",
        metavar="LIST",
        callback=_parts,
        help="What is drawn, of points, lines, ids, scores and box.  [default: points,lines, and ids where there are "
        "several objects]",
    )
    no_draw = click.option("--no-draw", is_flag=True, help="Write landmarks only, no annotated picture or video.")
    show = click.option("--show", is_flag=True, help="Show a window; Esc or q ends. Without -o, nothing is written.")
    shown = click.option(
        "--progress",
        type=click.Choice(["bar", "json", "none"]),
        default="bar",
        show_default=True,
        help="A bar where stderr is a terminal; or a JSON object a second on stderr, see above.",
    )
    return out(formats(draw(no_draw(show(shown(function))))))


@dataclass(frozen=True)
class _Request:
    """The options of the command, as they were given."""

    source: str
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
    threads: int | None
    overwrite: bool


@click.command("infer")
@click.argument("source", metavar="SOURCE")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, metavar="NAME|PATH", help="Released model or file.")
@_result_options
@detector_option
@click.option(
    "--smooth",
    type=click.Choice(["one-euro", "both-ways", "off"]),
    default="one-euro",
    show_default=True,
    help="Steady landmarks in video: as frames come, or forwards and backwards over the whole file, without lag.",
)
@_source_options
@backend_options
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="CPU threads of the network; decoding, drawing and encoding run beside it.  [default: half, at most 4]",
)
@overwrite_option
def command(**given: Any) -> None:
    """Find landmarks in SOURCE, draw them and write them down.

    \b
    SOURCE is
      an image, a folder or a quoted pattern of images
      a video or an animated GIF, also at http://
      0, 1, ... or /dev/video0     a camera
      rtsp://, http://, udp:// ... a stream; it is opened again when it is lost
      csi://0, csi://0?flip=2      a camera on the connector of a Jetson
      -                            raw bgr24 frames on stdin, with --size:
        ffmpeg -i X -f rawvideo -pix_fmt bgr24 -s 640x480 - | cunet-deploy infer - --size 640x480@30 -o out.mp4

    \b
    OUT is
      out.mp4 (.mkv, .mov, .m4v, .avi) for video, out.png (.jpg, ...) for an image; out.jsonl and out.csv go beside it
      DIR for several images, frames/%06d.png for the frames of a video as images
      out.jsonl, out.csv, out.json (COCO) or, for an image, out.pts: that file alone
      -     JSON Lines on stdout         none  nothing, for timing

    Without -o, files are called after the source, in the current folder. Video is H.264 with the times and
    the sound of the original (.avi: MJPEG of constant rate). Coordinates are pixels of the picture as players show it.

    In video a found object is followed from frame to frame. Frames of a camera or stream that come faster than they are
    looked at are dropped, oldest first, so that results are never late. Ctrl-C stops early and keeps the finished part;
    so does a source that is lost, or a full disk, with exit code 1. Images that cannot be read are left out and
    named, with exit code 1 in the end; frames that are damaged within a video are named, and are no failure.

    --progress json has the keys frames (done), total (or null), fps, objects (in the last frame), dropped, elapsed_s,
    left_s (or null) and done.

    \b
    Examples:
      cunet-deploy infer portrait.jpg -o out.jpg
      cunet-deploy infer clip.mp4 -o out.mp4 --format jsonl,coco --draw points,box,ids
      cunet-deploy infer rtsp://10.0.0.9/cam -o - | jq .landmarks
      cunet-deploy infer 0 --show --size 640x480@30
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # OpenCV's remarks would break the progress bar
    _infer(_Request(**given))


def _infer(asked: _Request) -> None:
    import cv2  # these load OpenCV and ONNX Runtime, which --help does not need

    from cunet_deploy.localizer import Localizer
    from cunet_deploy.machine.cpu import available_cpus
    from cunet_deploy.media import FrameSize, open_source, plan_outputs
    from cunet_deploy.tracking.one_euro import Smoothing

    # more threads than that do not speed up small networks, and take the processors from decoding and encoding
    threads = asked.threads or min(max(available_cpus() // 2, 1), 4)
    cv2.setNumThreads(threads)
    size = None if asked.size is None else FrameSize.parse(asked.size)
    source = open_source(asked.source, size=size, timeout=asked.timeout, reconnect=asked.reconnect)
    if asked.smooth == "both-ways" and (source.live or asked.source == "-"):
        raise InputError(
            "--smooth both-ways reads a file twice, which a camera, stream or pipe cannot give; leave it out"
        )
    out = "none" if asked.out is None and asked.show else asked.out
    named = (asked.model, *([] if asked.detector is None else [asked.detector.partition(":")[2] or asked.detector]))
    read = tuple(Path(name) for name in named)
    plan = plan_outputs(source, out, draw=not asked.no_draw, formats=asked.formats, read=read)
    steady = Smoothing(both_ways=True) if asked.smooth == "both-ways" else asked.smooth == "one-euro"
    backend = resolve_backend(asked.model, asked.backend, threads)
    tally = Tally(_total(source, asked.frames), source.live)
    with Localizer(
        asked.model, threads=threads, detector=asked.detector, backend=backend, trust=asked.trust
    ) as localizer:
        outputs = _outputs(localizer, source, plan, asked)
        failure = _run(localizer, source, outputs, plan, tally, asked, steady)
    click.echo(tally.line(asked.source, outputs, plan.files), err=plan.stdout)
    say_left_out(source)
    if failure is not None:
        raise failure
    if source.left_out and not source.moving:
        raise CunetError(f"{len(source.left_out)} images were left out; the others are done")


def _total(source: Source, limit: int | None) -> int | None:
    """How many frames are to come, where that is known."""
    return min(source.count, limit) if source.count is not None and limit is not None else source.count or limit


def _outputs(localizer: Localizer, source: Source, plan: OutputPlan, asked: _Request) -> Outputs:
    from cunet_deploy.drawing import Style
    from cunet_deploy.media import Outputs, VideoFile, Window

    return Outputs(
        plan,
        localizer.manifest.skeleton,
        source.fps,
        named=not source.moving,
        overwrite=asked.overwrite,
        style=None if asked.draw is None else Style.of(asked.draw),
        audio=source.path if isinstance(source, VideoFile) else None,
        left_out=source.left_out,
        window=Window(f"cunet-deploy {asked.source}") if asked.show else None,
    )


def _run(
    localizer: Localizer,
    source: Source,
    outputs: Outputs,
    plan: OutputPlan,
    tally: Tally,
    asked: _Request,
    smooth: bool | Smoothing,
) -> CunetError | KeyboardInterrupt | None:
    """Localize and write until the source ends or is lost, writing fails, or Ctrl-C; then what is done so far is kept.

    Returns:
        Why it ended early, or ``None``.
    """
    failure: CunetError | KeyboardInterrupt | None = None
    with _interrupt_flag() as interrupted:  # around all: Ctrl-C while the files are finished must not lose them
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
    asked: _Request,
    depth: int,
) -> None:
    """Take frames and hand them to the outputs, in a thread for which ``depth`` may wait; 0: without."""
    from cunet_deploy.media import WriteBehind

    with closing(frames), WriteBehind(outputs.write, depth) as writer:
        while not ended() and tally.frames != asked.frames:
            start = time.perf_counter()
            frame = next(frames, None)
            if frame is None:
                break
            tally.read += time.perf_counter() - start - frame.seconds
            writer.put(frame)
            tally.add(frame)
            update()


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
