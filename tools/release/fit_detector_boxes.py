"""Relation of a face detector's boxes to tight landmark boxes: the figures behind `cunet_deploy.detection.yunet`.

Reads folders of the 300-W layout that list detected boxes in ``faces.json``, pairs each labelled face with the detected
box that overlaps it most, and prints the median offset of the centre and ratio of the sides, in units of the detected
box, with the mean overlap before and after applying them.

    python -m tools.release.fit_detector_boxes 300w/helen/trainset 300w/afw
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou
from tools.reports import errors_in_a_line

MIN_OVERLAP = 0.4
"""Below this the detector's box belongs to another face."""


def paired_boxes(folders: Sequence[Path]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Detected and landmark boxes, (N, 4) each, of the faces that the detector found."""
    detected, tight = [], []
    for folder in folders:
        for example in read_300w(folder, 68):
            if not len(example.others):
                continue
            overlap = box_iou(example.box, example.others)[0]
            if overlap.max() >= MIN_OVERLAP:
                detected.append(example.others[overlap.argmax()])
                tight.append(example.box)
    if not detected:
        raise InputError("no labelled face overlaps a box of faces.json; name folders of the 300-W layout with both")
    return np.array(detected), np.array(tight)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@errors_in_a_line
def main(folders: tuple[Path, ...]) -> None:
    """Fit boxes to the labelled faces of FOLDERS, and print what makes tight ones of them."""
    detected, tight = paired_boxes(folders)

    size, tight_size = detected[:, 2:] - detected[:, :2], tight[:, 2:] - tight[:, :2]
    center, tight_center = (detected[:, 2:] + detected[:, :2]) / 2, (tight[:, 2:] + tight[:, :2]) / 2
    offsets, ratios = (tight_center - center) / size, tight_size / size
    shift, ratio = np.median(offsets, axis=0), np.median(ratios, axis=0)

    moved = center + shift * size
    fitted = np.concatenate([moved - ratio * size / 2, moved + ratio * size / 2], axis=1)
    before, after = (
        np.mean([box_iou(a, b)[0, 0] for a, b in zip(boxes, tight, strict=True)]) for boxes in (detected, fitted)
    )
    print(
        f"{len(detected)} faces; centre moves by {shift.round(3)} (sd {offsets.std(axis=0).round(3)}) of width, height;"
    )
    print(f"sides times {ratio.round(3)} (sd {ratios.std(axis=0).round(3)}); overlap {before:.3f}, then {after:.3f}")


if __name__ == "__main__":
    main()
