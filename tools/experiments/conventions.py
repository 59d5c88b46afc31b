"""Measure how much of a face model's error is another convention of where landmarks lie.

    python -m tools.experiments.conventions models/face68-s-open models/face68-s --data 300w/helen/testset \
        --mediapipe mediapipe-0.10.14-....whl

Data sets place the same 68 landmarks differently: along the contour, on the brows. A model that follows one convention
is measured on labels of another as if it were wrong. Here the predictions are moved to the convention of the labels, in
five folds, each with what the other four say: first by the mean offset of each landmark, then by a linear map of the
whole shape (ridge regression), which may also repair mistakes that a model makes again and again. It is a measurement
only: nothing of it goes into a model. The report is docs/conventions.json; ``python -m tools.docs write`` puts it into
docs/synthetic.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.errors import InputError
from cunet_deploy.metrics import Estimate, bootstrap_mean
from cunet_deploy.skeletons import IBUG68
from tools.experiments.rows import ROOT
from tools.peers.adapters import MediaPipe, Ours, Peer
from tools.peers.faces import find_landmarks
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

REPORT, DOCUMENT, MARK = ROOT / "docs" / "conventions.json", ROOT / "docs" / "synthetic.md", "conventions"
FOLDS = 5
PENALTY = 1.0
"""Penalty of the ridge regression, for shapes of mean square distance 1 from their middle."""
CONTOUR = 17
STEPS = {"as_it_is": "as it is", "offset": "less mean offsets", "linear": "less a linear map"}

Points = NDArray[np.float64]


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Labelled faces in the 300-W layout.")
@click.option("--mediapipe", type=click.Path(path_type=Path), help="face_landmark.tflite, or a wheel with it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=REPORT, help="In place of the report.")
@errors_in_a_line
def main(models: tuple[str, ...], data: Path, mediapipe: Path | None, json_path: Path) -> None:
    """Measure MODELS on faces as they are, and less what another convention explains."""
    cv2.setNumThreads(1)
    peers: list[Peer] = [Ours.load(name, 1) for name in models]
    if mediapipe is not None:
        peers.append(MediaPipe.load(mediapipe, 1))
    rows, faces = [], 0
    for peer in peers:
        found, truth = find_landmarks(peer, data)
        faces = len(found)
        rows.append({"model": peer.name, **measure(found, truth)})
    report = signed({"photos": "/".join(data.resolve().parts[-2:]), "faces": faces, "rows": rows})
    write_report(json_path, report)
    click.echo(table_of(report), nl=False)


def measure(found: Points, truth: Points) -> dict[str, Any]:
    """Errors in percent of the distance of the outer eye corners, of all landmarks and of those inside the contour.

    Args:
        found: (N, 68, 2) predictions in pixels.
        truth: (N, 68, 2) labels.

    Returns:
        By the keys of `STEPS`, ``all`` and ``inner``; and ``shift``, by how much predictions lie to the right of labels
        and below them, as the mean of inner landmarks.
    """
    result: dict[str, Any] = {}
    for step, moved in zip(STEPS, (found, move(found, truth, np.inf), move(found, truth, PENALTY)), strict=True):
        errors = 100 * metrics.normalized_errors(moved, truth, IBUG68, "outer_eye")
        parts = {"all": errors, "inner": errors[:, CONTOUR:]}
        result[step] = {part: bootstrap_mean(metrics.object_errors(own)).to_dict() for part, own in parts.items()}
    eyes = np.linalg.norm(truth[:, 45] - truth[:, 36], axis=1)
    shifts = 100 * (found - truth)[:, CONTOUR:].mean(axis=1) / eyes[:, None]
    result["shift"] = {
        axis: bootstrap_mean(shifts[:, number]).to_dict() for number, axis in enumerate(("right", "down"))
    }
    return result


def move(found: Points, truth: Points, penalty: float) -> Points:
    """Predictions moved to the convention of the labels, with what labels of other faces say.

    Args:
        found: (N, 68, 2) predictions.
        truth: (N, 68, 2) labels.
        penalty: of the linear map of shapes; infinite for mean offsets alone.

    Raises:
        InputError: there are fewer faces than folds.
    """
    if len(found) < FOLDS:
        raise InputError(f"{len(found)} faces are too few; expected at least {FOLDS}")
    middle = found.mean(axis=1, keepdims=True)
    size = np.sqrt(((found - middle) ** 2).sum(axis=(1, 2), keepdims=True) / found.shape[1])
    eyes = found[:, 42:48].mean(axis=1) - found[:, 36:42].mean(axis=1)
    axis = eyes / np.linalg.norm(eyes, axis=1, keepdims=True)
    upright = np.stack(
        [np.stack([axis[:, 0], -axis[:, 1]], axis=1), np.stack([axis[:, 1], axis[:, 0]], axis=1)], axis=1
    )
    shapes = ((found - middle) / size @ upright).reshape(len(found), -1)
    offsets = ((truth - middle) / size @ upright).reshape(len(found), -1) - shapes
    moved = np.empty_like(shapes)
    for fold in range(FOLDS):
        own = np.arange(len(found)) % FOLDS == fold
        mean = shapes[~own].mean(axis=0)
        moved[own] = shapes[own] + offsets[~own].mean(axis=0)
        if np.isfinite(penalty):
            known = shapes[~own] - mean
            matrix = known.T @ known + penalty * np.eye(known.shape[1])
            moved[own] += (shapes[own] - mean) @ np.linalg.solve(
                matrix, known.T @ (offsets[~own] - offsets[~own].mean(axis=0))
            )
    return np.asarray(moved.reshape(found.shape) @ upright.transpose(0, 2, 1) * size + middle)


def table_of(report: dict[str, Any]) -> str:
    """The Markdown table: one row for each model."""
    lines = [
        f"| model | {' | '.join(f'{title}: 68 | inner 51' for title in STEPS.values())} | to the right, below |",
        "|---" * (2 + 2 * len(STEPS)) + "|",
    ]
    for row in report["rows"]:
        cells = [Estimate.of(row[step][part]).text(unit="%") for step in STEPS for part in ("all", "inner")]
        shift = ", ".join(Estimate.of(row["shift"][axis]).text(unit="%") for axis in ("right", "down"))
        lines.append(f"| `{Path(row['model']).name}` | {' | '.join(cells)} | {shift} |")
    sentence = (
        f"NME by outer eye of {report['faces']} faces of {report['photos']} in boxes of their labels, {FOLDS} folds; "
        "the last column is where inner landmarks lie beside their labels on average, in the same unit; 95 % bootstrap "
        "intervals."
    )
    return "\n".join([*lines, "", f"{sentence} `{report['command']}`", ""])


def update(*, write: bool) -> list[Path]:
    """Bring the table of docs/synthetic.md up to date; the document if it is not current now."""
    return update_reported_document(REPORT, DOCUMENT, MARK, table_of, write=write)


if __name__ == "__main__":
    main()
