"""``verify`` of bundles that are as they should be, of others, and of damaged ones."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from drawn import write_faces
from networks import write_models

from cunet_deploy.cli import cli


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models; see `write_models`."""
    folder = tmp_path_factory.mktemp("made")
    return write_models(folder, write_faces(folder / "faces", 6))


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A bundle that the test may spoil."""
    return Path(shutil.copytree(made / "int8", tmp_path / "int8"))


def one_array() -> bytes:
    """A ``.npy`` file, where an archive of several is expected."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_fresh_bundle_passes_against_its_checkpoint(made: Path, tmp_path: Path) -> None:
    arguments = ("verify", made / "int8", "--checkpoint", made / "quantized.pt", "--json", tmp_path / "r.json")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "r.json").read_text())
    assert table["passed"]
    assert set(table["stages"]) == {"runtime / export", "checkpoint / export", "runtime / checkpoint"}
    assert max(stage["mean_px"] for stage in table["stages"].values()) <= 0.05


def test_another_checkpoint_fails_and_the_runtime_is_not_blamed(made: Path) -> None:
    result = run("verify", made / "int8", "--checkpoint", made / "other.pt")
    assert result.exit_code == 4
    assert "checkpoint / export, runtime / checkpoint" in result.stderr
    assert "another checkpoint" in result.stderr


def test_a_runtime_that_computes_something_else_fails(bundle: Path) -> None:
    with np.load(bundle / "golden.npz") as archive:
        arrays = dict(archive)
    arrays["points"] = arrays["points"] + np.float32(0.1)
    np.savez(bundle / "golden.npz", **arrays)
    result = run("verify", bundle)
    assert result.exit_code == 4
    assert "runtime / export" in result.stderr
    assert run("verify", bundle, "--max-mean-px", 0.2).exit_code == 0


def test_exact_asks_for_every_bit_and_names_the_first_that_differs(bundle: Path, tmp_path: Path) -> None:
    exact = ("verify", bundle, "--backend", "ort:cpu", "--exact")
    passed = run(*exact, "--json", tmp_path / "r.json")
    assert passed.exit_code == 0, passed.output
    stage = json.loads((tmp_path / "r.json").read_text())["stages"]["runtime / export"]
    assert stage["values_differing"] == 0 < stage["values"]
    with np.load(bundle / "golden.npz") as archive:
        arrays = dict(archive)
    changed = arrays["heatmaps"][1, 2, 3, 4] = np.nextafter(arrays["heatmaps"][1, 2, 3, 4], np.float32(2))
    np.savez(bundle / "golden.npz", **arrays)
    failed = run(*exact)
    assert failed.exit_code == 4
    assert f"1 of {stage['values']} heatmap values differ" in failed.stderr
    assert f"in place of {changed:.9g} (input 1, map 2, row 3, column 4)" in failed.stderr
    close = run("verify", bundle, "--backend", "ort:cpu")
    assert close.exit_code == 0
    assert f"1 of {stage['values']}" in " ".join(close.stdout.split())


def test_a_model_that_was_exchanged_fails_by_its_checksum(bundle: Path, made: Path) -> None:
    shutil.copy(made / "float" / "model.onnx", bundle / "model.onnx")
    result = run("verify", bundle)
    assert result.exit_code == 4
    assert "manifest.json" in result.stderr


@pytest.mark.parametrize("name", ["golden.npz", "manifest.json", "model.onnx"])
def test_a_bundle_that_lacks_a_file_says_which(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    result = run("verify", bundle)
    assert result.exit_code == 2
    assert name in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("golden.npz", b"PK\x03\x04cut", id="cut off"),
        pytest.param("golden.npz", b"", id="empty"),
        pytest.param("golden.npz", b"\x93NUMPY\x01\x00", id="cut off array"),
        pytest.param("golden.npz", one_array(), id="one array"),
        pytest.param("manifest.json", b"{}", id="no manifest"),
    ],
)
def test_a_bundle_with_a_damaged_file_says_which(bundle: Path, name: str, content: bytes) -> None:
    (bundle / name).write_bytes(content)
    result = run("verify", bundle)
    assert result.exit_code == 3
    assert name in result.stderr


def test_golden_inputs_that_hold_objects_are_not_unpickled(bundle: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)  # type: ignore[return-value]

    np.savez(bundle / "golden.npz", images=np.array([Payload()], object), heatmaps=np.zeros(1), points=np.zeros(1))
    assert run("verify", bundle).exit_code == 3
    assert not (tmp_path / "executed").exists()
