"""The model repository on a real Triton server, where an environment with one is named in CUNET_TRITON_PYTHON."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.export.bundle import export_checkpoint
from tools.experiments.triton import inputs

ROOT = Path(__file__).resolve().parents[2]


class FakeProtocol:
    class InferInput:
        def __init__(self, name: str, shape: tuple[int, ...], kind: str) -> None:
            self.described = (name, tuple(shape), kind)

        def set_data_from_numpy(self, values: object) -> None:
            self.values = values


def test_inputs_have_the_types_of_the_repository(tmp_path: Path) -> None:
    sent = {"image": b"bytes", "frame": np.zeros((4, 5, 3), np.uint8), "boxes": np.zeros((2, 4), np.float32)}
    described = [item.described for item in inputs(FakeProtocol, **sent)]
    assert described == [("image", (1,), "BYTES"), ("frame", (4, 5, 3), "UINT8"), ("boxes", (2, 4), "FP32")]
    export_checkpoint(load_checkpoint(ROOT / "models/face68-xs/checkpoint.pt"), tmp_path, target="triton")
    text = (tmp_path / "triton/face68-xs/config.pbtxt").read_text()
    wanted = dict(re.findall(r'name: "(\w+)", data_type: TYPE_(\w+), dims: \[[-\d, ]+\], optional', text))
    assert wanted == {name: kind.replace("BYTES", "STRING") for name, _, kind in described}


@pytest.mark.slow
def test_a_real_server_answers_as_the_localizer_does(tmp_path: Path, astronaut: Path) -> None:
    python = os.environ.get("CUNET_TRITON_PYTHON")
    if not python:
        pytest.skip("no environment with a Triton server; make one as tools/experiments/triton.py says, and name it")
    export_checkpoint(load_checkpoint(ROOT / "models/face68-xs/checkpoint.pt"), tmp_path / "b", target="triton")
    command = [python, "-m", "tools.experiments.triton", str(tmp_path / "b"), "--image", str(astronaut)]
    result = subprocess.run(
        [*command, "--requests", "32"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "2 texts fit Triton's schema" in result.stdout
