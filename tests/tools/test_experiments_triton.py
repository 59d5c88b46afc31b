"""The model repository on a real Triton server, where an environment with one is named in CUNET_TRITON_PYTHON."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.export.bundle import export_checkpoint
from tools.experiments.triton import inputs, measure

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


class RefusedError(Exception):
    """Exception of a client."""


def serve(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], None]) -> None:
    """Put clients of a server that answers like that in place of tritonclient's."""

    class Client:
        def __init__(self, address: str) -> None: ...

        def infer(self, name: str, sent: list[Any]) -> None:
            answer()

    package: Any = ModuleType("tritonclient")
    package.grpc, package.utils = ModuleType("tritonclient.grpc"), ModuleType("tritonclient.utils")
    package.grpc.InferenceServerClient, package.grpc.InferInput = Client, FakeProtocol.InferInput
    package.utils.InferenceServerException = RefusedError
    for module in (package, package.grpc, package.utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_every_client_sends_a_request_however_few_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, lambda: None)
    for requests, sent in ((3, 4), (8, 8), (11, 8)):
        found = measure("", "m", b"photo", 4, requests)
        assert (found["clients"], found["answered"], found["refused"], found["lost"]) == (4, sent, 0, 0)


def test_a_server_that_answers_nobody_has_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RefusedError("exceeds maximum queue size")

    serve(monkeypatch, refuse)
    with pytest.raises(AssertionError, match="none of 2 clients was answered: exceeds maximum queue size"):
        measure("", "m", b"photo", 2, 4)


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
