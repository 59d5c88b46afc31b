"""Measuring detectors, and what README.md and the cards say of them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from bodies import write_lspet
from click.testing import CliRunner
from drawn import tiny_config
from networks import random_checkpoint

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.export.bundle import export_checkpoint
from tools.release import detectors as detectors_tool


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return detectors_tool


def numbers(**more: Any) -> dict[str, Any]:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "ci95_low": value - 1, "ci95_high": value + 1}

    row = {
        **{f"{key}_percent": estimate(90.0) for key in ("recall", "precision", "ap")},
        "photos": 7,
        "boxes": 9,
        "least_label_score": 0.8,
        "least_side_px": 24.0,
        "min_score": 0.5,
        "overlap": 0.5,
    }
    look = {"look_p50_ms": 4.0, "look_p95_ms": 5.0, "ratio_of_ours_to_it": estimate(1.0)}
    return {
        "model": "some-detect",
        "task": "boxes",
        "file": {"bytes": 290_000},
        "accuracy": {"dataset": "x#test", "float": row, "released": row, "parts": {"x#test": row}},
        "latency": {"threads": 1, "frame": [320, 240], "some-detect": look},
        "machine": {"processor": "P"},
        "versions": {"onnxruntime": "1"},
        **more,
    }


def test_people_are_said_to_be_people(script: ModuleType) -> None:
    assert "detects faces: recall 90.0 %" in script.sentence_of(numbers())
    text = script.sentence_of(numbers(objects="people"))
    assert "detects people: recall 90.0 % (89.0 to 91.0)\nand precision 90.0 % (89.0 to 91.0) on 9 people in" in text
    assert "against\nlabelled boxes and boxes on which two other detectors agree." in text
    table = script.table_of(numbers(objects="people"))
    assert table.startswith("| | photos | people | recall |")
    assert "latency per 320x240 frame, p50" in table


def test_a_data_set_has_the_same_name_everywhere(script: ModuleType, tmp_path: Path) -> None:
    assert script.name_of(tmp_path / "lspet#test:clean") == "lspet#test:clean"
    assert script.name_of(Path("/some/where/helen/testset")) == "helen/testset"


@pytest.fixture
def root(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a README, a detector of people with random weights and one that was measured; photos beside."""
    config = replace(tiny_config(boxes={"min_side": 6.0}, crop={"size": 96}), skeleton="box", name="tiny-detect")
    checkpoint, folder = random_checkpoint(config), tmp_path / "models" / "tiny-detect"
    export_checkpoint(checkpoint, folder)
    save_checkpoint(checkpoint, folder / "float.pt")
    (tmp_path / "models" / "some-detect").mkdir()
    (tmp_path / "models" / "some-detect" / "numbers.json").write_text(json.dumps(numbers()))
    for document in (tmp_path, folder, tmp_path / "models" / "some-detect"):
        (document / "README.md").write_text(
            "# Title\n\n<!-- detector: begin -->\nold\n<!-- detector: end -->\n\nmore\n"
        )
    write_lspet(tmp_path / "lspet", 9)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    return tmp_path


def test_a_detector_of_people_is_measured_on_frames_of_any_size(
    script: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["detectors.py", "with times"])
    frames = root / "frames"
    frames.mkdir()
    for index in range(5):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((90, 120, 3), 40 * index, np.uint8))
    arguments = ["tiny-detect", "--objects", "people", "--test", f"{root}/lspet#test", "--frames", str(frames)]
    result = CliRunner().invoke(script.main, [*arguments, "--bodies", f"{root}/lspet#test", "--rounds", "2"])
    assert result.exit_code == 0, result.output
    assert script.update_cards(root / "models", write=True) == []
    measured = json.loads((root / "models" / "tiny-detect" / "numbers.json").read_text())
    assert (measured["objects"], measured["task"]) == ("people", "boxes")
    assert (measured["accuracy"]["dataset"], measured["accuracy"]["released"]["boxes"]) == ("lspet#test", 3)
    assert measured["latency"]["frame"] == [120, 90]
    assert measured["latency"]["tiny-detect"]["look_p50_ms"] > 0
    card = (root / "models" / "tiny-detect" / "README.md").read_text()
    assert "| 8 bit, lspet#test | 3 | 3 | 0.0 % (0.0 to 0.0) | - |" in card  # nothing is found, so nothing is right
    assert "| 8 bit, whole bodies of lspet#test | 3 | 3 | " in card
    assert "latency per 120x90 frame, p50" in card
    readme = (root / "README.md").read_text()
    assert readme.endswith("<!-- detector: end -->\n\nmore\n")
    assert "detects faces:" in readme
    assert "detects people:" in readme
    monkeypatch.setattr(sys, "argv", ["detectors.py", "other photos"])
    arguments = ["tiny-detect", "--objects", "people", "--test", f"{root}/lspet#train:clean", "--keep-times"]
    for _ in range(2):
        assert CliRunner().invoke(script.main, arguments).exit_code == 0
        again = json.loads((root / "models" / "tiny-detect" / "numbers.json").read_text())
        assert again["accuracy"]["dataset"] == "lspet#train:clean"
        assert again["latency"] == measured["latency"]
        assert again["command"] == measured["command"].replace("with times", "other photos")
        assert again["times_command"] == measured["command"]


def test_yunet_takes_frames_of_one_size(script: ModuleType, root: Path) -> None:
    frames = str(root / "lspet" / "images")
    arguments = ["tiny-detect", "--test", f"{root}/lspet#test", "--frames", frames, "--yunet", "yunet.onnx"]
    result = CliRunner().invoke(script.main, arguments)
    assert result.exit_code == 2
    assert "frames of 160x160" in result.stderr
    assert "640x480" in result.stderr
