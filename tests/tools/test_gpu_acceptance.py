"""The acceptance run for machines with a GPU, as far as it can be tried without one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import FakeCuda, make_module, write_engine
from networks import quantized_checkpoint

from cunet_deploy.export.targets.tensorrt import Lowering, write_tensorrt_model
from cunet_deploy.tensorrt import cuda as cuda_library
from cunet_deploy.tensorrt import log as trt_logger
from cunet_deploy.tensorrt.lint import check_model
from tools import gpu_acceptance

SCRIPT = Path(gpu_acceptance.__file__).with_suffix(".sh")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return gpu_acceptance


@pytest.fixture
def engine(dots_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine beside the models of its bundle, with golden images, on the fake GPU."""
    fake = FakeCuda()

    def fresh(graphs: bool = False) -> FakeCuda:
        fake.open = True
        return fake

    monkeypatch.setattr(cuda_library, "open_cuda", fresh)
    monkeypatch.setitem(sys.modules, "tensorrt", make_module(fake))
    monkeypatch.setattr(trt_logger, "_loggers", {})
    for name in ("model.onnx", "model.tensorrt.onnx"):
        shutil.copy(dots_model, tmp_path / name)
    np.savez(tmp_path / "golden.npz", images=np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8))
    return write_engine(dots_model, tmp_path / "dots.engine")


def _bash(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *arguments], capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable}
    )


def test_the_script_is_sound() -> None:
    assert _bash("-n", str(SCRIPT)).returncode == 0


def test_a_dry_run_lists_every_step_and_touches_nothing(tmp_path: Path) -> None:
    result = _bash(str(SCRIPT), "run", str(tmp_path / "bundles"), "--dry-run")
    assert (result.returncode, result.stderr) == (0, "")
    names = re.findall(r"^(\S+):", result.stdout, re.MULTILINE)
    assert len(names) == len(set(names))
    assert {"doctor", "build-int8", "parity-int8", "bench-fp16-1", "graph-int8-8", "tamper", "dla0-int8-batch1"} <= set(
        names
    )
    assert list(tmp_path.iterdir()) == []


def test_its_options_are_those_of_the_command_line(tmp_path: Path) -> None:
    from cunet_deploy.cli import cli

    text = _bash(str(SCRIPT), "run", str(tmp_path / "bundles"), "--dry-run").stdout
    for command in ("doctor", "build", "bench"):
        known = {option for item in _command(cli, command).params for option in item.opts}
        used = {
            word
            for line in text.splitlines()
            if f"cunet_deploy -q {command} " in line
            for word in line.partition(f" {command} ")[2].split()
            if word.startswith("-")
        }
        assert used
        assert used <= known


def _command(group: Any, name: str) -> Any:
    import click

    return group.get_command(click.Context(group), name)


def test_a_folder_that_is_missing_is_wrong_usage(tmp_path: Path) -> None:
    result = _bash(str(SCRIPT), "run", str(tmp_path / "bundles"))
    assert result.returncode == 2
    assert "prepare QUANTIZED.pt FLOAT.pt" in result.stderr


def test_parity_is_measured_in_pixels(tool: ModuleType, engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "parity.json"
    assert tool.main(["parity", str(tmp_path), str(engine), str(out)]) == 0
    table = json.loads(out.read_text())
    assert table["against_model.onnx"]["mean_px"] == 0
    assert table["repeatable"] is True
    assert table["largest_difference_between_batch_sizes"] == 0


def test_spoiled_engines_come_to_their_exit_codes(tool: ModuleType, engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "tamper.json"
    assert tool.main(["tamper", str(engine), str(out)]) == 0
    codes = {name: case["exit_code"] for name, case in json.loads(out.read_text()).items()}
    assert codes == {"changed": 6, "truncated": 6, "truncated_and_trusted": 3}


def test_the_uint8_model_differs_in_its_activations_only(tool: ModuleType, tmp_path: Path) -> None:
    source, out = tmp_path / "model.tensorrt.onnx", tmp_path / "uint8.onnx"
    source.write_bytes(write_tensorrt_model(quantized_checkpoint(), Lowering(batch=1)))
    assert tool.main(["uint8", str(source), str(out)]) == 0
    report = check_model(out)
    assert {finding.code for finding in report.errors} == {"Q006"}
    assert report.int8 == 1  # the image stays signed
    assert len(report.convolutions) == len(check_model(source).convolutions)


def test_a_report_answers_what_was_measured_and_leaves_open_what_was_not(tool: ModuleType, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "steps.tsv").write_text(
        "build-int8\t0\t1.5\nrebuild-int8\t0\t0.5\nuint8-build\t1\t2\nbuild-fp32\tmissing\t0\n"
    )
    for name in ("build-int8", "rebuild-int8"):
        (logs / f"{name}.out").write_text("dots.engine: 1.00 MB, sha256 0123456789abcdef\n")
    for name, value in (("int8", 1.0), ("fp16", 1.5)):
        (logs / f"bench-{name}-1.json").write_text(json.dumps({"models": [{"network_p50_ms": value}]}))
    (logs / "doctor.json").write_text("cut off")
    assert tool.main(["report", str(tmp_path)]) == 0
    answers = json.loads((tmp_path / "acceptance.json").read_text())["answers"]
    assert answers["fp16_time_by_int8_time"] == 1.5
    assert answers["rebuild_is_the_same_engine"] is True
    assert answers["uint8_zero_point_0_builds"] is False
    assert answers["network_p50_ms_queued_and_with_cuda_graph"]["fp32_batch1_p50_ms"] == [None, None]
    assert answers["refused_engines"] is None


def test_wrong_usage_is_told(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["compare"]) == 2
    assert "parity BUNDLE ENGINE" in capsys.readouterr().err
