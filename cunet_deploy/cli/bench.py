"""``cunet-deploy bench``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from cunet_deploy.bench.hardware import describe_machine, describe_versions
from cunet_deploy.bench.latency import Candidate, Scene, Timing, drawn_picture, measure_latency, ratio
from cunet_deploy.cli._options import backend_options, json_option, overwrite_option, progress, resolve_backend
from cunet_deploy.cli._report import advancing, interval, json_report, results
from cunet_deploy.cpu import available_cpus
from cunet_deploy.errors import InputError
from cunet_deploy.runtime.sessions import model_file, open_session

__all__ = ["command"]


@click.command("bench")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of the network.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Crops a call.")
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Turns that each model has.")
@click.option("--calls", type=click.IntRange(1), default=10, show_default=True, help="Timed calls in a turn.")
@click.option("--image", type=click.Path(path_type=Path), help="Photo to crop from.  [default: drawn, 1280x720]")
@backend_options
@json_option
@overwrite_option
def command(
    models: tuple[str, ...],
    threads: int,
    batch: int,
    rounds: int,
    calls: int,
    image: Path | None,
    backend: str | None,
    trust: bool,
    json_path: Path | None,
    overwrite: bool,
) -> None:
    """Measure the latency of each MODEL on this machine: cropping, network, decoding.

    MODEL is a bundle folder, an .onnx or .engine file or the name of a released model. The models take turns in one
    process, so their ratios to the first hold even where the clock or the load of the machine changes meanwhile.

    \b
    Example:
      cunet-deploy bench face68-s exported/model.onnx --threads 1 --json latency.json
    """
    for model in models:
        if model.endswith(".pt"):
            raise InputError(f"{model}: is a checkpoint; export it first: cunet-deploy export {model} -o DIR")
    backends = [resolve_backend(model, backend, threads) for model in models]
    sizes = [model_file(model, on).stat().st_size for model, on in zip(models, backends, strict=True)]
    if threads > available_cpus():
        click.echo(f"{threads} threads on {available_cpus()} processors wait for each other; use fewer", err=True)
    cv2.setNumThreads(threads)
    scene = Scene.centred(drawn_picture() if image is None else _photo(image), batch)
    candidates = [
        Candidate(model, partial(open_session, model, threads=threads, backend=on, trust=trust))
        for model, on in zip(models, backends, strict=True)
    ]
    with json_report(json_path, overwrite=overwrite) as write:
        with advancing(progress(), "timing", rounds * len(models)) as advance:
            timings = measure_latency(
                candidates, scene, rounds=rounds, calls=calls, keep_open=threads == 1, advance=advance
            )
        rows = [
            {"model": model, "file_bytes": size, **timing.to_dict(), **_ratios(timing, timings[0])}
            for model, size, timing in zip(models, sizes, timings, strict=True)
        ]
        settings = {"threads": threads, "batch": batch, "rounds": rounds, "calls_per_round": calls}
        write({**settings, "models": rows, "machine": describe_machine(), "versions": describe_versions()})
    _print_timings(timings, sizes, settings)


def _photo(path: Path) -> NDArray[np.uint8]:
    from cunet_deploy.media import read_image  # not needed for the usual, drawn picture

    return read_image(path)


def _ratios(timing: Timing, first: Timing) -> dict[str, Any]:
    return {
        "total_ratio_to_first": ratio(timing, first).to_dict(),
        "network_ratio_to_first": ratio(timing, first, stage="network").to_dict(),
    }


def _print_timings(timings: Sequence[Timing], sizes: Sequence[int], settings: dict[str, int]) -> None:
    machine = describe_machine()
    title = (
        f"{machine['processor']}, {settings['threads']} thread(s), batch {settings['batch']}, "
        f"{timings[0].total_ms.size} calls each, in turns; ms"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for column in ("bits", "MB", "load", "crop", "network", "decode", "p50", "p90", "p95", "p99"):
        table.add_column(column, justify="right")
    if len(timings) > 1:
        table.add_column("network / first", justify="right")
        table.add_column("total / first", justify="right")
    for timing, size in zip(timings, sizes, strict=True):
        medians, percentiles = timing.medians_ms(), timing.percentiles_ms()
        cells = [str(timing.manifest.weight_bits), f"{size / 1e6:.3f}", f"{timing.load_ms:.0f}"]
        cells += [f"{value:.3f}" for value in (*medians.values(), *percentiles.values())]
        if len(timings) > 1:
            cells += [interval(ratio(timing, timings[0], stage=stage), 3) for stage in ("network", None)]
        table.add_row(timing.name, *cells)
    results().print(table)
    backends = ", ".join(dict.fromkeys(timing.backend for timing in timings))
    results().print(f"{backends}; crop, network and decode are medians, p50 to p99 are of their sum")
