"""Draw up the learning curves of body models: accuracy on the validation split by epoch, a row for each training run.

    python -m tools.experiments.learning_curve runs/pose14-s runs/pose14-m

Runs are folders of ``cunet-deploy train``. Those with the same validation split can be compared; their accuracy is
that of the float network, averaged over the last steps. Writes docs/learning-curve.json; ``python -m tools.docs write``
puts it into docs/pose.md.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from cunet_deploy._decode import decode_json
from cunet_deploy.config import load_config
from cunet_deploy.errors import InputError
from tools.experiments.rows import ROOT
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

REPORT, DOCUMENT, MARK = ROOT / "docs" / "learning-curve.json", ROOT / "docs" / "pose.md", "learning curve"
KEY = "pck_20_percent"


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@errors_in_a_line
def main(runs: tuple[Path, ...]) -> None:
    """Collect the curves of RUNS."""
    report = signed({"rows": [row_of(run) for run in runs]})
    write_report(REPORT, report)
    click.echo(table_of(report), nl=False)


def row_of(run: Path) -> dict[str, Any]:
    """Settings of a run, and its accuracy in percent by float epoch.

    Raises:
        InputError: it is no run, or of no body model.
    """
    config, path = load_config(run / "config.toml"), run / "metrics.jsonl"
    try:
        lines = [decode_json(line, dict[str, Any]) for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected the metrics of a training run"
        ) from error
    curve = {line["epoch"]: round(line[KEY], 2) for line in lines if line["phase"] == "float" and KEY in line}
    if not curve:
        raise InputError(f"{path}: has no {KEY}; expected the training run of a body model")
    return {
        "run": run.name,
        "channels": config.model.channels,
        "crop": config.crop.size,
        "epochs": config.train.epochs,
        "learning_rate": config.train.learning_rate,
        "curve": curve,
    }


def table_of(report: dict[str, Any]) -> str:
    """The Markdown table: a row for each run, the accuracy after at most six of its epochs."""
    lines = ["| network | crop | epochs | PCK@0.2 on the validation split after epoch |", "|---|---|---|---|"]
    for row in report["rows"]:
        points = [(int(epoch), value) for epoch, value in row["curve"].items()]
        kept = points[:: -(-len(points) // 6)]
        kept += points[-1:] if kept[-1] != points[-1] else []
        curve = ", ".join(f"{epoch}: {value:.1f} %" for epoch, value in kept)
        lines.append(f"| {row['channels']} channels | {row['crop']} px | {row['epochs']} | {curve} |")
    return "\n".join(lines) + f"\n\n`{report['command']}`\n"


update = partial(update_reported_document, REPORT, DOCUMENT, MARK, table_of)

if __name__ == "__main__":
    main()
