"""Reproduce the tables of docs/tables.md: what the method costs and what it brings, against its baselines.

    python -m tools.experiments.reproduce list
    python -m tools.experiments.reproduce train order-1 --data 300w   # train and measure a row of tables/rows.toml
    python -m tools.experiments.reproduce measure sizes latency memory steps   # needs no training: seconds to minutes

A trained row takes minutes to hours; it resumes where it was stopped. Every result is one JSON file under
tables/results/ with the command that made it, the machine and the versions. ``python -m tools.docs write`` makes the
page of them and computes nothing but intervals of differences.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from cunet_deploy._files import write_text_atomic
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import ConfigError, CunetError
from cunet_deploy.evaluation import evaluate
from cunet_deploy.machine.describe import describe_machine, describe_versions
from cunet_deploy.sessions.registry import packages
from cunet_deploy.skeletons import get_skeleton
from tools.experiments import costs, pages
from tools.experiments.rows import ROOT, TABLES, config_of, load_rows, to_toml
from tools.reports import errors_in_a_line, replace_file

TESTSET = "helen/testset"


@click.group()
def main() -> None:
    """Reproduce the tables of docs/tables.md."""


@main.command("list")
def list_rows() -> None:
    """Print the trained rows, and which of them are recorded."""
    for name, row in load_rows().items():
        recorded = "recorded" if result_path(name).is_file() else "not recorded"
        click.echo(f"{name:16} {recorded:13} {row['label']}")


@main.command("train")
@click.argument("names", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds helen/ and afw/.")
@click.option("--runs", type=click.Path(path_type=Path), default=ROOT / "runs" / "tables", help="Folder of the runs.")
@errors_in_a_line
def train(names: tuple[str, ...], data: Path, runs: Path) -> None:
    """Train rows, or go on with them, and record what they reach on the test faces."""
    rows = load_rows()
    for name in names:
        if name not in rows:
            raise ConfigError(f"there is no row {name!r}; expected one of {', '.join(rows)}")
        row = rows[name]
        if "checkpoint" in row:
            result = {**_measure(TorchSession(load_checkpoint(ROOT / row["checkpoint"])), data), **provenance()}
        else:
            result = _train(name, row, data, runs) if "prefix" not in row else _prefix(row, data, runs)
        result = {"row": name, "command": f"python -m tools.experiments.reproduce train {name} --data 300w", **result}
        write_result(name, result)
        click.echo(f"{name}: NME {result['nme_percent']['value']:.2f} %")


@main.command("measure")
@click.argument(
    "what", nargs=-1, required=True, type=click.Choice(["sizes", "latency", "memory", "device_memory", "steps"])
)
@errors_in_a_line
def measure(what: tuple[str, ...]) -> None:
    """Measure what needs no training and record it."""
    for name in what:
        result = getattr(costs, f"measure_{name}")(load_rows())
        write_result(
            name, {"command": f"python -m tools.experiments.reproduce measure {name}", **result, **provenance()}
        )
        click.echo(f"{name}: {result_path(name)}")


def update(*, write: bool) -> list[Path]:
    """docs/tables.md where it is not current; with ``write`` it is brought up to date."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted((TABLES / "results").glob("*.json"))}
    return replace_file(ROOT / "docs" / "tables.md", pages.document(load_rows(), results), write=write)


def _train(name: str, row: dict[str, Any], data: Path, runs: Path) -> dict[str, Any]:
    checkpoint = load_checkpoint(_trained(name, row, data, runs))
    return {"epochs": _epochs(runs / name), **_measure(TorchSession(checkpoint), data), **provenance()}


def _trained(name: str, row: dict[str, Any], data: Path, runs: Path) -> Path:
    """Train a row, or go on with it; the checkpoint.

    ``train`` refuses a run of another configuration, other photos or another parent; what is finished takes seconds.
    """
    run, config = runs / name, runs / f"{name}.toml"
    table = config_of(name, row)
    write_text_atomic(config, to_toml(table), overwrite=True)
    command = [sys.executable, "-m", "cunet_deploy", "train", config, "--data", data, "-o", run, "--threads", "1"]
    command += ["--from", ROOT / row["parent"]] if "parent" in row else []
    command += ["--resume"] if (run / "config.toml").is_file() else []
    if subprocess.run([str(item) for item in command], check=False).returncode:
        raise CunetError(f"{name}: training failed; the message stands above")
    return run / ("quantized.pt" if table.get("quant", {}).get("epochs", 0) > 0 else "float.pt")


def _prefix(row: dict[str, Any], data: Path, runs: Path) -> dict[str, Any]:
    """The first U-Nets of a row, which cost no training beside it."""
    checkpoint = load_checkpoint(_trained(row["prefix"], load_rows()[row["prefix"]], data, runs).with_name("float.pt"))
    return {**_measure(TorchSession(checkpoint.first_unets(row["unets"])), data), **provenance()}


def _epochs(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _measure(session: TorchSession, data: Path) -> dict[str, Any]:
    """Accuracy on the test faces; the error of each face is kept, so that rows can be compared in pairs."""
    examples = read_300w(data / TESTSET, len(get_skeleton("ibug68")))
    evaluation = evaluate(session, examples, PhotoCache(1 << 30))
    measure = evaluation.measures()[0]
    return {
        "dataset": "HELEN subset",
        "objects": len(evaluation.examples),
        "metric": measure.title,
        "nme_percent": measure.estimate.to_dict(),
        "nme_of_each": [round(100 * float(error), 4) for error in evaluation.nme()],
        **costs.describe(session.checkpoint),
    }


def provenance() -> dict[str, Any]:
    """Machine and versions."""
    return {"machine": describe_machine(), "versions": describe_versions(*packages(), "torch", "onnx")}


def result_path(name: str) -> Path:
    """Return the path of the result of a row or measurement."""
    return TABLES / "results" / f"{name}.json"


def write_result(name: str, result: dict[str, Any]) -> None:
    """Record a result."""
    result_path(name).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False)
    write_text_atomic(result_path(name), text + "\n", overwrite=True)


if __name__ == "__main__":
    main()
