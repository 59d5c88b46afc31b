"""Measure in a real clip whether people are found where they are, and nobody where nobody is.

    python -m tools.release.people pose14-s walkers.mp4 --nobody no_people.mp4 --json models/pose14-s/people.json

The clip is followed from its first frame to its last, as `cunet-deploy infer` does. What is to be seen in a hundred of
its frames was marked by hand in ``tests/data/walkers_frames.csv``, which states the rule. A person is found where the
box around the landmarks of somebody has its middle near the marked one. In a clip that shows nobody, ``--nobody``, each
frame with landmarks is a mistake. ``python -m tools.docs write`` puts the figures into the cards.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from cunet_deploy.detection.open import default_spec
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import landmark_boxes
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import Frame
from tools.reports import errors_in_a_line, signed, update_reported_cards, write_report

ROOT = Path(__file__).resolve().parents[2]
MARKS = ROOT / "tests" / "data" / "walkers_frames.csv"
MARK = "people"
NEAR = 80.0
"""Pixels between the middles, at most: a person of the clip is about 120 wide."""


@dataclass(frozen=True)
class Mark:
    """Content of a frame: "whole", "part" or "empty", and where the middle of a whole person is."""

    shown: str
    x: float


def read_marks(path: Path = MARKS) -> dict[int, Mark]:
    """Read the marks, by the number of the frame."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {int(row["frame"]): Mark(row["shown"], float(row["x"] or "nan")) for row in rows}


def count(frames: Iterable[Frame], marks: dict[int, Mark]) -> dict[str, Any]:
    """Count the marked frames in which a whole person was found, and nobody where nobody is.

    Raises:
        InputError: the clip has not all of the marked frames.
    """
    whole = found = empty = nobody = seen = 0
    numbers: set[int] = set()
    for frame in frames:
        numbers.update(frame.landmarks.ids.tolist())
        mark = marks.get(frame.index)
        if mark is None:
            continue
        seen += 1
        boxes = landmark_boxes(frame.landmarks.points) if len(frame.landmarks) else np.zeros((0, 4))
        if mark.shown == "whole":
            whole += 1
            found += any(abs((box[0] + box[2]) / 2 - mark.x) <= NEAR for box in boxes)
        elif mark.shown == "empty":
            empty += 1
            nobody += not len(boxes)
    if seen < len(marks):
        raise InputError(f"the clip has {seen} of {len(marks)} marked frames; is it the one that was marked?")
    return {"whole": whole, "found": found, "empty": empty, "nobody": nobody, "numbers": len(numbers)}


def count_mistakes(name: str, frames: Iterable[Frame]) -> dict[str, Any]:
    """Count the frames of a clip that shows nobody in which somebody is found."""
    found = [len(frame.landmarks) > 0 for frame in frames]
    return {"clip": name, "frames": len(found), "somebody": sum(found)}


@click.command()
@click.argument("model")
@click.argument("clip", type=click.Path(path_type=Path))
@click.option("--nobody", type=click.Path(path_type=Path), help="A clip that shows nobody.")
@click.option("--detector", help="In place of the usual one, as infer takes it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def main(model: str, clip: Path, nobody: Path | None, detector: str | None, json_path: Path | None) -> None:
    """Count in CLIP the frames in which MODEL finds the person, and nobody."""
    cv2.setNumThreads(1)
    with Localizer(model, threads=1, detector=detector) as localizer:
        counts = count(localizer.stream(clip), read_marks())
        taken = {} if nobody is None else {"without_people": count_mistakes(nobody.name, localizer.stream(nobody))}
        manifest = localizer.manifest
    finder = detector or default_spec(manifest)
    report = {"model": manifest.name, "detector": finder, "clip": clip.name, **counts, **taken}
    write_report(json_path, signed(report))
    click.echo(text_of(report), nl=False)


def text_of(report: dict[str, Any]) -> str:
    """Write the text of a card."""
    lines = (
        f"In {report['clip']} (people who walk in, stand and leave, seen from behind; they are found by",
        f"{report['detector']}, then followed) the person is found in {report['found']} of {report['whole']} frames",
        f"that show a whole one, and nobody in {report['nobody']} of {report['empty']} empty ones;",
        f"{report['numbers']} track ids were given to the 6 people. A hundred frames were marked by hand in",
        "`tests/data/walkers_frames.csv`, which states the rule. Written by `tools/release/people.py`.",
    )
    text = "\n".join(lines) + "\n"
    if taken := report.get("without_people"):
        text += (
            f"\nWhat has arms and legs passes for a person: in {taken['clip']}, an animated film of animals, "
            f"somebody is found in {taken['somebody']} of\n{taken['frames']} frames.\n"
        )
    return text


update_cards = partial(update_reported_cards, MARK, text_of)

if __name__ == "__main__":
    main()
