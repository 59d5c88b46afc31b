"""``cunet-deploy bulk``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cunet_deploy.cli._interrupts import saying_what_is_kept
from cunet_deploy.cli._options import (
    MAX_THREADS,
    AnyPath,
    FloatRange,
    backend_options,
    console,
    json_option,
    licence_option,
)
from cunet_deploy.cli._report import json_report
from cunet_deploy.errors import CunetError
from cunet_deploy.zoo import DEFAULT_MODEL

if TYPE_CHECKING:
    from cunet_deploy.bulk.run import Summary
    from cunet_deploy.bulk.worker import Status

__all__ = ["command"]


@click.command("bulk")
@click.argument("sources", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "out",
    type=AnyPath(path_type=str),
    metavar="DIR",
    required=True,
    help="Folder or URL of the results.",
)
@click.option(
    "--model",
    metavar="NAME|PATH",
    default=DEFAULT_MODEL,
    show_default=True,
    help="Bundle, .onnx, .engine or released model.",
)
@click.option(
    "--detector",
    metavar="NAME|PATH",
    help="Detector of the objects, as infer takes it, but for boxes:FILE.  [default: that of the model]",
)
@click.option("--address", metavar="auto|HOST:PORT", help="A Ray cluster.  [default: this machine alone]")
@click.option("--workers", type=click.IntRange(1), help="Processes with a network.  [default: one for each processor]")
@click.option(
    "--threads", type=click.IntRange(1, MAX_THREADS), default=1, show_default=True, help="CPU threads of each worker."
)
@click.option(
    "--gpus", type=FloatRange(0), default=0.0, show_default=True, help="GPUs of each worker; may be a fraction."
)
@click.option("--smooth/--no-smooth", default=True, show_default=True, help="Smooth landmarks in videos.")
@click.option(
    "--part-seconds",
    type=FloatRange(0),
    default=120.0,
    show_default=True,
    help="Cut videos that are at least twice as long into parts of this length; 0: never.",
)
@click.option("--jsonl", is_flag=True, help="Also write JSON Lines for each video or block of photos.")
@backend_options
@licence_option
@json_option
@click.option("--overwrite", is_flag=True, help="Replace the --json file; results are never replaced.")
def command(
    sources: tuple[str, ...],
    out: str,
    model: str,
    detector: str | None,
    address: str | None,
    workers: int | None,
    gpus: float,
    licence: str | None,
    json_path: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Find landmarks in thousands of videos or millions of photos, on this machine or a Ray cluster.

    SOURCES are videos, photos, folders (searched recursively), patterns, or lists of them: text files with one per
    line, CSV or Parquet files with a column "source"; paths are relative to the list. Sources and results may lie in
    object stores (s3://, gs://) whose fsspec library is installed. Results are Parquet files under DIR/landmarks. The
    same command continues a run that was stopped; what fails is recorded in DIR/failed, and tried again by the next.

    \b
    Example:
      cunet-deploy bulk clips/ -o results
      cunet-deploy bulk s3://bucket/clips list.csv -o s3://bucket/results --address auto --workers 64
    """
    from cunet_deploy._optional import require

    require("ray", extra="ray")
    from cunet_deploy.bulk.results import Output
    from cunet_deploy.bulk.run import load_model, run_bulk
    from cunet_deploy.bulk.worker import Settings

    settings, begun = Settings(**options), time.perf_counter()
    with (
        json_report(json_path, overwrite=overwrite) as write,
        saying_what_is_kept(lambda: f"{out} has what was done; the same command goes on from there"),
        _Display() as display,
    ):
        _check_detector(detector, address)
        output = Output(out)
        loaded = load_model(
            model, output, detector=detector, backend=settings.backend, trust=settings.trust, licence=licence
        )
        summary = run_bulk(
            sources,
            output,
            loaded,
            settings,
            address=address,
            workers=workers,
            gpus=gpus,
            on_items=display.begin,
            on_status=display.update,
        )
        write({**vars(summary), "seconds": time.perf_counter() - begun, "output": out})
    click.echo(_line(summary, out, time.perf_counter() - begun))
    if loaded.remark:
        click.echo(loaded.remark)
    if summary.failed:
        raise CunetError(f"{summary.failed} of {summary.items} items failed: see {out}/failed, then run the same again")


def _check_detector(detector: str | None, address: str | None) -> None:
    """Open a detector that will be opened on this machine; on a cluster, its file need not be here."""
    from cunet_deploy.detection.open import check_spec

    if address is None:
        check_spec(detector)


def _line(summary: Summary, out: str, seconds: float) -> str:
    already = f", {summary.already_done} done before" if summary.already_done else ""
    gaps = f", {summary.left_out} frames, pages or photos were not read" if summary.left_out else ""
    rate = f", {summary.frames / seconds:.0f} frames a second" if summary.frames else ""
    return f"{out}: {summary.done} items{already}, {summary.failed} failed; {summary.frames} frames{rate}{gaps}"


class _Display:
    """A progress bar with items, frames, rate and failures."""

    def __init__(self) -> None:
        columns = (TextColumn("items"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console())
        self._frames = 0
        self._failed: set[str] = set()
        self._begun = time.perf_counter()

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def begin(self, items: int, done: int) -> None:
        """Show how many items there are."""
        self._task = self._progress.add_task("items", total=items, completed=done, text="")
        self._begun = time.perf_counter()

    def update(self, status: Status) -> None:
        """Show what became of an item or a part."""
        self._frames += status.frames
        ended = status.part is None
        if status.error:
            ended = status.key not in self._failed  # of a video in parts, several may fail
            self._failed.add(status.key)
            self._progress.console.print(f"failed: {status.error}", markup=False, highlight=False, soft_wrap=True)
        rate = self._frames / max(time.perf_counter() - self._begun, 1e-9)
        text = f"{self._frames} frames, {rate:.0f} a second, {len(self._failed)} failed"
        self._progress.update(self._task, advance=int(ended), text=text)
