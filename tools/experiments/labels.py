"""Measure what the ways to treat noisy and missing labels of body joints bring.

    python -m tools.experiments.labels train base empty robust twice --data DATA   # holds lspet; 10 to 15 minutes each
    python -m tools.experiments.labels measure --data DATA

Each row trains a small network of the same shape for the same number of steps with the same seed; only what `ROWS`
names differs. ``measure`` compares them with the first on the same people, paired, and writes docs/labels.json;
``python -m tools.docs write`` puts them into docs/pose.md. One seed each: the intervals say nothing about another seed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from cunet_deploy._decode import read_toml
from cunet_deploy._files import write_text_atomic
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.evaluation import Evaluation, compare, evaluate, open_model
from cunet_deploy.metrics import Estimate
from tools.experiments.rows import ROOT, to_toml
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

BASE = ROOT / "tools" / "experiments" / "configs" / "labels.toml"
REPORT, DOCUMENT, MARK = ROOT / "docs" / "labels.json", ROOT / "docs" / "pose.md", "labels"
PARTS = ("lspet#test", "lspet#test:clean")
ROWS: Mapping[str, tuple[str, Mapping[str, Mapping[str, Any]]]] = {
    "base": ("joints without a label left out of the loss", {}),
    "empty": ('`unlabelled = "empty"`: taught as nowhere, as the authors did', {"train": {"unlabelled": "empty"}}),
    "robust": ("`robust = 0.8`: labels that the network doubts count less", {"train": {"robust": 0.8}}),
    "twice": (
        "people whose labels another model agrees with seen twice, 9 epochs",
        {"data": {"train": ["lspet#train", "lspet#train:clean"]}, "train": {"epochs": 9, "validate_every": 9}},
    ),
}
"""Rows by name: what they are, and which keys of the base configuration they change."""


@click.group()
def main() -> None:
    """Measure what the ways to treat labels bring; see the top of this file."""


def _runs_option(function: Any) -> Any:
    folder = ROOT / "runs" / "labels"
    return click.option("--runs", type=click.Path(path_type=Path), default=folder, help="Folder of the runs.")(function)


@main.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(list(ROWS)))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds lspet.")
@_runs_option
@errors_in_a_line
def train(names: tuple[str, ...], data: Path, runs: Path) -> None:
    """Train rows, or go on with them."""
    runs.mkdir(parents=True, exist_ok=True)
    for name in names:
        config, run = runs / f"{name}.toml", runs / name
        write_text_atomic(config, to_toml(config_of(name)), overwrite=True)
        command = [sys.executable, "-m", "cunet_deploy", "train", config, "--data", data, "-o", run, "--threads", "1"]
        command += ["--resume"] if (run / "config.toml").is_file() else []
        if subprocess.run([str(item) for item in command], check=False).returncode:
            raise CunetError(f"{name}: training failed; the message stands above")


def config_of(name: str) -> dict[str, Any]:
    """The configuration of a row."""
    table: dict[str, Any] = read_toml(BASE)
    changes = ROWS[name][1]
    return {**table, "name": name, **{key: {**table[key], **values} for key, values in changes.items()}}


@main.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds lspet.")
@_runs_option
@errors_in_a_line
def measure(data: Path, runs: Path) -> None:
    """Compare the rows that are trained with the first."""
    trained = [name for name in ROWS if (runs / name / "float.pt").is_file()]
    if trained[:1] != [next(iter(ROWS))]:
        raise InputError(
            f"{runs}: the first row is not trained; run: python -m tools.experiments.labels train base --data DATA"
        )
    photos = PhotoCache(1 << 30)
    parts = {
        part: {name: _evaluate(runs / name / "float.pt", data / part, photos) for name in trained} for part in PARTS
    }
    rows = [
        {"name": name, **{part: _row(found[name], found[trained[0]]) for part, found in parts.items()}}
        for name in trained
    ]
    write_report(REPORT, signed({"rows": rows}, "torch"))
    click.echo(table_of({"rows": rows}), nl=False)


def _evaluate(checkpoint: Path, dataset: Path, photos: PhotoCache) -> Evaluation:
    session = open_model(str(checkpoint), threads=1)
    return evaluate(session, read_examples(dataset, session.manifest.skeleton), photos)


def _row(found: Evaluation, first: Evaluation) -> dict[str, Any]:
    measured = found.measures()[0]
    return {
        "people": len(found.examples),
        measured.key: measured.estimate.to_dict(),
        "lost_percent_points": compare(found, first)[0].estimate.to_dict(),
    }


def table_of(report: dict[str, Any]) -> str:
    """The Markdown table."""
    text = "| labels | all: PCK@0.2 | against the first | clean: PCK@0.2 | against the first |\n" + "|---" * 5 + "|\n"
    for index, row in enumerate(report["rows"]):
        cells = [ROWS[row["name"]][0]]
        for part in PARTS:
            cells.append(Estimate.of(row[part]["pck_20_percent"]).text(1, unit="%"))
            gained = Estimate.of(row[part]["lost_percent_points"]).scaled(-1)
            cells.append(gained.text(1, sign=True) if index else "-")
        text += f"| {' | '.join(cells)} |\n"
    every, clean = (report["rows"][0][part]["people"] for part in PARTS)
    return f"{text}\nAll: {every} people of Leeds Sports Pose Extended; clean: {clean} of them.\n"


update = partial(update_reported_document, REPORT, DOCUMENT, MARK, table_of)

if __name__ == "__main__":
    main()
