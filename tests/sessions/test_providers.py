"""ONNX Runtime's providers by name. Without a GPU, what is tested is that none falls back to the CPU unnoticed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from dots import scene
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from cunet_deploy.cli import cli
from cunet_deploy.errors import ArtifactError, CunetError
from cunet_deploy.sessions import BACKENDS, open_session
from cunet_deploy.sessions.providers import PROVIDERS, check_running

GPU = [provider for provider in PROVIDERS.values() if provider.name != "cpu"]


def _session(running: str, nodes: dict[str, int]) -> Any:
    """A session as ONNX Runtime describes it."""
    parts = [SimpleNamespace(ep_name=key, get_nodes=lambda count=count: [0] * count) for key, count in nodes.items()]
    return SimpleNamespace(get_providers=lambda: [running], get_provider_graph_assignment_info=lambda: parts)


@pytest.mark.parametrize("provider", GPU, ids=lambda provider: provider.name)
def test_a_provider_that_is_not_here_is_one_line_with_what_to_do(
    provider: Any, dots_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    cv2.imwrite(str(tmp_path / "picture.png"), scene()[0])
    arguments = ["infer", str(tmp_path / "picture.png"), "--model", str(dots_model), "-o", str(tmp_path / "out.jsonl")]
    result = CliRunner().invoke(cli, [*arguments, "--backend", f"ort:{provider.name}"])
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert f"ort:{provider.name}" in result.stderr
    assert "pip install" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_provider_that_is_built_in_but_does_not_load_is_no_silent_fallback(
    dots_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Session:
        """Like onnxruntime-gpu without a driver: it logs, and goes on with the CPU."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._session = real(str(dots_model), providers=["CPUExecutionProvider"])

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ArtifactError, match=r"ort:cuda was asked for, but onnxruntime .* fell back to CPUExecution"):
        open_session(dots_model, backend="ort:cuda")


@pytest.mark.parametrize("provider", GPU, ids=lambda provider: provider.name)
def test_a_provider_that_takes_no_node_is_refused(provider: Any) -> None:
    with pytest.raises(ArtifactError, match="takes none of the 51 nodes"):
        check_running(_session(provider.key, {"CPUExecutionProvider": 51}), provider, Path("model.onnx"))
    check_running(_session(provider.key, {"CPUExecutionProvider": 2, provider.key: 49}), provider, Path("model.onnx"))


def test_the_cpu_by_name_is_the_default(dots_model: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    named, usual = (open_session(dots_model, threads=1, backend=backend) for backend in ("ort:cpu", None))
    assert named.backend == usual.backend
    np.testing.assert_array_equal(named.run(crops), usual.run(crops))


def test_a_bundle_gives_its_tensorrt_graph_to_tensorrt_providers_only(tmp_path: Path) -> None:
    from cunet_deploy.sessions import model_file

    for name in ("model.onnx", "model.tensorrt.onnx"):
        (tmp_path / name).touch()
    assert model_file(tmp_path).name == "model.onnx"
    assert model_file(tmp_path, "ort:cuda").name == "model.onnx"
    assert model_file(tmp_path, "ort:tensorrt").name == "model.tensorrt.onnx"
    assert model_file(tmp_path, "ort:tensorrt-rtx").name == "model.tensorrt.onnx"


def test_each_provider_is_a_backend() -> None:
    rows = [row.variant for row in BACKENDS.values() if row.library == "ONNX Runtime"]
    assert rows == list(PROVIDERS)
    assert all(row.name == f"ort:{row.variant}" for row in BACKENDS.values() if row.library == "ONNX Runtime")


def test_a_provider_that_fails_in_a_run_is_one_line(dots_model: Path) -> None:
    def fail(*arguments: Any) -> None:
        raise ort_errors.EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : out of memory\nat some place")

    session: Any = open_session(dots_model, threads=1)
    session._session = SimpleNamespace(run=fail)
    with pytest.raises(CunetError, match=r"ONNX Runtime failed on 1 crops: .*EP_FAIL : out of memory$"):
        session.run(np.zeros((1, 64, 64, 3), np.uint8))
