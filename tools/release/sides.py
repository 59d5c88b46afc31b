"""Measure face models on faces seen from the side, by yaw.

    python -m tools.release.sides face68-s --data side/test --json models/face68-s/sides.json
    python -m tools.release.sides face68-s models/face68-m --data side/test --detector yunet:yunet.onnx

The folder has the layout of 300-W and a ``yaw.json`` that names the yaw of each photo in degrees. Landmarks in crops of
the labelled boxes are measured by NME, normalized by the box: the distance of the eyes says nothing in profile. Then
the whole photo is given to each model and its detector: a face is found where the box around some landmarks overlaps
the labelled one, and found well where those landmarks are close, too. ``python -m tools.docs write`` puts the figures
into the cards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy._decode import decode_json, read_text
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.detection.open import default_spec
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import evaluate, open_model
from cunet_deploy.geometry import box_iou, landmark_boxes
from cunet_deploy.localizer import Localizer
from cunet_deploy.metrics import BOX, Estimate, bootstrap_mean
from tools.reports import errors_in_a_line, signed, update_reported_cards, write_report

MARK = "sides"
BINS = ((30, 45), (45, 60), (60, 75), (75, 90), (60, 90))
"""Degrees to either side. Yaws beyond 90 count as 90, those below 30 not at all."""
OVERLAP = 0.4
"""Least IoU of the box around landmarks that are those of the labelled face."""
CLOSE = 0.07
"""NME by box below which the landmarks of a found face are good."""

FloatArray = NDArray[np.float64]


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Labelled faces, with a yaw.json.")
@click.option("--detector", help="In place of the usual one, as infer takes it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def main(models: tuple[str, ...], data: Path, detector: str | None, json_path: Path | None) -> None:
    """Measure MODELS, which may be checkpoints, on faces seen from the side."""
    cv2.setNumThreads(1)
    photos = PhotoCache(1 << 30)
    rows = []
    for model in models:
        session = open_model(model, threads=1)
        examples = read_examples(data, session.manifest.skeleton, "300w")
        yaws = read_yaws(data / "yaw.json", examples)
        errors = evaluate(session, examples, photos).nme(BOX)
        with closing(session), Localizer(session, detector=detector) as localizer:
            found = [found_error(localizer, example, photos[example.image]) for example in examples]
            used = detector or default_spec(localizer.manifest)
        rows.append({"model": model, "detector": used, "by_yaw": by_yaw(yaws, errors, np.array(found))})
    report = signed({"faces": len(examples), "overlap": OVERLAP, "close_percent": 100 * CLOSE, "models": rows})
    write_report(json_path, report)
    click.echo(table(rows), nl=False)


def read_yaws(path: Path, examples: Sequence[Example]) -> FloatArray:
    """(N,) yaw of each face in degrees.

    Raises:
        InputError: the file is missing, is something else, or lacks a photo.
    """
    try:
        said = decode_json(read_text(path, "the yaw of each photo", InputError), dict[str, float])
        return np.array([said[example.image.stem] for example in examples])
    except KeyError as error:
        raise InputError(f"{path}: says nothing about {error.args[0]}; expected the yaw of every photo") from error


def found_error(localizer: Localizer, example: Example, photo: NDArray[np.uint8]) -> float:
    """NME by box of the face that is found where the labelled one is; infinite where none is."""
    found = localizer.predict(photo).points.astype(np.float64)
    if not len(found):
        return float("inf")
    overlaps = box_iou(example.box[None], landmark_boxes(found))[0]
    best = int(overlaps.argmax())
    if overlaps[best] < OVERLAP:
        return float("inf")
    truth = example.points[None]
    errors = metrics.normalized_errors(found[best][None], truth, localizer.manifest.skeleton, BOX)
    return float(metrics.object_errors(errors)[0])


def by_yaw(yaws: FloatArray, errors: FloatArray, found: FloatArray) -> list[dict[str, Any]]:
    """A row for each of `BINS`: mean errors in percent, and the percentage of faces that were found, and found well."""
    side, rows = np.minimum(np.abs(yaws), 89.99), []
    for low, high in BINS:
        own = (side >= low) & (side < high)
        if not own.any():
            continue
        numbers = {
            "nme_box_percent": 100 * errors[own],
            "found_percent": 100.0 * np.isfinite(found[own]),
            "found_close_percent": 100.0 * (found[own] < CLOSE),
        }
        estimates = {key: bootstrap_mean(values).to_dict() for key, values in numbers.items()}
        rows.append({"yaw_from": low, "yaw_to": high, "faces": int(own.sum()), **estimates})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        f"| model | yaw | faces | NME by box | found by its detector | with NME below {CLOSE:.0%} |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for part in row["by_yaw"]:
            lines.append(f"| {row['model']} | {_cells(part)} |")
    return "\n".join(lines) + "\n"


def _cells(part: Mapping[str, Any]) -> str:
    """Yaw, number of faces, error and shares of a row."""
    error = Estimate.of(part["nme_box_percent"]).text(2, unit="%")
    shares = [Estimate.of(part[key]).text(0, unit="%") for key in ("found_percent", "found_close_percent")]
    return " | ".join([f"{part['yaw_from']} to {part['yaw_to']}°", str(part["faces"]), error, *shares])


def text_of(report: Mapping[str, Any]) -> str:
    """Write the text of a card."""
    (row,) = report["models"]
    lines = [
        f"On {report['faces']} real faces from the side, a single crop each: NME by the box in crops of the labelled "
        f"boxes, and what is found in the whole photo with {row['detector']}, with 95 % intervals "
        f"(`{report['command']}`):",
        "",
        f"| yaw | faces | NME by box | found | found with NME below {report['close_percent']:g} % |",
        "|---|---|---|---|---|",
    ]
    for part in row["by_yaw"]:
        lines.append(f"| {_cells(part)} |")
    return "\n".join(lines) + "\n"


update_cards = partial(update_reported_cards, MARK, text_of)

if __name__ == "__main__":
    main()
