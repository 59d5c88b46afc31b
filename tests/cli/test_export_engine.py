"""``export --engine``: bundle and engine in one command, or what is missing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from networks import quantized_checkpoint

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.cli.export import command
from cunet_deploy.errors import InputError, MissingDependencyError
from cunet_deploy.tensorrt import flavour


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "q.pt"
    save_checkpoint(quantized_checkpoint(channels=16), path)
    return path


def export(checkpoint: Path, out: Path, *arguments: str) -> Any:
    return CliRunner().invoke(command, [str(checkpoint), "-o", str(out), *arguments])


def test_the_engine_lies_in_the_bundle_and_is_named_last(checkpoint: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt_rtx is not installed")
    # in a process of its own: TensorRT keeps the first logger that it is given, and other tests give it a fake one
    arguments = ["export", str(checkpoint), "-o", str(tmp_path / "b"), "--engine"]
    result = subprocess.run(
        [sys.executable, "-m", "cunet_deploy", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (engine,) = (tmp_path / "b").glob("*.engine")
    description = json.loads(engine.with_name(f"{engine.name}.json").read_text())
    assert description["manifest"]["name"] == "tiny"
    convolutions = next(line for line in result.stdout.splitlines() if "convolutions int8" in line).split()
    assert convolutions[0] == convolutions[2] != "0"
    assert result.stdout.splitlines()[-1] == f"next: cunet-deploy infer VIDEO --model {engine}"


def test_without_a_builder_the_bundle_is_there_and_the_install_line_is_the_message(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str, *, extra: str) -> None:
        raise MissingDependencyError(f"{module} is not installed; run: pip install 'cunet-deploy[{extra}]'")

    monkeypatch.setattr(flavour, "require", missing)
    result = CliRunner().invoke(cli, ["export", str(checkpoint), "-o", str(tmp_path / "b"), "--engine"])
    assert result.exit_code == 5
    (message,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert f"the bundle is in {tmp_path / 'b'}, but no engine was built: no TensorRT is installed" in message
    assert "pip install 'cunet-deploy[tensorrt-rtx]'" in message
    assert message.endswith(f"Then: cunet-deploy build {tmp_path / 'b'}")
    assert {path.name for path in (tmp_path / "b").iterdir()} == {
        "model.onnx",
        "manifest.json",
        "golden.npz",
        "model.tensorrt.onnx",
    }


def test_an_engine_of_a_target_without_one_is_refused_before_anything_is_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    result = export(checkpoint, tmp_path / "b", "--engine", "--target", "cpu")
    assert isinstance(result.exception, InputError)
    assert "--engine builds from what --target tensorrt writes" in str(result.exception)
    assert not (tmp_path / "b").exists()
