"""The comparison with other models, with what every development environment has."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from drawn import write_faces
from networks import float_checkpoint, quantized_checkpoint

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.errors import InputError
from cunet_deploy.export.bundle import export_checkpoint
from tools.peers import adapters
from tools.peers import faces as faces_tool


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return faces_tool


@pytest.mark.slow
def test_a_model_is_compared_with_its_network_in_other_frameworks(script: ModuleType, tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", 4)
    save_checkpoint(float_checkpoint(), tmp_path / "float.pt")
    bundle = export_checkpoint(quantized_checkpoint(), tmp_path / "int8").path
    out = tmp_path / "peers.json"
    arguments = [bundle, "--network", tmp_path / "float.pt", "--calibration", faces, "--data", faces]
    result = CliRunner().invoke(
        script.main, [str(item) for item in (*arguments, "--rounds", 2, "--calls", 2, "--json", out)]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    peers = {peer["name"]: peer for peer in report["peers"]}
    assert {"same network, torch float", "same network, ONNX Runtime float"} <= set(peers)
    torch, onnx = (peers[f"same network, {name} float"]["accuracy"] for name in ("torch", "ONNX Runtime"))
    assert (torch["dataset"], torch["objects"]) == (f"{tmp_path.name}/faces", 4)
    error = torch["nme_outer_eye_percent"]["value"]
    assert onnx["nme_outer_eye_percent"]["value"] == pytest.approx(error, abs=0.01)
    assert peers[str(bundle)]["total_ratio_to_first"]["value"] == 1
    assert all(peer["network_p50_ms"] > 0 for peer in peers.values())
    assert any(line.startswith("MediaPipe: ") for line in report["missing"])
    assert f"| {bundle} |" in result.output


def test_errors_have_intervals_and_what_has_random_weights_has_none(script: ModuleType) -> None:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "ci95_low": value - 0.5, "ci95_high": value + 0.5}

    times = {f"{stage}_p50_ms": 1.0 for stage in ("prepare", "network", "finish")}
    row = {"name": "a", "file_bytes": 1e6, **times, "total_ratio_to_first": estimate(1.0)}
    accuracy = {"nme_outer_eye_percent": estimate(3.0), "nme_inner_51_percent": estimate(2.0)}
    lines = script.table([{**row, "accuracy": accuracy}, {**row, "accuracy": None}]).splitlines()
    assert lines[2].endswith("| 1.00 (0.50 to 1.50) | 3.00 % (2.50 to 3.50) | 2.00 % (1.50 to 2.50) |")
    assert lines[3].endswith("| 1.00 (0.50 to 1.50) | - | - |")


def test_a_file_without_the_network_of_a_peer_says_where_to_get_it(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mediapipe==0\.10\.14"):
        adapters.mediapipe_file(tmp_path / "missing.whl", "face_landmark/face_landmark.tflite")


def test_the_landmarks_of_a_mesh_are_68_different_vertices(script: ModuleType) -> None:
    vertices = np.array(adapters.MESH_68)
    assert len(vertices) == len(set(vertices.tolist())) == 68
    assert vertices.max() < 468
