r"""Accuracy against latency against bytes, of any number of models: a table, a JSON file and a picture.

    python -m tools.experiments.curve face68-s face68-m face68-xs face68-s-ternary narrow-1=runs/narrow-1/bundle \
        narrow-2=runs/narrow-2/bundle --data 300w/helen/testset --json docs/curve.json --plot docs/curve.png

The narrow networks are not released: ``train`` and ``export`` make their bundles from
tools/experiments/configs/.
The models take turns on one thread, so their times can be compared; the errors are of the same faces. ``python -m
tools.docs write`` says below the picture in docs/models.md what it was measured on, and which models changed since.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2

from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.bench.latency import Candidate, Scene, drawn_picture, measure_latency, ratio
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.evaluation import evaluate
from cunet_deploy.metrics import Estimate, bootstrap_mean
from cunet_deploy.sessions import model_file, open_session
from tools.reports import errors_in_a_line, replace_between, signed, write_report

ROOT = Path(__file__).resolve().parents[2]
REPORT, DOCUMENT, MARK = ROOT / "docs" / "curve.json", ROOT / "docs" / "models.md", "curve"
ERROR = "nme_outer_eye_percent"


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Test photos in the 300-W layout.")
@click.option("--rounds", type=click.IntRange(min=1), default=40, show_default=True, help="Turns that each model has.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw them here (PNG).")
@errors_in_a_line
def main(models: tuple[str, ...], data: Path, rounds: int, json_path: Path | None, plot: Path | None) -> None:
    """Measure each MODEL (``NAME=PATH`` gives a path a name)."""
    cv2.setNumThreads(1)
    report = measure([_named(model) for model in models], data, rounds)
    write_report(json_path, report)
    if plot is not None:
        write_bytes_atomic(plot, draw(report["models"]), overwrite=True)
    click.echo(table(report["models"]), nl=False)


def _named(model: str) -> tuple[str, str]:
    name, equals, path = model.partition("=")
    return (name, path) if equals else (model, model)


def measure(models: Sequence[tuple[str, str]], data: Path, rounds: int) -> dict[str, Any]:
    """Bytes, error and latency of models given as (name, path)."""
    candidates = [Candidate(name, partial(open_session, path, threads=1)) for name, path in models]
    rows = []
    for name, path in models:
        session = open_session(path, threads=1)
        examples = read_300w(data, len(session.manifest.skeleton))
        result = evaluate(session, examples, PhotoCache(1 << 30))
        error = bootstrap_mean(result.nme("outer_eye"))
        bytes_ = model_file(path).stat().st_size
        rows.append({"name": name, "file_bytes": bytes_, ERROR: error.scaled(100).to_dict()})
        session.close()
    timings = measure_latency(candidates, Scene.centred(drawn_picture()), rounds=rounds)
    for row, timing in zip(rows, timings, strict=True):
        row["network_p50_ms"] = round(timing.medians_ms()["network"], 4)
        row["total_p50_ms"] = round(timing.percentiles_ms()[50], 4)
        row["network_ratio_to_first"] = ratio(timing, timings[0], stage="network").to_dict()
    return signed({"objects": len(examples), "threads": 1, "rounds": rounds, "models": rows})


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table."""
    lines = ["| model | file | NME | network | all |", "|---|---|---|---|---|"]
    for row in rows:
        nme = Estimate.of(row[ERROR]).text(unit="%")
        lines.append(
            f"| `{row['name']}` | {row['file_bytes'] / 1e6:.3f} MB | {nme} | {row['network_p50_ms']:.2f} ms "
            f"| {row['total_p50_ms']:.2f} ms |"
        )
    return "\n".join(lines) + "\n"


def note(report: Mapping[str, Any], released: Mapping[str, float]) -> str:
    """Say what the picture was measured on, and which released models are others now.

    Args:
        report: of the picture.
        released: errors of the released models by name, in percent, as they are quoted.
    """
    changed = [
        f"`{row['name']}`"
        for row in report["models"]
        if row["name"] in released and f"{row[ERROR]['value']:.2f}" != f"{released[row['name']]:.2f}"
    ]
    text = (
        f"On {report['objects']} faces, with 95 % intervals, and on one thread of {report['machine']['processor']}, "
        f"{report['rounds']} turns each."
    )
    if changed:
        text += f" It shows {', '.join(changed)} before they were trained again; the table has them as they are."
    return textwrap.fill(text, 124, break_on_hyphens=False) + "\n"


def update(*, write: bool) -> list[Path]:
    """docs/models.md where the note below the picture is not current; with ``write`` it is brought up to date."""
    tables = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "models").glob("*/numbers.json"))]
    released = {
        numbers["model"]: numbers["accuracy"]["released"][ERROR]["value"]
        for numbers in tables
        if ERROR in numbers["accuracy"]["released"]
    }
    text = note(json.loads(REPORT.read_text(encoding="utf-8")), released)
    return [] if replace_between(DOCUMENT, MARK, text, write=write) else [DOCUMENT]


def draw(rows: Sequence[dict[str, Any]]) -> bytes:
    """Latency to the right, error upwards, the area of a disc is the file size; a PNG."""
    import io

    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = plt.subplots(figsize=(8, 5), dpi=120)
    for row in rows:
        x, nme = row["network_p50_ms"], row[ERROR]
        low, high = nme["value"] - nme["ci95_low"], nme["ci95_high"] - nme["value"]
        axes.errorbar(x, nme["value"], yerr=[[low], [high]], color="#666666", capsize=3, linewidth=1, zorder=1)
        axes.scatter(x, nme["value"], s=row["file_bytes"] / 2000, color="#0072b2", alpha=0.7, zorder=2)
        label = f"{row['name']}\n{row['file_bytes'] / 1e6:.2f} MB"
        beside = 4 + 0.7 * math.sqrt(row["file_bytes"] / 2000) / 2  # of the disc, towards the upper right
        axes.annotate(label, (x, nme["value"]), xytext=(beside, beside), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4, 6, 8)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("latency of the network, ms per crop, one thread")
    axes.set_ylabel("NME by outer eye, % (95 % interval)")
    axes.margins(0.2, 0.15)
    axes.grid(visible=True, which="both", linewidth=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
