"""Reproduce the tables of docs/tables.md: what the method costs and what it brings, against its baselines.

    python tools/reproduce.py list
    python tools/reproduce.py train order-1 --data 300w      # train and measure a row of tools/tables/rows.toml
    python tools/reproduce.py measure sizes latency memory steps   # what needs no training: seconds to minutes
    python tools/reproduce.py show --write                   # docs/tables.md from the recorded results
    python tools/reproduce.py show --check                   # exit code 1 where it is not current

A trained row takes minutes to hours; it resumes where it was stopped. Every result is one JSON file under
tools/tables/results/ with the command that made it, the machine and the versions. `show` computes nothing but intervals
of differences: what the tables hold was recorded by the commands that they name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tables_cost
import tables_text

from cunet_deploy._files import write_text_atomic
from cunet_deploy.checkpoint.storage import TorchSession, load_checkpoint
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import ConfigError, CunetError, InputError
from cunet_deploy.evaluation import evaluate
from cunet_deploy.machine.describe import describe_machine, describe_versions
from cunet_deploy.skeletons import get_skeleton

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "tools" / "tables"
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
        result = {"row": name, "command": f"python tools/reproduce.py train {name} --data 300w", **result}
        write_result(name, result)
        click.echo(f"{name}: NME {result['nme_percent']['value']:.2f} %")


@main.command("measure")
@click.argument("what", nargs=-1, required=True, type=click.Choice(["sizes", "latency", "memory", "steps"]))
def measure(what: tuple[str, ...]) -> None:
    """Measure what needs no training and record it."""
    for name in what:
        result = getattr(tables_cost, f"measure_{name}")(load_rows())
        write_result(name, {"command": f"python tools/reproduce.py measure {name}", **result, **provenance()})
        click.echo(f"{name}: {result_path(name)}")


@main.command("show")
@click.option("--write", is_flag=True, help="Write docs/tables.md.")
@click.option("--check", is_flag=True, help="Exit with 1 when docs/tables.md is not current.")
def show(write: bool, check: bool) -> None:
    """Print the tables."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted((TABLES / "results").glob("*.json"))}
    text = tables_text.document(load_rows(), results)
    path = ROOT / "docs" / "tables.md"
    if write:
        write_text_atomic(path, text, overwrite=True)
    elif check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        raise CunetError("docs/tables.md is not current; run: python tools/reproduce.py show --write")
    elif not check:
        click.echo(text, nl=False)


def load_rows() -> dict[str, dict[str, Any]]:
    """The trained rows of tools/tables/rows.toml by name."""
    rows: dict[str, dict[str, Any]] = tomllib.loads((TABLES / "rows.toml").read_text(encoding="utf-8"))
    return rows


def config_of(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a row: tools/tables/base.toml, or the one it names, with the row's changes."""
    table = tomllib.loads((ROOT / row.get("base", "tools/tables/base.toml")).read_text(encoding="utf-8"))
    if "base" not in row:
        table["name"] = name
    for key, value in row.get("set", {}).items():
        table[key] = {**table.get(key, {}), **value} if isinstance(value, dict) else value
    return table


def to_toml(table: dict[str, Any]) -> str:
    """A configuration as TOML: plain values first, then tables of plain values."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, values in table.items():
        if isinstance(values, dict):
            plain += ["", f"[{key}]", *(f"{inner} = {json.dumps(value)}" for inner, value in values.items())]
    return "\n".join(plain) + "\n"


def _train(name: str, row: dict[str, Any], data: Path, runs: Path) -> dict[str, Any]:
    run, config = runs / name, runs / f"{name}.toml"
    table = config_of(name, row)
    quantized = table.get("quant", {}).get("epochs", 0) > 0
    checkpoint = run / ("quantized.pt" if quantized else "float.pt")
    epochs = (0 if "parent" in row else table["train"]["epochs"]) + table.get("quant", {}).get("epochs", 0)
    if not checkpoint.is_file() or len(_epochs(run)) < epochs:
        runs.mkdir(parents=True, exist_ok=True)
        write_text_atomic(config, to_toml(table), overwrite=True)
        command = [sys.executable, "-m", "cunet_deploy", "train", config, "--data", data, "-o", run, "--threads", "1"]
        command += ["--from", ROOT / row["parent"]] if "parent" in row else []
        command += ["--resume"] if (run / "state.pt").is_file() else []
        subprocess.run([str(item) for item in command], check=True)
    return {"epochs": _epochs(run), **_measure(TorchSession(load_checkpoint(checkpoint)), data), **provenance()}


def _prefix(row: dict[str, Any], data: Path, runs: Path) -> dict[str, Any]:
    """The first U-Nets of a trained row, which cost no training of their own."""
    checkpoint = load_checkpoint(runs / row["prefix"] / "float.pt")
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
        **tables_cost.describe(session.checkpoint),
    }


def provenance() -> dict[str, Any]:
    """Machine and versions."""
    return {"machine": describe_machine(), "versions": describe_versions("torch", "onnx")}


def result_path(name: str) -> Path:
    """Where the result of a row or measurement is recorded."""
    return TABLES / "results" / f"{name}.json"


def write_result(name: str, result: dict[str, Any]) -> None:
    """Record a result."""
    result_path(name).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, allow_nan=False)
    write_text_atomic(result_path(name), text + "\n", overwrite=True)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (click.ClickException, CunetError, InputError) as error:
        code = getattr(error, "exit_code", 1)
        click.echo(f"error: {error.format_message() if isinstance(error, click.ClickException) else error}", err=True)
        sys.exit(code)
