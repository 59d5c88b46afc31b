"""Measure how many people detectors find by how large they are shown.

    python -m tools.experiments.object_sizes runs/larger/bundle models/person-detect-s --data DATA   # holds people

Every person is shown in the middle of the network's input, at several sizes, with what is around in the photo. So only
the size differs from row to row, not who it is. The report is docs/object-sizes.json; ``python -m tools.docs write``
puts it into docs/mixed-data.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import open_model
from cunet_deploy.geometry import Crop, box_iou
from cunet_deploy.metrics import Estimate, bootstrap_ratio
from cunet_deploy.preprocess import sample
from cunet_deploy.sessions.base import Session
from tools.experiments.rows import ROOT
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

REPORT, DOCUMENT, MARK = ROOT / "docs" / "object-sizes.json", ROOT / "docs" / "mixed-data.md", "object sizes"
PARTS = {"people#fashion_test": "fashion", "people#mpii_test": "MPII", "people#coco_test": "COCO"}
JOINTS = "people#mpii_test"
"""Part whose boxes end at the joints; those of whole bodies are made from these."""
SIDES = (48, 64, 96, 128, 192, 256)
"""Longer sides of a person's box, in pixels of the network's input."""
SURE = 0.8
"""Least score of a label."""
OVERLAP = 0.5


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds people.")
@errors_in_a_line
def main(models: tuple[str, ...], data: Path) -> None:
    """Measure the detectors MODELS."""
    rows, photos = [], PhotoCache(1 << 30)
    for model in models:
        session = open_model(model, threads=1)
        if session.manifest.boxes is None:
            raise InputError(f"{model}: finds landmarks; give a detector")
        for part in PARTS:
            people = read_boxes(data / part, bodies=part == JOINTS)
            for side in SIDES:
                hits = [_found(session, photo, side, photos) for photo in people]
                rows.append({"model": model, "part": part, "side": side, **recall_of(hits)})
        session.close()
    report = signed({"rows": rows})
    write_report(REPORT, report)
    click.echo(table_of(report), nl=False)


def recall_of(hits: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """Recall over the people of some photos; its interval is over photos, whose people are found or missed together.

    Args:
        hits: of each photo, whether each of its people was found.
    """
    counts = [(sum(photo), len(photo)) for photo in hits if photo]
    people = sum(count for _, count in counts)
    return {"photos": len(counts), "people": people, "recall_percent": bootstrap_ratio(counts).scaled(100).to_dict()}


def _found(session: Session, photo: BoxedPhoto, side: float, photos: PhotoCache) -> list[bool]:
    """Return whether each labelled person of a photo is found when its box is that large."""
    manifest, hits = session.manifest, []
    assert manifest.boxes is not None
    for box in photo.boxes[photo.scores >= SURE]:
        middle, longer = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
        size = manifest.crop.size
        crop = Crop((float(middle[0]), float(middle[1])), longer * size / side, size, 0.0)
        maps = session.run(sample(photos[photo.image], crop)[None])[0]
        boxes, _ = manifest.boxes.decode(maps, manifest.stride, manifest.min_score)
        true = crop.to_input(box.reshape(2, 2)).reshape(1, 4)
        hits.append(len(boxes) > 0 and bool(np.max(box_iou(true, boxes)) >= OVERLAP))
    return hits


def table_of(report: dict[str, Any]) -> str:
    """The Markdown table: one row for each size, one column for each model and part."""
    found = {(row["model"], row["part"], row["side"]): Estimate.of(row["recall_percent"]) for row in report["rows"]}
    models = list(dict.fromkeys(row["model"] for row in report["rows"]))
    columns = [(model, part) for part in PARTS for model in models]
    counts = {row["part"]: f"{row['people']} people in {row['photos']} photos" for row in report["rows"]}
    heads = [f"{PARTS[part]}, `{model.removesuffix('/bundle')}`" for model, part in columns]
    lines = [f"| person of | {' | '.join(heads)} |", "|---" * (1 + len(columns)) + "|"]
    for side in SIDES:
        cells = [found[model, part, side].text(0, unit="%") for model, part in columns]
        lines.append(f"| {side} px | {' | '.join(cells)} |")
    sentence = (
        f"Recall at the score of each model, at an intersection over union of {OVERLAP}, of people in the middle of "
        f"the input ({', '.join(f'{name} {counts[part]}' for part, name in PARTS.items())}); 95 % bootstrap intervals "
        "over photos."
    )
    return "\n".join([*lines, "", f"{sentence} `{report['command']}`", ""])


def update(*, write: bool) -> list[Path]:
    """Bring the table of docs/mixed-data.md up to date; the document if it is not current now."""
    return update_reported_document(REPORT, DOCUMENT, MARK, table_of, write=write)


if __name__ == "__main__":
    main()
