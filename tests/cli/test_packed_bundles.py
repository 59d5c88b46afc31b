"""Every command on bundles of packed weights."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from drawn import write_faces
from networks import quantized

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.bundle import export_checkpoint

MODELS = {
    "binary": ("post", QuantConfig(weight_bits=1)),
    "ternary": ("pre", QuantConfig(weight_bits=2, ternary=True)),
    "refined": ("refined post", QuantConfig(weight_bits=4, layers={"down.*": "1"})),
    "hourglass": ("hourglass", QuantConfig(weight_bits=1, activation_bits=6)),
}
BITS = {"binary": 1, "ternary": 2, "refined": 4, "hourglass": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint NAME.pt and a bundle NAME for each model, and drawn faces in faces/."""
    folder = tmp_path_factory.mktemp("made")
    write_faces(folder / "faces", 4)
    for name, (network, quant) in MODELS.items():
        checkpoint = quantized(network, quant)
        save_checkpoint(checkpoint, folder / f"{name}.pt")
        export_checkpoint(checkpoint, folder / name)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", MODELS)
def test_evaluate_finds_a_bundle_equal_to_its_checkpoint(name: str, made: Path, tmp_path: Path) -> None:
    result = run(
        "evaluate", made / name, made / "faces", "--against", made / f"{name}.pt", "--json", tmp_path / "x.json"
    )
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "x.json").read_text())
    assert f"{BITS[name]} bit" in " ".join(result.output.split())
    assert max(abs(item["value"]) for item in table["difference"].values()) <= (0.05 if name == "hourglass" else 0)
    assert json.dumps(table).count(f'"weight_bits": {BITS[name]}') == 2


@pytest.mark.parametrize("name", MODELS)
def test_verify_passes_against_the_checkpoint(name: str, made: Path, tmp_path: Path) -> None:
    result = run("verify", made / name, "--checkpoint", made / f"{name}.pt", "--json", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    stages = json.loads((tmp_path / "x.json").read_text())["stages"]
    assert len(stages) == 3
    assert max(stage["mean_px"] for stage in stages.values()) <= (0.05 if name == "hourglass" else 0)


def test_verify_tells_networks_of_other_bits_apart(made: Path) -> None:
    result = run("verify", made / "binary", "--checkpoint", made / "refined.pt")
    assert result.exit_code == 4
    assert "was made from another checkpoint" in result.output


def test_bench_shows_bits_and_size_of_packed_files(made: Path, tmp_path: Path) -> None:
    result = run("bench", made / "binary", made / "refined", "--rounds", 1, "--calls", 1, "--json", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    table = json.dumps(json.loads((tmp_path / "x.json").read_text()))
    assert '"weight_bits": 1' in table
    assert '"weight_bits": 4' in table
    assert f"{(made / 'binary' / 'model.onnx').stat().st_size / 1e6:.3f}" in result.output


@pytest.mark.parametrize("name", MODELS)
def test_infer_runs_a_packed_bundle(name: str, made: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), np.full((64, 64, 3), 120, np.uint8))
    result = run("infer", tmp_path / "in.png", "--model", made / name, "-o", tmp_path / "out.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.jsonl").is_file()
