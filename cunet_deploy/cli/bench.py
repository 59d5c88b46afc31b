"""``cunet-deploy bench``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from cunet_deploy._files import atomic_path
from cunet_deploy.cli._options import (
    MAX_THREADS,
    AnyPath,
    BackendNames,
    FilePath,
    FloatRange,
    default_backends,
    detector_option,
    json_option,
    overwrite_option,
    progress,
    resolve_backend,
)
from cunet_deploy.cli._report import advancing, json_report, results
from cunet_deploy.errors import InputError, VerificationError
from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.metrics import Estimate

if TYPE_CHECKING:
    from cunet_deploy.bench.compare import Comparison
    from cunet_deploy.bench.report import Report

__all__ = ["command"]


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1 to ``most``, divided by commas."""

    name = "N,..."

    def __init__(self, most: float = math.inf) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isdecimal() and 1 <= int(part) <= self._most for part in parts):
            bound = f" to {self._most}" if math.isfinite(self._most) else ""
            self.fail(f"{value!r} is not a number from 1{bound}, or several divided by commas", param, ctx)
        return tuple(dict.fromkeys(int(part) for part in parts))


@click.command("bench")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--input", "source", metavar="FILE|DIR", help="Photo, folder of photos or clip.  [default: a drawn picture]"
)
@detector_option
@click.option("--threads", type=_Numbers(MAX_THREADS), default=(1,), metavar="N,...", help="CPU threads.  [default: 1]")
@click.option(
    "--batch", "batches", type=_Numbers(), default=(1,), metavar="N,...", help="Crops per call.  [default: 1]"
)
@click.option(
    "--backend",
    "backends",
    type=BackendNames(several=True),
    help=f"What runs the network.  [default: {default_backends()}]",
)
@click.option("--trust", is_flag=True, help="Load an engine whose checksum differs: it is native code.")
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Turns of each row.")
@click.option("--calls", type=click.IntRange(1), default=10, show_default=True, help="Timed calls in a turn.")
@json_option
@click.option(
    "--plot",
    "plot_path",
    metavar="FILE.png",
    type=FilePath(),
    help="Draw a bar chart of the stages.",
)
@click.option(
    "--compare",
    "earlier",
    metavar="FILE",
    type=AnyPath(dir_okay=False),
    help="Judge against an earlier --json FILE; exit code 4 when a row is slower by more than noise and tolerance.",
)
@click.option(
    "--tolerance",
    type=FloatRange(0, max_open=True, max=10),
    default=0.05,
    show_default=True,
    help="Fraction by which a row may be slower.",
)
@overwrite_option
def command(
    models: tuple[str, ...],
    source: str | None,
    detector: str | None,
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    backends: list[str] | None,
    trust: bool,
    rounds: int,
    calls: int,
    json_path: Path | None,
    plot_path: Path | None,
    earlier: Path | None,
    tolerance: float,
    overwrite: bool,
) -> None:
    """Measure the time of each stage of each MODEL on this machine, memory, and the share of the processor's peak.

    MODEL is a bundle folder, an .onnx or .engine file or the name of a released model. Each model is measured with
    every backend, number of threads and batch size. They take turns in one process, so their ratios to the first row
    hold even if the clock or the load of the machine changes meanwhile.

    With --input, everything that infer does to a frame is measured: reading, detection, cropping, network,
    decoding, tracking and smoothing, drawing. Without it: cropping, network and decoding of crops from a drawn picture.

    --compare judges each row by its ratio to the first row, if both runs have that row and others, so that a slower
    machine is no regression; otherwise by its time. A row is a regression if even the lower end of the interval of
    new/old, which includes the noise of both runs, exceeds 1 plus the tolerance.

    \b
    Examples:
      cunet-deploy bench face68-s exported/model.onnx --backend ort:cpu,openvino --json latency.json
      cunet-deploy bench face68-s --input clip.mp4 --threads 1,2 --plot stages.png
      cunet-deploy bench face68-s exported/model.onnx --compare latency.json
    """
    from cunet_deploy.bench.compare import Baseline, number_rows
    from cunet_deploy.bench.report import measure  # loads OpenCV, which --help does not need
    from cunet_deploy.bench.setups import Input, combine

    names: list[str | None] = [*backends] if backends else [None]
    given = Input(source, detector)
    given.check(batches)
    setups = combine(models, names, threads, batches, resolve=resolve_backend, trust=trust)
    if max(threads) > available_cpus():
        click.echo(f"{max(threads)} threads on {available_cpus()} processors wait for each other; use fewer", err=True)
    baseline = None if earlier is None else Baseline.read(earlier)
    if baseline is not None:
        baseline.check(number_rows([setup.key for setup in setups]), given.key, rounds)
    with json_report(json_path, overwrite=overwrite) as write, _picture(plot_path, overwrite=overwrite) as draw:
        with advancing(progress(), "timing", rounds * len(setups)) as advance:
            report = measure(setups, given, rounds=rounds, calls=calls, advance=advance)
        table = report.to_dict()
        comparison = None if baseline is None else baseline.compare(table, tolerance)
        write(table if comparison is None else {**table, "comparison": comparison.to_dict()})
        draw(report)
    _show(report)
    if comparison is not None:
        _judge(comparison)


def _show(report: Report) -> None:
    _print_times(report)
    _print_resources(report)
    for line in report.notes():
        click.echo(line)


@contextlib.contextmanager
def _picture(path: Path | None, *, overwrite: bool) -> Iterator[Callable[[Report], None]]:
    """Give a function that draws a report into ``path``; it does nothing when there is none."""
    if path is None:
        yield lambda report: None
        return
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the chart is a PNG; name a file that ends in .png")
    with atomic_path(path, overwrite=overwrite) as temporary:
        yield lambda report: _write_png(temporary, report)


def _write_png(path: Path, report: Report) -> None:
    import cv2

    good, data = cv2.imencode(".png", report.picture())
    assert good
    path.write_bytes(data.tobytes())


def _judge(comparison: Comparison) -> None:
    for line in (*comparison.notes, *(change.line() for change in comparison.changes)):
        click.echo(line)
    if comparison.regressions:
        slower = "\n".join(f"regression: {change.line()}" for change in comparison.regressions)
        click.echo(slower, err=True)
        count = len(comparison.regressions)
        raise VerificationError(
            f"{count} {'row is' if count == 1 else 'rows are'} slower by more than noise and the tolerance of "
            f"{comparison.tolerance:g}, listed above"
        )


_SETTINGS = ("backend", "threads", "batch")


def _table(report: Report, title: str) -> tuple[Table, list[list[str]]]:
    """A table with the columns that tell the rows apart, the title with what all share, and the first cells."""
    values = [[row.setup.backend, str(row.setup.threads), str(row.setup.batch)] for row in report.rows]
    differ = [len({row[index] for row in values}) > 1 for index in range(len(_SETTINGS))]
    texts = (values[0][0], f"{values[0][1]} thread(s)", f"batch {values[0][2]}")
    shared = [text for text, several in zip(texts, differ, strict=True) if not several]
    table = Table(title=", ".join([*shared, title]), title_justify="left")
    table.add_column("model", overflow="fold", min_width=12)
    for name, several in zip(_SETTINGS, differ, strict=True):
        if several:
            table.add_column(name, justify="left" if name == "backend" else "right", no_wrap=True)
    cells = [
        [row.setup.model, *(cell for cell, several in zip(found, differ, strict=True) if several)]
        for row, found in zip(report.rows, values, strict=True)
    ]
    return table, cells


def _print_times(report: Report) -> None:
    first = report.rows[0]
    stages, unit = first.timing.stages, first.timing.unit
    digits = 3 if unit == "crops" else 2
    ratios = {"network / first": "network", "total / first": None} if unit == "crops" else {"total / first": None}
    if len(report.rows) == 1:
        ratios = {}
    table, beginnings = _table(report, f"{first.timing.total_ms.size} calls each, in turns; ms")
    for column in (*stages, "p50", "p90", "p95", "p99", f"{unit}/s", *ratios):
        table.add_column(column, justify="right", no_wrap=True)
    for row, cells in zip(report.rows, beginnings, strict=True):
        numbers = (*row.timing.typical_ms().values(), *row.timing.percentiles_ms().values())
        cells += [*(f"{value:.{digits}f}" for value in numbers), f"{row.timing.per_second:.1f}"]
        table.add_row(*cells, *(_ratio(row.ratio_to(first, stage=stage)) for stage in ratios.values()))
    results().print(report.machine["processor"])
    results().print(table)
    kind = "medians" if unit == "crops" else "means"
    results().print(f"{', '.join(stages)} are {kind}, p50 to p99 are of their sum")


def _ratio(estimate: Estimate | None) -> str:
    return "-" if estimate is None else estimate.text(3)


def _print_resources(report: Report) -> None:
    table, beginnings = _table(report, "size, memory of a process of its own, work, and how near it comes to the peak")
    columns = ("bits", "file MB", "load ms", "before MB", "loaded MB", "steady MB", "peak MB")
    for column in (*columns, "MMAC/crop", "GMAC/s", "of peak"):
        table.add_column(column, justify="right")
    for row, cells in zip(report.rows, beginnings, strict=True):
        memory = {} if isinstance(row.memory, str) else row.memory.to_dict()
        cells += [str(row.timing.manifest.weight_bits), f"{row.setup.path.stat().st_size / 1e6:.3f}"]
        cells.append(f"{row.timing.load_ms:.0f}")
        for key in ("before", "loaded", "steady", "peak"):
            size = memory.get(f"rss_{key}_bytes")
            cells.append("-" if size is None else f"{size / 1e6:.0f}")
        cells.append("-" if isinstance(row.costs, str) else f"{row.costs.macs / 1e6:.0f}")
        near = row.roofline
        cells += ["-", "-"] if near is None else [f"{near.reached_gmac_per_second:.1f}", f"{near.fraction_of_peak:.0%}"]
        table.add_row(*cells)
    results().print(table)
