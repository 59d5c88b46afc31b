"""``cunet-deploy models``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from cunet_deploy.bench.latency import Candidate, Scene, drawn_picture, measure_latency
from cunet_deploy.cli._options import json_option, overwrite_option, progress
from cunet_deploy.cli._report import advancing, json_report, results
from cunet_deploy.errors import ArtifactError
from cunet_deploy.machine.describe import describe_machine, describe_versions
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.registry import packages
from cunet_deploy.zoo import DEFAULT_MODEL, find_model, released_models

__all__ = ["command"]


_ROUNDS, _CALLS = 8, 5


@click.command("models")
@click.option("--measure", is_flag=True, help="Time the network of each on this machine, with one thread, in turns.")
@json_option
@overwrite_option
def command(measure: bool, json_path: Path | None, overwrite: bool) -> None:
    """List the released models that come with this installation.

    Accuracy was measured at release, on the data set named with it: NME is the mean error, lower is better; PCK is the
    share of correct body joints; recall and precision are those of detectors. With --measure, "ms here" is the median
    time of the network for one crop, or for one whole picture if it is a detector.

    \b
    Example:
      cunet-deploy models --measure --json models.json
    """
    with json_report(json_path, overwrite=overwrite) as write:
        rows = [_describe(name) for name in released_models()]
        if measure and rows:
            for row, network_ms in zip(rows, _time([row["path"] for row in rows]), strict=True):
                row["network_p50_ms"] = network_ms
        here = {"machine": describe_machine(), "versions": describe_versions(*packages())} if measure else {}
        write({"models": rows, **here})
    if not rows:
        results().print(
            "no released models in this installation; in a clone of the repository run: pip install --force-reinstall ."
        )
        return
    table = Table()
    table.add_column("model")
    for column in ("finds", "input", "bits", "MB", *(["ms here"] if measure else []), "accuracy"):
        table.add_column(column, justify="right")
    table.add_column("licence")
    for row in rows:
        table.add_row(
            f"{row['name']} (default)" if row["name"] == DEFAULT_MODEL else row["name"],
            "boxes" if row["task"] == "boxes" else f"{row['landmarks']} ({row['skeleton']})",
            f"{row['input_pixels']} px",
            str(row["weight_bits"]),
            f"{row['file_bytes'] / 1e6:.3f}",
            *([f"{row['network_p50_ms']:.2f}"] if measure else []),
            _shown(row),
            row["licence"],
        )
    results().print(table)


def _time(paths: list[str]) -> list[float]:
    """Median ms of the network of each model for one crop, with one thread."""
    candidates = [Candidate(path, partial(open_session, Path(path), threads=1)) for path in paths]
    with advancing(progress(), "timing", len(paths) * _ROUNDS) as advance:
        timings = measure_latency(
            candidates, Scene.centred(drawn_picture()), rounds=_ROUNDS, calls=_CALLS, advance=advance
        )
    return [round(timing.medians_ms()["network"], 4) for timing in timings]


def _describe(name: str) -> dict[str, Any]:
    path = find_model(name)
    session = open_session(path, threads=1)
    manifest = session.manifest
    session.close()
    return {
        "name": name,
        "path": str(path),
        "task": "landmarks" if manifest.boxes is None else "boxes",
        "skeleton": manifest.skeleton.name,
        "landmarks": len(manifest.skeleton),
        "input_pixels": manifest.crop.size,
        "weight_bits": manifest.weight_bits,
        "activation_bits": manifest.activation_bits,
        "file_bytes": path.stat().st_size,
        "licence": manifest.licence,
        **_accuracy(path.with_name("numbers.json")),
    }


def _shown(row: dict[str, Any]) -> str:
    """The main number of a model."""
    if "nme_percent" in row:
        return f"NME {row['nme_percent']['value']:.2f} % ({row['nme_dataset']})"
    if "pck_percent" in row:
        name = "PCKh" if row["pck_normalizer"] == "head" else "PCK"
        return f"{name}@{row['pck_threshold']:g} {row['pck_percent']['value']:.1f} % ({row['pck_dataset']})"
    if "recall_percent" in row:
        return f"recall {row['recall_percent']['value']:.1f} %, precision {row['precision_percent']['value']:.1f} %"
    return "-"


def _accuracy(path: Path) -> dict[str, Any]:
    """The main numbers of the released file, with the data set, where a file of measured numbers stands beside it."""
    if not path.is_file():
        return {}
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        accuracy = numbers["accuracy"]
        if numbers.get("task") == "boxes":
            keys = ("recall_percent", "precision_percent", "ap_percent")
            return {**{key: _estimate(accuracy, key) for key in keys}, "dataset": accuracy["dataset"]}
        normalizer, metric = accuracy["normalizer"], str(accuracy.get("metric", ""))
        if metric.startswith("pck"):
            return {
                "pck_percent": _estimate(accuracy, f"{metric}_percent"),
                "pck_threshold": int(metric.rpartition("_")[2]) / 100,
                "pck_normalizer": normalizer,
                "pck_dataset": accuracy["dataset"],
            }
        return {
            "nme_percent": _estimate(accuracy, f"nme_{normalizer}_percent"),
            "nme_normalizer": normalizer,
            "nme_dataset": accuracy["dataset"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: is damaged ({error!r}); remove it or reinstall the package") from error


def _estimate(accuracy: dict[str, Any], key: str) -> dict[str, float]:
    """A number of the released file; one without a value is found out here, not where it is shown."""
    estimate: dict[str, float] = accuracy["released"][key]
    float(estimate["value"])
    return estimate
