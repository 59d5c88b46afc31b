"""Follow a rendered head that turns to profile and back: is it found in every frame, as one and the same?

    cunet-deploy synth turn -o turning --seed 4
    python -m tools.release.turns turning face68-s face68-m --json turning.json

The clip is followed as `cunet-deploy infer` does; the labels of every frame lie beside it. In each frame the face
counts as found where the box around somebody's landmarks overlaps the labelled one, and as found well where these are
close, too.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.data.ibug import read_pts
from cunet_deploy.detection.open import default_spec
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import open_model
from cunet_deploy.geometry import box_iou, landmark_boxes
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import Frame
from cunet_deploy.metrics import BOX
from cunet_deploy.skeletons import IBUG68
from tools.release.sides import CLOSE, OVERLAP
from tools.reports import errors_in_a_line, signed, write_report

BINS = ((0, 30), (30, 60), (60, 90))
"""Degrees to either side; the last one has 90, too."""

FloatArray = NDArray[np.float64]


@click.command()
@click.argument("turning", type=click.Path(path_type=Path))
@click.argument("models", nargs=-1, required=True)
@click.option("--detector", help="In place of the usual one, as infer takes it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def main(turning: Path, models: tuple[str, ...], detector: str | None, json_path: Path | None) -> None:
    """Follow the head in the folder TURNING with MODELS, which may be checkpoints."""
    cv2.setNumThreads(1)
    yaws, labels = read_turn(turning)
    rows = []
    for model in models:
        with Localizer(open_model(model, threads=1), detector=detector) as localizer:
            measured = follow(localizer.stream(turning / "clip.mp4"), yaws, labels)
            rows.append({"model": model, "detector": detector or default_spec(localizer.manifest), **measured})
    write_report(json_path, signed({"overlap": OVERLAP, "close_percent": 100 * CLOSE, "models": rows}))
    click.echo(table(rows), nl=False)


def read_turn(turning: Path) -> tuple[FloatArray, FloatArray]:
    """(F,) yaw and (F, 68, 2) landmarks of each frame.

    Raises:
        InputError: the folder is not of ``cunet-deploy synth turn``.
    """
    try:
        lines = [json.loads(line) for line in (turning / "frames.jsonl").read_text("utf-8").splitlines()]
        files = [(turning / line["image"]).with_suffix(".pts") for line in lines]
        return np.array([line["yaw"] for line in lines]), np.stack([read_pts(file, len(IBUG68)) for file in files])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{turning}: is no folder of cunet-deploy synth turn ({error})") from error


def follow(frames: Iterable[Frame], yaws: FloatArray, labels: FloatArray) -> dict[str, Any]:
    """Percentages of frames in which the head is found, and found well, and how often its track id changes."""
    errors, ids, strangers = np.full(len(yaws), np.inf), np.full(len(yaws), -1, np.int64), 0
    for frame in itertools.islice(frames, len(yaws)):
        found, truth = frame.landmarks, labels[frame.index][None]
        if not len(found):
            continue
        overlaps = box_iou(landmark_boxes(truth), landmark_boxes(found.points))[0]
        best = int(overlaps.argmax())
        strangers += int((overlaps < OVERLAP).any())
        if overlaps[best] >= OVERLAP:
            off = metrics.normalized_errors(found.points[best][None], truth, found.skeleton, BOX)
            errors[frame.index], ids[frame.index] = metrics.object_errors(off)[0], found.ids[best]
    side, rows = np.abs(yaws), []
    for low, high in (*BINS, (0, 90)):
        own = (side >= low) & ((side < high) | (high == BINS[-1][1]))
        if own.any():
            row: dict[str, Any] = {"yaw_from": low, "yaw_to": high, "frames": int(own.sum())}
            row |= {"found_percent": _percent(np.isfinite(errors[own])), "close_percent": _percent(errors[own] < CLOSE)}
            rows.append(row)
    seen = ids[ids >= 0]
    return {
        "ids": len(set(seen.tolist())),
        "id_changes": int((np.diff(seen) != 0).sum()),
        "longest_gap_frames": max((len(list(run)) for lost, run in itertools.groupby(ids < 0) if lost), default=0),
        "frames_with_something_else": strangers,
        "by_yaw": rows,
    }


def _percent(values: NDArray[np.bool_]) -> float:
    return round(100 * float(values.mean()), 2)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    spans = [f"{part['yaw_from']} to {part['yaw_to']}° ({part['frames']} frames)" for part in rows[0]["by_yaw"]]
    spans[0] = f"found (with NME below {CLOSE:.0%}) at {spans[0]}"
    lines = [f"| model | {' | '.join(spans)} | ids | longest gap | something else |", "|---" * (len(spans) + 4) + "|"]
    for row in rows:
        cells = [f"{part['found_percent']:.0f} ({part['close_percent']:.0f}) %" for part in row["by_yaw"]]
        ends = f"{row['ids']} | {row['longest_gap_frames']} frames | {row['frames_with_something_else']}"
        lines.append(f"| {row['model']} | {' | '.join(cells)} | {ends} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
