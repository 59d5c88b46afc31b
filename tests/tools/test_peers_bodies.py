"""MediaPipe's body network beside ours: the right joints, from the right crops."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import dots
import numpy as np
import pytest
import scipy.io
from bodies import UPRIGHT, write_lspet
from click.testing import CliRunner, Result
from drawn import tiny_config
from networks import random_checkpoint

from cunet_deploy.config import QuantConfig
from cunet_deploy.export.bundle import export_checkpoint, quantized_checkpoint
from cunet_deploy.skeletons import LSP14
from tools.peers import bodies as bodies_tool
from tools.peers import mediapipe_pose

COLOURS = np.array(
    [
        *[(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)],
        *[(1, 0.5, 0), (0, 0.5, 1), (0.5, 0, 1), (0.5, 1, 0), (0, 1, 0.5), (1, 0, 0.5)],
    ]
)
"""RGB of the dots at the first twelve joints of lsp14."""
NUMBERS = {  # as pose_landmark_by_roi_cpu.pbtxt of MediaPipe lists them
    f"{side}_{joint}": number + (side == "right")
    for number, joint in {11: "shoulder", 13: "elbow", 15: "wrist", 23: "hip", 25: "knee", 27: "ankle"}.items()
    for side in ("left", "right")
}
ANGLES = (0, 90, 180, -120, 30)


@dataclass
class Interpreter:
    """In place of LiteRT with MediaPipe's network: finds each joint by its colour, if it is in the crop."""

    maps: float = -20.0
    shape: tuple[int, ...] = (1, 256, 256, 3)
    given: np.ndarray = field(default_factory=lambda: np.zeros(0))
    found: list[np.ndarray] = field(default_factory=list)

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "shape": self.shape}]

    def get_output_details(self) -> list[dict[str, Any]]:
        shapes = ((1, 195), (1, 1), (1, 256, 256, 1), (1, 64, 64, 39), (1, 117))
        return [{"index": index, "shape": np.array(shape)} for index, shape in enumerate(shapes, 1)]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert index == 0
        assert value.shape == (1, 256, 256, 3)
        assert value.dtype == np.float32
        assert 0 <= value.min() <= value.max() <= 1
        self.given = value[0]

    def invoke(self) -> None:
        table = np.zeros((39, 2))
        for name, colour in zip(LSP14.landmarks, COLOURS, strict=False):
            rows, columns = np.nonzero(np.abs(self.given - colour).max(axis=2) < 0.2)
            if len(rows):
                table[NUMBERS[name]] = columns.mean() + 0.5, rows.mean() + 0.5
        joints = table[list(NUMBERS.values())]
        hips, shoulders = table[[23, 24]].mean(axis=0), table[[11, 12]].mean(axis=0)
        away = shoulders - hips
        table[33] = hips
        table[34] = hips + away / max(np.linalg.norm(away), 1) * np.linalg.norm(joints - hips, axis=1).max()
        self.found.append(table)

    def get_tensor(self, index: int) -> np.ndarray:
        if index == 1:
            return np.pad(self.found[-1], ((0, 0), (0, 3))).astype(np.float32).reshape(1, 195)
        seen = float(self.found[-1][23].any())
        return np.full((1, 64, 64, 39), self.maps, np.float32) if index == 4 else np.array([[seen]], np.float32)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return bodies_tool


@pytest.fixture(scope="module")
def network(script: ModuleType) -> ModuleType:
    return mediapipe_pose


@pytest.fixture
def fake(network: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    interpreter = Interpreter()
    monkeypatch.setattr(network, "load_litert", lambda content, threads, file: interpreter)
    return interpreter


@pytest.fixture
def run(script: ModuleType, tmp_path: Path) -> Callable[..., Result]:
    (tmp_path / "pose.tflite").write_bytes(b"x")

    def with_arguments(model: object, *arguments: object, mediapipe: str = "pose.tflite") -> Result:
        given = (model, "--mediapipe", tmp_path / mediapipe, "--rounds", 2, "--calls", 2, *arguments)
        return CliRunner().invoke(script.main, [str(item) for item in given])

    return with_arguments


def write_dotted(folder: Path) -> np.ndarray:
    """A folder like LSPET's with a person of coloured dots turned by each of `ANGLES`; the (N, 14, 2) joints."""
    (folder / "images").mkdir(parents=True)
    joints, people = np.ones((14, 3, len(ANGLES))), []
    for index, angle in enumerate(np.radians(ANGLES)):
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = UPRIGHT @ matrix.T + [110 + 5 * index, 100]
        image = np.full((200, 240, 3), 128, np.uint8)
        for point, colour in zip(points, COLOURS, strict=False):
            bgr = (colour[::-1] * 255).round().tolist()
            cv2.circle(image, (point * 16).round().astype(int), 4 * 16, bgr, -1, cv2.LINE_AA, 4)
        # losslessly, whatever its name: readers look at what is in a file
        (folder / "images" / f"im{index:05d}.jpg").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        joints[:, :2, index] = points + 1
        people.append(points)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    return np.stack(people)


def write_tiny_model(folder: Path) -> Path:

    write_lspet(folder / "lspet", 5)
    config = tiny_config()
    config = type(config)(**{**vars(config), "skeleton": "lsp14"})
    small = quantized_checkpoint(random_checkpoint(config), QuantConfig(), folder / "lspet")
    return export_checkpoint(small, folder / "tiny").path


def test_a_network_that_finds_everything_has_every_joint_in_every_crop(
    run: Callable[..., Result], fake: Interpreter, tmp_path: Path
) -> None:
    write_dotted(tmp_path / "people")
    result = run(write_tiny_model(tmp_path), "--data", tmp_path / "people", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    ours, other = json.loads((tmp_path / "r.json").read_text())["peers"]
    assert set(ours["accuracy"]["people"]) == {"people", "pck_14", "pck_12"}
    assert ours["network_ratio_to_first"]["value"] == ours["total_ratio_to_first"]["value"] == 1
    accuracy = other["accuracy"]["people"]
    for kind in ("pck_12", "pck_12_own", "pck_12_turned"):
        assert accuracy[kind]["value"] == accuracy[f"{kind}_of_seen"]["value"] == 100
        assert accuracy[f"{kind}_seen_percent"] == 100
    looks = np.stack(fake.found[-3 * len(ANGLES) :]).reshape(len(ANGLES), 3, 39, 2)
    hips, shoulders = looks[:, :, [23, 24]].mean(axis=2), looks[:, :, [11, 12]].mean(axis=2)
    up = shoulders - hips
    off = np.degrees(np.arctan2(up[:, 0, 0], -up[:, 0, 1])) - ANGLES
    np.testing.assert_allclose((off + 180) % 360, 180, atol=2)
    np.testing.assert_allclose(hips[:, 1:], 128, atol=2)
    np.testing.assert_allclose(up[:, 1:, 0], 0, atol=2)
    assert (up[:, 1:, 1] < -30).all()
    for text in ("", ", turned by its own landmarks", ", turned by the labels"):
        assert f"| MediaPipe pose, LiteRT{text} |" in result.output
    assert "100.0 % (100.0 to 100.0); 100.0 % of the 100 % it sees" in result.output
    assert "; of all 14 " in result.output


def test_joints_are_those_of_lsp14_and_pixels_are_ours(network: ModuleType, fake: Interpreter, tmp_path: Path) -> None:
    assert tuple(NUMBERS[name] for name in LSP14.landmarks[:12]) == network.JOINTS
    (truth, *_), image = write_dotted(tmp_path / "people"), cv2.imread(str(tmp_path / "people/images/im00000.jpg"))
    (tmp_path / "pose.tflite").write_bytes(b"x")
    peer = network.MediaPipePose.load(tmp_path / "pose.tflite", 1)
    for angle in (0.0, 70.0):
        found, score = peer.locate(image, network.Crop((112.0, 101.0), 180.0, 256, angle))
        np.testing.assert_allclose(found[list(network.JOINTS)], truth[:12], atol=0.2)
        assert score == 1


@pytest.mark.parametrize("angle", [0, 40, 180, -100])
def test_a_body_is_turned_upright(network: ModuleType, angle: float) -> None:
    turn = np.radians(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    labels = UPRIGHT @ matrix.T + [300, 200]
    inside = network.upright(labels, 1.25).to_input(labels)
    hips, shoulders = inside[[2, 3]].mean(axis=0), inside[[8, 9]].mean(axis=0)
    np.testing.assert_allclose(hips, 127.5, atol=1e-6)
    assert shoulders[0] == pytest.approx(127.5)
    assert shoulders[1] < 127.5
    assert np.linalg.norm(inside - 127.5, axis=1).max() == pytest.approx(128 / 1.25)
    labels[2] = np.nan
    assert network.upright(labels, 1.25) is None


def test_the_second_crop_is_as_large_as_the_circle_around_the_body(network: ModuleType) -> None:
    landmarks = np.zeros((39, 2))
    assert network.next_crop(landmarks) is None
    landmarks[[23, 24, 33]] = (60, 50), (40, 50), (50, 50)
    landmarks[[11, 12]] = (20, 60), (20, 40)  # the person lies with the head to the left
    landmarks[34] = 10, 50
    crop = network.next_crop(landmarks)
    assert (crop.center, crop.side, crop.size) == ((50, 50), 2 * 1.25 * 40, 256)
    np.testing.assert_allclose(crop.to_input([20, 50]), (127.5, 127.5 - 30 * 256 / 100))


def test_landmarks_are_corrected_by_confident_heatmaps_near_them(network: ModuleType) -> None:
    points, maps = np.full((39, 2), 100.0), np.full((64, 64, 39), -200.0, np.float32)
    maps[27, 24, 0] = maps[27, 26, 0] = 20  # cell (25, 25) is under the landmark
    maps[29, 25, 1] = 20  # too far
    maps[25, 25, 2] = -0.1  # not sure enough
    points[3], maps[0, 0, 3] = (-1, 1), 20  # outside
    points[4], maps[63, 63, 4] = (255, 255), 20
    found = network.refined(points, maps)
    np.testing.assert_allclose(found[0], (100, 108), atol=1e-4)
    np.testing.assert_allclose(found[4], (252, 252), atol=1e-4)
    np.testing.assert_array_equal(found[[1, 2, 3]], points[[1, 2, 3]])


def test_a_missing_litert_is_named(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    result = run("pose14-s")
    assert result.exit_code == 5
    assert "error: ai-edge-litert is not installed: pip install ai-edge-litert" in result.output


def test_a_wrong_file_is_one_clear_line(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interpreter(model_content: bytes, num_threads: int) -> Interpreter:
        if model_content == b"x":
            raise ValueError("The model is not a valid Flatbuffer buffer")
        return Interpreter(shape=(1, 192, 192, 3))

    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", SimpleNamespace(Interpreter=interpreter))
    monkeypatch.setattr(Interpreter, "allocate_tensors", lambda self: None, raising=False)
    (tmp_path / "text.whl").write_text("not a wheel")
    (tmp_path / "face.tflite").write_bytes(b"y")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("mediapipe/modules/other.tflite", b"x")
    said = {
        "none.whl": "does not exist; pip download --no-deps mediapipe==0.10.14",
        "text.whl": "is not a wheel",
        "other.whl": "has no pose_landmark/pose_landmark_full.tflite; mediapipe 0.10.14 has it",
        "pose.tflite": "is not a network that LiteRT runs (The model is not a valid Flatbuffer buffer)",
        "face.tflite": "takes [(1, 192, 192, 3)] and returns",
    }
    for name, text in said.items():
        result = run("pose14-s", mediapipe=name)
        assert result.exit_code == 2
        assert result.output.count("\n") == 1
        assert result.output.startswith(f"error: {tmp_path / name}: {text}")


def test_a_model_of_something_else_is_one_clear_line(
    run: Callable[..., Result], fake: Interpreter, tmp_path: Path
) -> None:
    result = run(dots.write_model(tmp_path / "dots.onnx"))
    assert result.exit_code == 2
    assert "finds the landmarks of dots; expected a body model of lsp14" in result.output
