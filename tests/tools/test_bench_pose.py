"""MediaPipe's body network beside ours: the right joints, from the right crops."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bodies import UPRIGHT, write_lspet
from click.testing import CliRunner
from drawn import tiny_config
from tool_scripts import load_tool

from cunet_deploy.config import QuantConfig
from cunet_deploy.export.bundle import export_checkpoint, quantized_checkpoint
from cunet_deploy.skeletons import LSP14


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_tool("bench_pose")


@dataclass
class Interpreter:
    """In place of LiteRT: returns what it was told, in pixels of the crop."""

    points: np.ndarray
    score: float = 0.9
    given: list[np.ndarray] = field(default_factory=list)

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 1, "shape": (1, 195)}, {"index": 2, "shape": (1, 1)}, {"index": 3, "shape": (1, 117)}]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert index == 0
        assert value.shape == (1, 256, 256, 3)
        assert value.dtype == np.float32
        self.given.append(value)

    def invoke(self) -> None:
        pass

    def get_tensor(self, index: int) -> np.ndarray:
        table = np.zeros((39, 5), np.float32)
        table[:, :2] = self.points
        return table.reshape(1, 195) if index == 1 else np.array([[self.score]], np.float32)


def test_joints_are_those_of_lsp14_and_pixels_are_ours(script: ModuleType) -> None:
    parts = {11: ("shoulder", "elbow", "wrist"), 23: ("hip", "knee", "ankle")}  # left and right in turn
    names = {
        first + number: f"{'right' if number % 2 else 'left'}_{part[number // 2]}"
        for first, part in parts.items()
        for number in range(6)
    }
    assert tuple(names[number] for number in script.JOINTS) == LSP14.landmarks[:12]
    points = np.stack([np.arange(39) + 10.0, np.arange(39) + 20.0], axis=1)
    network = script.MediaPipePose(Interpreter(points), 1)
    crop = script.Crop((63.5, 63.5), 128.0, 256)
    found, score = network.locate(np.zeros((128, 128, 3), np.uint8), crop)
    assert score == pytest.approx(0.9)
    np.testing.assert_allclose(found[0], (points[28] - 0.5 + 0.5) / 2 - 0.5)


@pytest.mark.parametrize("angle", [0, 40, 180, -100])
def test_a_body_is_turned_upright(script: ModuleType, angle: float) -> None:
    turn = np.radians(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    labels = UPRIGHT @ matrix.T + [300, 200]
    crop = script.upright(labels, 1.25)
    inside = crop.to_input(labels)
    hips, shoulders = inside[[2, 3]].mean(axis=0), inside[[8, 9]].mean(axis=0)
    np.testing.assert_allclose(hips, 127.5, atol=1e-6)
    assert shoulders[0] == pytest.approx(127.5)
    assert shoulders[1] < 127.5
    assert np.linalg.norm(inside - 127.5, axis=1).max() == pytest.approx(128 / 1.25)
    labels[2] = np.nan
    assert script.upright(labels, 1.25) is None


def test_both_are_measured_on_the_same_people(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from cunet_deploy.checkpoint import Checkpoint
    from cunet_deploy.model.cunet import CUNet, initialize

    write_lspet(tmp_path / "lspet", 5)
    config = tiny_config()
    config = type(config)(**{**vars(config), "skeleton": "lsp14"})
    model = CUNet(config.model, 14)
    initialize(model, torch.Generator().manual_seed(0))
    small = quantized_checkpoint(Checkpoint.of_float(config, model), QuantConfig(), tmp_path / "lspet")
    bundle = export_checkpoint(small, tmp_path / "tiny").path
    # a body that fills its turned crop: right for everybody drawn upright, whatever the angle
    place = UPRIGHT - UPRIGHT[[2, 3]].mean(axis=0)
    place = place / np.linalg.norm(place, axis=1).max() * 128 / 1.25 + 128
    points = np.zeros((39, 2))
    points[list(script.JOINTS)] = place[:12]
    monkeypatch.setattr(script, "load_litert", lambda content, threads: Interpreter(points))
    (tmp_path / "pose.tflite").write_bytes(b"x")
    arguments = [bundle, "--mediapipe", tmp_path / "pose.tflite", "--data", tmp_path / "lspet", "--rounds", 2]
    arguments += ["--calls", 2, "--json", tmp_path / "r.json"]
    result = CliRunner().invoke(script.main, [str(item) for item in arguments])
    assert result.exit_code == 0, result.output
    ours, other = json.loads((tmp_path / "r.json").read_text())["peers"]
    assert set(ours["accuracy"]["lspet"]) == {"people", "pck_14", "pck_12"}
    assert other["accuracy"]["lspet"]["pck_12_turned"]["value"] > 95
    assert other["accuracy"]["lspet"]["pck_12_turned_seen_percent"] == 100
    assert "MediaPipe Pose (full), LiteRT, turned by the labels |" in result.output


def test_a_missing_file_says_where_to_get_it(script: ModuleType, tmp_path: Path) -> None:
    result = CliRunner().invoke(script.main, ["pose14-s", "--mediapipe", str(tmp_path / "none.whl")])
    assert result.exit_code == 2
    assert "mediapipe==0.10.14" in result.output
