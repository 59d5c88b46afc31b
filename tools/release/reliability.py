"""Reliability diagram of a body model: the share of joints that is right, by their scores.

    python -m tools.release.reliability pose14-s --data lspet#test --data people#test

It writes ``models/NAME/reliability.json`` and ``reliability.png``: for each data set the ten ranges of scores and the
expected calibration error (Guo et al., ICML 2017). ``python -m tools.docs write`` puts both into the card.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import click

from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import Evaluation, evaluate
from cunet_deploy.metrics import Estimate
from cunet_deploy.sessions import open_session
from tools.reports import errors_in_a_line, signed, update_reported_cards, write_report

ROOT = Path(__file__).resolve().parents[2]
MARK = "reliability"
PICTURE = "reliability.png"


@click.command()
@click.argument("name")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, required=True, help="Labelled people.")
@errors_in_a_line
def main(name: str, data: tuple[Path, ...]) -> None:
    """Measure the reliability of the released model NAME on labelled people that it was not trained on."""
    folder = ROOT / "models" / name
    session = open_session(folder / "model.onnx", threads=1)
    if session.manifest.score_curve is None:
        raise InputError(f"{name}: its scores are heights of peaks, which were not calibrated; train it again")
    rows = []
    for dataset in data:
        examples = read_examples(dataset, session.manifest.skeleton)
        rows.append(row_of(dataset.name, evaluate(session, examples, PhotoCache(1 << 30))))
    session.close()
    write_bytes_atomic(folder / PICTURE, draw(rows), overwrite=True)
    report = signed({"model": name, "data": rows}, "matplotlib")
    write_report(folder / "reliability.json", report)
    click.echo(text_of(report), nl=False)


def row_of(name: str, evaluation: Evaluation) -> dict[str, Any]:
    """Measure the reliability of scores on one data set; ranges without joints are left out."""
    bins = [part for part in evaluation.reliability() if isfinite(part.correct)]
    return {
        "name": name,
        "people": len(evaluation.examples),
        "joints": sum(part.landmarks for part in bins),
        "within": evaluation.limit,
        "normalizer": evaluation.normalizer,
        "calibration_error_percent": evaluation.calibration_error().estimate.to_dict(),
        "ranges": [
            {"score": round(part.score, 4), "correct": round(part.correct, 4), "joints": part.landmarks}
            for part in bins
        ],
    }


def draw(rows: Sequence[dict[str, Any]]) -> bytes:
    """The share of right joints over their mean score; a PNG. Areas of dots are numbers of joints."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    for row, colour in zip(rows, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=False):
        score, correct = ([part[key] for part in row["ranges"]] for key in ("score", "correct"))
        sizes = [400 * part["joints"] / row["joints"] for part in row["ranges"]]
        axes.plot(score, correct, color=colour, linewidth=1, label=row["name"])
        axes.scatter(score, correct, s=sizes, color=colour, alpha=0.6)
    axes.set(xlabel="score", ylabel="share of joints that are right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    axes.grid(visible=True, linewidth=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def text_of(report: dict[str, Any]) -> str:
    """Write the text of a card."""
    first = report["data"][0]
    lines = [
        f"A joint is right within {first['within']:g} of the {first['normalizer']}. Dots on the dashed line would be "
        "scores that are exactly the share",
        "of right joints. The area of a dot is the number of joints.",
        "",
        f"![The share of right joints by score]({PICTURE})",
        "",
        "| people | joints | mean distance of score and share (calibration error) |",
        "|---|---|---|",
    ]
    for row in report["data"]:
        error = Estimate.of(row["calibration_error_percent"]).text(unit="%")
        lines.append(f"| {row['people']} of {row['name']} | {row['joints']} | {error} |")
    lines += ["", f"`{report['command']}`"]
    return "\n".join(lines) + "\n"


update_cards = partial(update_reported_cards, MARK, text_of)

if __name__ == "__main__":
    main()
