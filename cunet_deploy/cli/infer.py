"""``cunet-deploy infer``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from cunet_deploy._files import shown_name
from cunet_deploy.cli._infer_one import Request, run_one
from cunet_deploy.cli._infer_record import Record
from cunet_deploy.cli._options import (
    MAX_THREADS,
    AnyPath,
    FloatRange,
    backend_options,
    detector_option,
    licence_option,
    resolve_backend,
    resume_options,
)
from cunet_deploy.cli._watch import left_out_lines
from cunet_deploy.errors import CunetError
from cunet_deploy.zoo import DEFAULT_MODEL

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])


def _parts(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """``a,b`` as a tuple."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


def _source_options(function: F) -> F:
    """Options of cameras and streams, and when to stop."""
    size = click.option(
        "--size",
        metavar="WxH[@FPS]",
        help="Size and rate to ask a camera for, such as 640x480@30; required for raw frames on stdin.",
    )
    timeout = click.option(
        "--timeout",
        type=FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="A stream that delivers nothing for this long counts as lost.",
    )
    reconnect = click.option(
        "--reconnect",
        type=FloatRange(min=0),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="A camera or stream that is lost is tried again for that long; 0: not at all.",
    )
    frames = click.option("--frames", type=click.IntRange(min=1), metavar="N", help="Stop after N frames.")
    return size(timeout(reconnect(frames(function))))


def _result_options(function: F) -> F:
    """Options of what is written, drawn and shown."""
    out = click.option(
        "-o", "--output", "out", type=AnyPath(path_type=str), metavar="OUT", help="Where to write; see above."
    )
    formats = click.option(
        "--format",
        "formats",
        metavar="LIST",
        callback=_parts,
        help="Files with landmarks beside the picture or video; see above.",
    )
    draw = click.option(
        "--draw",
        metavar="LIST",
        callback=_parts,
        help="Parts to draw: points, lines, ids, scores, box.  [default: points,lines, and ids where there are "
        "several objects]",
    )
    no_draw = click.option("--no-draw", is_flag=True, help="Write landmarks only, no annotated picture or video.")
    show = click.option("--show", is_flag=True, help="Show a window; Esc or q ends. Without -o, nothing is written.")
    shown = click.option(
        "--progress",
        type=click.Choice(["bar", "json", "none"]),
        default="bar",
        show_default=True,
        help="A bar if stderr is a terminal, or one JSON object per second on stderr, see above.",
    )
    return out(formats(draw(no_draw(show(shown(function))))))


class _Command(click.Command):
    """Takes kinds of sources and formats of results in its help from their tables, which take time to load."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from cunet_deploy.media import FORMATS, READERS, WRITABLE_SUFFIXES

        rows = FORMATS.values()
        texts = {
            "sources": "\n    ".join(f"  {row.spelling:<28} {row.meaning}" for row in READERS),
            "videos": f"({', '.join(suffix for suffix in WRITABLE_SUFFIXES if suffix != '.mp4')})",
            "images": "(.jpg, ...)",
            "alone": ", ".join(f"out{row.suffix}" + " of one image" * row.one_image for row in rows),
            "usual": ",".join(row.name for row in rows if row.usual),
            "formats": "\n    ".join(f"  {row.name:<8} {row.meaning}" for row in rows),
        }
        before, self.help = self.help or "", (self.help or "").format_map(texts)
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = before


@click.command("infer", cls=_Command)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--model", default=DEFAULT_MODEL, show_default=True, metavar="NAME|PATH", help="Released model or file.")
@_result_options
@detector_option
@click.option(
    "--smooth",
    type=click.Choice(["one-euro", "both-ways", "off"]),
    default="one-euro",
    show_default=True,
    help="Smooth landmarks in video: frame by frame, or forwards and backwards over the whole file, without lag.",
)
@_source_options
@backend_options
@licence_option
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, MAX_THREADS),
    help="CPU threads of the network; decoding, drawing and encoding run beside it.  [default: half, at most 4]",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share several sources.",
)
@resume_options("Skip sources that are done and unchanged, and start the others again.")
def command(**given: Any) -> None:
    """Find landmarks in SOURCE, draw them and write them to files.

    \b
    SOURCE is
    {sources}
    You may give several sources, or a list of them: a text file with one per line, or a CSV or Parquet file with a
    column "source"; paths in it are relative to the list.

    \b
    OUT, for a single source, is
      out.mp4 {videos} for video, out.png {images} for an image; landmark files go beside it
      frames/%06d.png for the frames of a video as images, DIR for several images
      DIR/: files in it, named after the source
      {alone}: only that file
      -     JSON Lines on stdout         none  nothing, for timing
    For several sources it is a folder, with a set of results for each video and one for all images.

    \b
    LIST of --format, by default {usual}, may hold
    {formats}

    Without -o, files are named after the source, in the current folder; those of several go to ./landmarks. A file is
    called NAME.part until it is complete. Video is H.264 with the times and the sound of the original (.avi: MJPEG of
    constant rate). Coordinates are pixels of the picture as players show it.

    In video, objects are tracked from frame to frame. When frames of a camera or stream arrive faster than they are
    processed, the oldest are dropped, so that results are never late. Ctrl-C stops early and keeps the finished part;
    so does a source that is lost, or a full disk, with exit code 1. Images that cannot be read are named and left out,
    with exit code 1 at the end; damaged frames within a video are named and do not count as a failure.

    --progress json writes the keys frames (done), total (or null), fps, objects (in the last frame), dropped,
    elapsed_s, left_s (or null) and done.

    \b
    Examples:
      cunet-deploy infer portrait.jpg -o out.jpg
      cunet-deploy infer clip.mp4 -o out.mp4 --format jsonl,coco --draw points,box,ids
      cunet-deploy infer clips/ photos/ -o out --workers 2 --resume
      cunet-deploy infer rtsp://10.0.0.9/cam -o - | jq .landmarks
      cunet-deploy infer 0 --show --size 640x480@30
    """
    _infer(Request(**given))


def _infer(asked: Request) -> None:
    import cv2  # these load OpenCV and ONNX Runtime, which --help does not need

    from cunet_deploy.machine.allocator import keep_freed_memory
    from cunet_deploy.machine.cpu import available_cpus
    from cunet_deploy.media import find_items

    keep_freed_memory()
    items = find_items(asked.sources)
    workers = 1 if items is None else min(asked.workers, len(items))
    # more threads than that do not speed up small networks, and take the processors from decoding and encoding
    threads = asked.threads or min(max(available_cpus() // (2 * workers), 1), 4)
    cv2.setNumThreads(threads)
    asked = replace(asked, backend=resolve_backend(asked.model, asked.backend, threads), threads=threads)
    if items is None:
        _infer_one(asked)
    else:
        from cunet_deploy.cli._infer_many import infer_many

        infer_many(items, replace(asked, workers=workers))


def _infer_one(asked: Request) -> None:
    from cunet_deploy.media import FrameSize, open_source, plan_outputs

    size = None if asked.size is None else FrameSize.parse(asked.size)
    (name,) = asked.sources
    source = open_source(name, size=size, timeout=asked.timeout, reconnect=asked.reconnect)
    asked.check_smoothing(source)
    out = "none" if asked.out is None and asked.show else asked.out
    plan = plan_outputs(source, out, draw=not asked.no_draw, formats=asked.formats, read=asked.read)
    if asked.resume and (done := Record(plan, shown_name(name), source.originals, asked).done()):
        click.echo(f"{shown_name(name)}: is done already: {done.path}")
        if remark := done.remark():
            raise CunetError(remark)
        return
    with asked.open() as localizer:
        run = run_one(localizer, source, shown_name(name), plan, asked)
    click.echo(run.line, err=plan.stdout)
    if run.remark:
        click.echo(run.remark, err=plan.stdout)
    for line in left_out_lines(source):
        click.echo(line, err=True)
    if run.failure is not None:
        raise run.failure
