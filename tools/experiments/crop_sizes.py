"""Measure what larger crops bring a body model, and what they cost.

    python -m tools.experiments.crop_sizes runs/pose14-s-128/checkpoint.pt models/pose14-s/checkpoint.pt --data DATA

Every checkpoint is exported, compared with the first on the same people, paired, and timed in turns with the others.
Writes docs/crop-sizes.json; ``python -m tools.docs write`` puts it into docs/pose.md, which says how the networks were
trained. There is one of each: the intervals say nothing about other seeds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2

from cunet_deploy.bench.latency import Candidate, Scene, drawn_picture, measure_latency
from cunet_deploy.checkpoint.storage import Checkpoint, load_checkpoint
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.evaluation import Evaluation, compare, evaluate, open_model
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.metrics import Estimate
from cunet_deploy.sessions import open_session
from tools.experiments.rows import ROOT
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

REPORT, DOCUMENT, MARK = ROOT / "docs" / "crop-sizes.json", ROOT / "docs" / "pose.md", "crop sizes"
PARTS = {
    "people#fashion_test": "fashion",
    "people#mpii_test": "MPII",
    "people#coco_test": "COCO",
    "lspet#test:clean": "LSPET, clean",
}
ROUNDS, CALLS = 5, 20


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds lspet and people.")
@errors_in_a_line
def main(checkpoints: tuple[Path, ...], data: Path) -> None:
    """Compare CHECKPOINTS of body models with the first."""
    cv2.setNumThreads(1)
    loaded = [load_checkpoint(path) for path in checkpoints]
    photos = PhotoCache(1 << 30)
    with tempfile.TemporaryDirectory() as folder:
        models = [
            export_checkpoint(checkpoint, Path(folder) / str(number)).path / "model.onnx"
            for number, checkpoint in enumerate(loaded)
        ]
        found = [{part: _evaluate(model, data / part, photos) for part in PARTS} for model in models]
        candidates = [Candidate(str(model), partial(open_session, model, threads=1)) for model in models]
        timings = measure_latency(candidates, Scene.centred(drawn_picture()), rounds=ROUNDS, calls=CALLS)
    rows = [
        {**row_of(checkpoint, own, found[0]), "latency": timing.to_dict()}
        for checkpoint, own, timing in zip(loaded, found, timings, strict=True)
    ]
    report = signed({"rows": rows}, "torch", "onnxruntime")
    write_report(REPORT, report)
    click.echo(table_of(report), nl=False)


def _evaluate(model: Path, dataset: Path, photos: PhotoCache) -> Evaluation:
    session = open_model(str(model.parent), threads=1)
    return evaluate(session, read_examples(dataset, session.manifest.skeleton), photos)


def row_of(checkpoint: Checkpoint, own: Mapping[str, Evaluation], first: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Crop and accuracy of a network, and what it gains over the first, by test part."""
    config = checkpoint.config
    parts = {
        part: {
            "people": len(evaluation.examples),
            **{measure.key: measure.estimate.to_dict() for measure in evaluation.measures()},
            "gained_percent_points": compare(first[part], evaluation)[0].estimate.to_dict(),
        }
        for part, evaluation in own.items()
    }
    bits = config.quant.weight_bits if checkpoint.kind == "quantized" else None
    return {"crop": config.crop.size, "channels": config.model.channels, "bits": bits, "parts": parts}


def table_of(report: Mapping[str, Any]) -> str:
    """The Markdown table: a row for each network, PCK@0.2 with the gain over the first, OKS AP where there is one."""
    rows: Sequence[Mapping[str, Any]] = report["rows"]
    heads = ["crop", "channels", "network", *PARTS.values(), "COCO, OKS AP"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for index, row in enumerate(rows):
        bits = "float" if row["bits"] is None else f"{row['bits']} bit"
        cells = [f"{row['crop']} px", f"{row['channels']}", f"{bits}, {row['latency']['network_p50_ms']:.2f} ms"]
        for part in PARTS:
            value = row["parts"][part]["pck_20_percent"]["value"]
            gained = Estimate.of(row["parts"][part]["gained_percent_points"])
            cells.append(f"{value:.1f} %" + (f", {gained.text(1, sign=True)}" if index else ""))
        cells.append(Estimate.of(row["parts"]["people#coco_test"]["oks_ap_percent"]).text(1, unit="%"))
        lines.append(f"| {' | '.join(cells)} |")
    people = ", ".join(f"{name} {rows[0]['parts'][part]['people']}" for part, name in PARTS.items())
    lines += [
        "",
        f"PCK@0.2 by torso, boxes given, a single crop each ({people} people), and the gain over the first row with "
        f"95 % intervals; times of one thread of {report['machine']['processor']}. `{report['command']}`",
    ]
    return "\n".join(lines) + "\n"


update = partial(update_reported_document, REPORT, DOCUMENT, MARK, table_of)

if __name__ == "__main__":
    main()
