"""Measure the generalization gap of body models: their accuracy on people that they learned from, and on others.

    python -m tools.experiments.generalization models/pose14-s models/pose14-m --data DATA   # holds people and lspet

A large gap says that more people would help, none that the network is too small or was not trained for long enough. The
report is docs/generalization.json; ``python -m tools.docs write`` puts it into docs/pose.md.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.evaluation import evaluate, open_model
from cunet_deploy.metrics import Estimate
from tools.experiments.rows import ROOT
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

REPORT, DOCUMENT, MARK = ROOT / "docs" / "generalization.json", ROOT / "docs" / "pose.md", "generalization"
SOURCES = {
    "street fashion (labelled by networks)": ("people#ccp_train", "people#ccp_test"),
    "fashion": ("people#fashion_train", "people#fashion_test"),
    "MPII": ("people#mpii_train", "people#mpii_test"),
    "COCO": ("people#coco_train", "people#coco_test"),
    "LSPET": ("lspet#train", "lspet#test"),
}
"""Parts with people that models learned from and with others, by what the table calls them."""


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds people and lspet.")
@errors_in_a_line
def main(models: tuple[str, ...], data: Path) -> None:
    """Measure MODELS on both parts of each source."""
    rows = []
    for model in models:
        session = open_model(model, threads=1)
        for source, parts in SOURCES.items():
            found = [_accuracy(session, data / part) for part in parts]
            rows.append({"model": session.manifest.name, "source": source, "learned": found[0], "others": found[1]})
        session.close()
    report = signed({"rows": rows})
    write_report(REPORT, report)
    click.echo(table_of(report), nl=False)


def _accuracy(session: Any, dataset: Path) -> dict[str, Any]:
    found = evaluate(session, read_examples(dataset, session.manifest.skeleton), PhotoCache(1 << 20))
    measured = found.measures()[0]
    return {"people": len(found.examples), measured.key: measured.estimate.to_dict()}


def table_of(report: dict[str, Any]) -> str:
    """The Markdown table: one row for each source, two columns for each model."""
    models = list(dict.fromkeys(row["model"] for row in report["rows"]))
    heads = " | ".join(f"`{model}`: learned from | others" for model in models)
    lines = [f"| people of | {heads} |", "|---" * (1 + 2 * len(models)) + "|"]
    for source in dict.fromkeys(row["source"] for row in report["rows"]):
        cells = [
            Estimate.of(row[part]["pck_20_percent"]).text(1, unit="%")
            for row in report["rows"]
            if row["source"] == source
            for part in ("learned", "others")
        ]
        lines.append(f"| {source} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\nPCK@0.2 by torso, boxes given, a single crop each. `{report['command']}`\n"


update = partial(update_reported_document, REPORT, DOCUMENT, MARK, table_of)

if __name__ == "__main__":
    main()
