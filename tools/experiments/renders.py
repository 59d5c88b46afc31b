"""Speed of rendering, and ablations of each group in the renders.

    python -m tools.experiments.renders speed
    python -m tools.experiments.renders ablation --photos 300w/afw --runs runs/renders   # hours; goes on where it was

``ablation`` renders a full set, and for each group one without it: the same people in the same light. A network of
configs/renders.toml learns each set, and all are measured on the same photos, which only measure. The table has the
paired difference of each to the full set: positive where the group helps.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import cv2

from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.evaluation import evaluate
from cunet_deploy.metrics import paired_difference
from cunet_deploy.synthesis.faces import FaceJob
from cunet_deploy.synthesis.options import GROUPS, FaceOptions
from tools.reports import errors_in_a_line, signed, write_report

CONFIG = Path(__file__).with_name("configs") / "renders.toml"
FULL = "all"
_WARM = 3  # the first renders compile shaders


@click.group()
def main() -> None:
    """Measure renders."""


@main.command()
@click.option("-n", "--count", type=click.IntRange(min=10), default=200, show_default=True, help="Faces to render.")
@click.option("--size", type=int, default=192, show_default=True, help="Side of the pictures in pixels.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def speed(count: int, size: int, json_path: Path | None) -> None:
    """Renders a second, with one thread: rendering, labels and JPEG, without the disk."""
    report = measure_speed(count, size)
    write_report(json_path, report)
    click.echo(
        f"{count} faces of {size} px on {report['renderer']}: {report['renders_per_cpu_second']:.1f} a CPU second, "
        f"{report['renders_per_second']:.1f} a second here; start {report['start_seconds']:.1f} s"
    )


def measure_speed(count: int, size: int) -> dict[str, Any]:
    """Time ``count`` faces."""
    cv2.setNumThreads(1)
    before = time.perf_counter()
    maker = FaceJob(FaceOptions(size=size)).open()
    start = time.perf_counter() - before
    try:
        for number in range(_WARM):
            maker.make(number)
        cpu, wall = time.process_time(), time.perf_counter()
        for number in range(_WARM, _WARM + count):
            maker.make(number)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        renderer = maker.renderer
    finally:
        maker.close()
    return signed(
        {
            "faces": count,
            "size_pixels": size,
            "renderer": renderer,
            "start_seconds": round(start, 2),
            "renders_per_cpu_second": round(count / cpu, 2),
            "renders_per_second": round(count / wall, 2),
        },
        "moderngl",
        "anny",
    )


@main.command()
@click.option("--photos", required=True, type=click.Path(path_type=Path), help="Labelled photos that measure.")
@click.option("--runs", required=True, type=click.Path(path_type=Path), help="Folder of renders and networks.")
@click.option("-n", "--count", type=click.IntRange(min=1), default=3000, show_default=True, help="Faces in each set.")
@click.option("--group", "groups", multiple=True, type=click.Choice(list(GROUPS)), help="Only these.  [default: all]")
@click.option("--config", type=click.Path(path_type=Path), default=CONFIG, help="Configuration of the network.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that render.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def ablation(
    photos: Path, runs: Path, count: int, groups: tuple[str, ...], config: Path, workers: int, json_path: Path | None
) -> None:
    """Train with all groups and without each, and compare on photos."""
    errors = {}
    for name in (FULL, *(groups or GROUPS)):
        errors[name] = _errors(_trained(name, runs, count, config, workers), photos)
        click.echo(f"{name}: {100 * sum(errors[name]) / len(errors[name]):.2f} %", err=True)
    measured = len(errors[FULL])
    report = signed({"photos": photos.name, "measured_faces": measured, "faces": count, "groups": compare(errors)})
    write_report(json_path, report)
    click.echo(
        f"{table(report['groups'])}\nOn {measured} faces of {photos.name}, one network of {count} renders a row."
    )


def compare(errors: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Rows of errors (as shares) of the full set and of each set without a group, with paired differences in percent.

    Raises:
        InputError: not all were measured on the same number of faces.
    """
    full = errors[FULL]
    if any(len(row) != len(full) for row in errors.values()):
        raise InputError("not all networks were measured on the same faces; use the same --photos for all")
    rows = []
    for name, own in errors.items():
        row: dict[str, Any] = {"without": None if name == FULL else name, "nme_percent": 100 * sum(own) / len(own)}
        if name != FULL:
            difference = paired_difference([100 * error for error in own], [100 * error for error in full])
            row["worse_by_percent"] = difference.to_dict()
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, what helps most first."""
    lines = ["| without | NME % | worse by (95 % interval) |", "|---|---|---|"]
    ordered = sorted(rows, key=lambda row: -row["worse_by_percent"]["value"] if row["without"] else -float("inf"))
    for row in ordered:
        difference = row.get("worse_by_percent")
        worse = (
            f"{difference['value']:.2f} ({difference['ci95_low']:.2f} to {difference['ci95_high']:.2f})"
            if difference
            else ""
        )
        lines.append(f"| {row['without'] or 'nothing'} | {row['nme_percent']:.2f} | {worse} |")
    return "\n".join(lines) + "\n"


def _trained(name: str, runs: Path, count: int, config: Path, workers: int) -> Path:
    """Render a set and train on it, or go on with both; the checkpoint.

    Both commands refuse what was made with other options; what is finished takes seconds.
    """
    renders, run = runs / f"renders-{name}-{count}", runs / f"run-{name}-{count}"
    without = [] if name == FULL else ["--without", name]
    _call("synth", "faces", "-n", count, "-o", renders, "--workers", workers, *without)
    resume = ["--resume"] if (run / "config.toml").is_file() else []
    _call("train", config, "--data", renders, "-o", run, "--threads", 1, *resume)
    return run / "float.pt"


def _call(*arguments: Any) -> None:
    command = [sys.executable, "-m", "cunet_deploy", *(str(argument) for argument in arguments)]
    if subprocess.run(command, check=False).returncode:
        raise CunetError(f"{' '.join(command[1:])} failed; its message stands above")


def _errors(checkpoint: Path, photos: Path) -> list[float]:
    """The error of each face, as a share of the distance between the outer corners of the eyes."""
    session = TorchSession(load_checkpoint(checkpoint))
    evaluation = evaluate(session, read_300w(photos, len(session.manifest.skeleton)), PhotoCache(1 << 30))
    return [float(error) for error in evaluation.nme()]


if __name__ == "__main__":
    main()
