"""Times at which modules load: the device has no PyTorch, and help has to be there at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rtx import need_rtx

ROOT = Path(__file__).resolve().parent.parent
TRAINING = {"torch", "onnx", "matplotlib", "scipy"}
HEAVY = TRAINING | {"numpy", "cv2", "onnxruntime", "rich"}


def _run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


def _loaded_by(code: str) -> set[str]:
    """Top-level packages that are loaded after the code ran in a fresh interpreter."""
    report = "; import sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    last = _run("-c", code + report).strip().splitlines()[-1]
    return set(last.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not _loaded_by("import cunet_deploy") & HEAVY


def test_help_loads_nothing_heavy() -> None:
    code = "from cunet_deploy.cli import cli; cli(['--help'], prog_name='cunet-deploy', standalone_mode=False)"
    assert not _loaded_by(code) & HEAVY


def test_localizer_loads_no_training_library() -> None:
    loaded = _loaded_by("from cunet_deploy import Localizer, Landmarks")
    assert "onnxruntime" in loaded or "numpy" in loaded
    assert not loaded & TRAINING


@pytest.mark.parametrize("name", ["infer", "evaluate", "verify", "bench", "models", "doctor", "build", "inspect"])
def test_commands_of_the_device_load_no_training_library(name: str) -> None:
    assert not _loaded_by(f"import cunet_deploy.cli.{name}") & TRAINING


def test_tools_of_the_device_load_no_training_library() -> None:
    assert not _loaded_by("import tools.processors.check") & TRAINING


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["doctor"], set()),
        (["verify", "BUNDLE"], set()),
        (["inspect", "BUNDLE"], {"onnx"}),
        (["build", "BUNDLE/model.onnx", "--flavour", "tensorrt_rtx", "--dry-run"], {"onnx"}),
    ],
    ids=lambda item: item[0] if isinstance(item, list) else None,
)
def test_running_them_loads_onnx_at_most(arguments: list[str], needed: set[str]) -> None:
    if arguments[0] == "build":
        need_rtx()
    line = [argument.replace("BUNDLE", str(ROOT / "models" / "face68-s")) for argument in arguments]
    code = f"from cunet_deploy.cli import cli; cli({line!r}, standalone_mode=False)"
    assert _loaded_by(code) & TRAINING == needed


@pytest.mark.skipif(os.name == "nt", reason="resource is of POSIX")
def test_help_takes_less_than_a_second_of_the_processor() -> None:
    import resource

    def seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    start = seconds()
    _run("-m", "cunet_deploy", "--help")
    assert seconds() - start < 1
