"""Faces seen from the side are counted by yaw, and found where the labelled one is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from drawn import tiny_config, write_faces
from networks import random_checkpoint

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.data.examples import Example
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.skeletons import IBUG68
from tools.release import sides


class Seeing:
    """Finds a face where the points are that it is told."""

    def __init__(self, *faces: np.ndarray) -> None:
        self.faces, self.manifest = faces, SimpleNamespace(skeleton=IBUG68)

    def predict(self, photo: np.ndarray) -> Landmarks:
        count = len(self.faces)
        points = np.array(self.faces, np.float32).reshape(count, 68, 2)
        return Landmarks(
            points, np.ones((count, 68), np.float32), np.zeros((count, 4), np.float32), IBUG68, np.arange(count)
        )


def error(example: Example, *faces: np.ndarray) -> float:
    seeing: Any = Seeing(*faces)
    return sides.found_error(seeing, example, np.zeros((9, 9, 3), np.uint8))


def test_the_face_that_overlaps_most_counts(tmp_path: Path) -> None:
    example = read_300w(write_faces(tmp_path, 1), 68)[0]
    width, height = np.ptp(example.points, axis=0)
    moved = example.points + np.array([0.1 * np.sqrt(width * height), 0])
    far = example.points + np.array([2 * width, 0])
    assert error(example) == error(example, far) == float("inf")
    assert error(example, far, moved) == pytest.approx(0.1)
    assert error(example, moved, example.points) == pytest.approx(0, abs=1e-6)


def test_rows_are_means_and_shares_by_yaw() -> None:
    yaws = np.array([-31.0, 44.0, -61.0, 76.0, 95.0, 12.0])
    errors = np.array([0.02, 0.04, 0.08, 0.2, 0.3, 0.9])
    found = np.array([0.02, np.inf, 0.08, 0.05, np.inf, 0.01])
    rows = sides.by_yaw(yaws, errors, found)
    assert [(row["yaw_from"], row["yaw_to"], row["faces"]) for row in rows] == [
        (30, 45, 2), (60, 75, 1), (75, 90, 2), (60, 90, 3),
    ]  # fmt: skip
    assert [row["nme_box_percent"]["value"] for row in rows] == pytest.approx([3, 8, 25, 19.3333])
    assert [row["found_percent"]["value"] for row in rows] == pytest.approx([50, 100, 50, 66.6667])
    assert [row["found_close_percent"]["value"] for row in rows] == pytest.approx([50, 0, 50, 33.3333])
    table = sides.table([{"model": "s", "by_yaw": rows}])
    assert "| s | 75 to 90° | 2 | 25.00 % (20.00 to 30.00) | 50 % (0 to 100) | 50 % (0 to 100) |" in table


def test_a_card_has_a_row_for_each_range_of_yaw() -> None:
    rows = sides.by_yaw(np.array([40.0, 80.0]), np.array([0.02, 0.05]), np.array([0.02, np.inf]))
    report = {"faces": 2, "close_percent": 7.0, "command": "x", "models": [{"detector": "d", "by_yaw": rows}]}
    text = sides.text_of(report)
    assert "| 30 to 45° | 1 | 2.00 % (2.00 to 2.00) | 100 % (100 to 100) | 100 % (100 to 100) |" in text
    assert "| 75 to 90° | 1 | 5.00 % (5.00 to 5.00) | 0 % (0 to 0) | 0 % (0 to 0) |" in text


def test_what_the_cards_quote_is_current() -> None:
    assert sides.update_cards(Path(sides.__file__).parents[2] / "models", write=False) == []


def test_every_photo_needs_a_yaw(tmp_path: Path) -> None:
    examples = read_300w(write_faces(tmp_path, 2), 68)
    path = tmp_path / "yaw.json"
    path.write_text(json.dumps({"face000_1": 40.0}))
    with pytest.raises(InputError, match="says nothing about face001_1"):
        sides.read_yaws(path, examples)
    path.write_text(json.dumps({"face000_1": 40.0, "face001_1": -70}))
    assert sides.read_yaws(path, examples).tolist() == [40, -70]


def test_a_checkpoint_is_measured_as_a_model_is(tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "side", 2)
    (folder / "yaw.json").write_text(json.dumps({"face000_1": 40.0, "face001_1": -70}))
    save_checkpoint(random_checkpoint(tiny_config()), tmp_path / "float.pt")
    done = CliRunner().invoke(sides.main, [str(tmp_path / "float.pt"), "--data", str(folder), "--detector", "full"])
    assert done.exit_code == 0, done.output
    assert done.output.count("float.pt |") == 3
