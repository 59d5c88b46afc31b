"""The recipe for a landmark set in docs/architecture.md, followed with a dummy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import cunet_deploy.skeletons as package
from cunet_deploy.config import parse_config
from cunet_deploy.skeletons import SKELETONS, map_landmarks, read_sets

HANDS = """
name = "hands"
landmarks = ["left_wrist", "left_thumb", "right_wrist", "right_thumb"]
flip_pairs = [["left_wrist", "right_wrist"], ["left_thumb", "right_thumb"]]
edges = [["left_thumb", "left_wrist", "right_wrist", "right_thumb"]]

[normalizers]
span = ["left_wrist", "right_wrist"]
"""


def test_a_file_is_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in Path(package.__file__).parent.glob("*.toml"):
        shutil.copy(file, tmp_path)
    (tmp_path / "hands.toml").write_text(HANDS)
    sets = read_sets(tmp_path)
    assert set(sets) == {*SKELETONS, "hands"} - {"box"}
    monkeypatch.setitem(SKELETONS, "hands", sets["hands"])
    config = parse_config({"name": "x", "skeleton": "hands", "data": {"train": ["a"]}})
    assert config.landmarks.flip_order.tolist() == [2, 3, 0, 1]
    assert config.landmarks.edges == ((1, 0), (0, 2), (2, 3))
    wrists = map_landmarks(np.arange(34.0).reshape(17, 2), SKELETONS["coco17"], config.landmarks)
    assert wrists[0].tolist() == [18, 19]
