"""Recall of detectors by the size at which people are shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy.boxmaps import BoxCode
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from tools.experiments import object_sizes


@dataclass(frozen=True)
class _Crop:
    size: int = 128


@dataclass(frozen=True)
class _Manifest:
    boxes: BoxCode
    crop: _Crop
    stride: int = 4
    min_score: float = 0.5


class Bright:
    """Finds what is bright, if it is at least 40 px wide."""

    manifest = _Manifest(BoxCode(), _Crop())

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows, columns = np.nonzero(images[0].max(axis=2) > 200)
        boxes = np.array([[columns.min(), rows.min(), columns.max(), rows.max()]], np.float64)
        shown = boxes if columns.max() - columns.min() >= 40 else boxes[:0]
        return self.manifest.boxes.encode(shown, np.zeros((0, 4)), 32, 4).maps[None]


@pytest.mark.parametrize(("side", "hit"), [(32, False), (48, True), (64, True)])
def test_a_person_is_shown_at_the_size_that_is_asked_for(tmp_path: Path, side: float, hit: bool) -> None:
    photo = np.zeros((300, 300, 3), np.uint8)
    photo[100:181, 60:141] = 255
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    boxes = np.array([[60, 100, 140, 180], [0, 0, 20, 20]], np.float64)
    photos = BoxedPhoto(tmp_path / "a.png", boxes, np.array([1.0, 0.3]), "a")
    session: Any = Bright()
    assert object_sizes._found(session, photos, side, PhotoCache()) == [hit]


def test_people_of_one_photo_are_drawn_together() -> None:
    alone = object_sizes.recall_of([[True]] * 10 + [[False]] * 10 + [[]])
    assert (alone["photos"], alone["people"], alone["recall_percent"]["value"]) == (20, 20, 50)
    together = object_sizes.recall_of([[True] * 10, [False] * 10])
    assert (together["photos"], together["people"]) == (2, 20)
    assert together["recall_percent"] == {"value": 50, "ci95_low": 0, "ci95_high": 100}
    assert 20 < alone["recall_percent"]["ci95_low"] < alone["recall_percent"]["ci95_high"] < 80


def test_a_size_has_a_row_and_a_model_a_column_for_each_part() -> None:
    recall = {"value": 50, "ci95_low": 40, "ci95_high": 60}
    rows = [
        {"model": model, "part": part, "side": side, "photos": 3, "people": 5, "recall_percent": recall}
        for model in ("runs/a/bundle", "b")
        for part in object_sizes.PARTS
        for side in object_sizes.SIDES
    ]
    text = object_sizes.table_of({"rows": rows, "command": "x"})
    assert "(fashion 5 people in 3 photos, MPII 5 people in 3 photos, COCO 5 people in 3 photos)" in text
    lines = text.splitlines()
    assert (
        lines[0]
        == "| person of | fashion, `runs/a` | fashion, `b` | MPII, `runs/a` | MPII, `b` | COCO, `runs/a` | COCO, `b` |"
    )
    assert lines[2] == "| 48 px |" + " 50 % (40 to 60) |" * 6


def test_the_table_of_the_docs_is_current() -> None:
    assert object_sizes.update(write=False) == []
