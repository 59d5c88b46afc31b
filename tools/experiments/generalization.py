"""Measure the generalization gap of models of people: their accuracy on people that they learned from, and on others.

    python -m tools.experiments.generalization models/pose14-s models/pose14-m --data DATA   # holds people and lspet
    python -m tools.experiments.generalization models/person-detect-s --data DATA

A large gap says that more people would help, none that the network is too small or was not trained for long enough. The
reports are docs/generalization.json and, of detectors, docs/generalization-boxes.json; ``python -m tools.docs write``
puts them into docs/pose.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import evaluate, open_model
from cunet_deploy.evaluation.boxes import evaluate_boxes
from cunet_deploy.metrics import Estimate
from cunet_deploy.sessions.base import Session
from tools.experiments.rows import ROOT
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

DOCUMENT = ROOT / "docs" / "pose.md"
LANDMARKS, BOXES = ROOT / "docs" / "generalization.json", ROOT / "docs" / "generalization-boxes.json"
LANDMARKS_MARK, BOXES_MARK = "generalization", "generalization of detectors"
PEOPLE = {
    "street fashion (labelled by networks)": ("people#ccp_train", "people#ccp_test"),
    "fashion": ("people#fashion_train", "people#fashion_test"),
    "MPII": ("people#mpii_train", "people#mpii_test"),
    "COCO": ("people#coco_train", "people#coco_test"),
}
SOURCES = PEOPLE | {"LSPET": ("lspet#train", "lspet#test")}
"""Parts with people that models of landmarks learned from and with others, by what the table calls them."""
BOX_SOURCES = PEOPLE | {"LSPET, clean": ("lspet#train:clean", "lspet#test:clean")}
"""The same of detectors."""


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds people and lspet.")
@errors_in_a_line
def main(models: tuple[str, ...], data: Path) -> None:
    """Measure MODELS, all of landmarks or all detectors, on both parts of each source."""
    sessions = [open_model(model, threads=1) for model in models]
    finds_boxes = {session.manifest.boxes is not None for session in sessions}
    if len(finds_boxes) > 1:
        raise InputError("detectors and models of landmarks are measured differently; give those of one kind")
    boxes = finds_boxes == {True}
    measure, sources = (_recall, BOX_SOURCES) if boxes else (_pck, SOURCES)
    rows = []
    for session in sessions:
        for source, parts in sources.items():
            learned, others = (measure(session, data / part) for part in parts)
            rows.append({"model": session.manifest.name, "source": source, "learned": learned, "others": others})
        session.close()
    found = signed({"rows": rows})
    write_report(BOXES if boxes else LANDMARKS, found)
    click.echo(boxes_table_of(found) if boxes else table_of(found), nl=False)


def _pck(session: Session, dataset: Path) -> dict[str, Any]:
    found = evaluate(session, read_examples(dataset, session.manifest.skeleton), PhotoCache(1 << 20))
    measured = found.measures()[0]
    return {"people": len(found.examples), measured.key: measured.estimate.to_dict()}


def _recall(session: Session, dataset: Path) -> dict[str, Any]:
    """Recall of the boxes of whole bodies, everywhere made of the joints."""
    found = evaluate_boxes(session, read_boxes(dataset, bodies=True), PhotoCache(1 << 20))
    people = int(sum(len(match.sides) for match in found.matches))
    recall, least = found.measures()[0], {"min_score": session.manifest.min_score}
    return {"people": people, **least, recall.key: recall.estimate.to_dict()}


def table_of(report: dict[str, Any]) -> str:
    """The Markdown table of models of landmarks: one row for each source, two columns for each model."""
    sentence = "PCK@0.2 by torso, boxes given, a single crop each; 95 % intervals over people."
    return f"{_table(report, 'pck_20_percent')}\n\n{sentence} `{report['command']}`\n"


def boxes_table_of(report: dict[str, Any]) -> str:
    """The same of detectors."""
    sentence = (
        "Recall at the score of each model, at an intersection over union of 0.5 with the boxes of whole bodies around "
        "labelled joints, of people of at least 24 px of the input; each photo whole; 95 % intervals over photos."
    )
    return f"{_table(report, 'recall_percent')}\n\n{sentence} `{report['command']}`\n"


def _table(report: dict[str, Any], key: str) -> str:
    models = list(dict.fromkeys(row["model"] for row in report["rows"]))
    heads = " | ".join(f"`{model}`: learned from | others" for model in models)
    lines = [f"| people of | how many | {heads} |", "|---" * (2 + 2 * len(models)) + "|"]
    for source in dict.fromkeys(row["source"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["source"] == source]
        counts = dict.fromkeys(f"{row['learned']['people']:,} and {row['others']['people']:,}" for row in rows)
        cells = [Estimate.of(row[part][key]).text(1, unit="%") for row in rows for part in ("learned", "others")]
        lines.append(f"| {source} | {' or '.join(counts)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def update(*, write: bool) -> list[Path]:
    """Bring the tables of docs/pose.md up to date; the documents that are not current now."""
    tables = ((LANDMARKS, LANDMARKS_MARK, table_of), (BOXES, BOXES_MARK, boxes_table_of))
    changed = [update_reported_document(report, DOCUMENT, mark, of, write=write) for report, mark, of in tables]
    return list(dict.fromkeys(path for paths in changed for path in paths))


if __name__ == "__main__":
    main()
