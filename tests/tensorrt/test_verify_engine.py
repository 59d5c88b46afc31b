"""An engine against the golden inputs of its bundle, on the fake GPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fake_tensorrt import FakeCuda

from cunet_deploy._files import file_sha256
from cunet_deploy.cli import cli
from cunet_deploy.parity import locate_in_crops
from cunet_deploy.sessions import open_session

Make = Callable[..., Path]
CROPS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


@pytest.fixture
def bundle(dots_model: Path, tmp_path: Path) -> Path:
    """Bundle that the engine was built from, with golden inputs."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    shutil.copy(dots_model, folder / "model.onnx")
    session = open_session(dots_model, threads=1)
    points, heatmaps = locate_in_crops(session, CROPS)
    np.savez(folder / "golden.npz", images=CROPS, points=points, heatmaps=heatmaps)
    table = {**session.manifest.to_dict(), "sha256": file_sha256(dots_model)}
    (folder / "manifest.json").write_text(json.dumps(table))
    return folder


def _verify(bundle: Path, engine: Path, *options: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["verify", str(bundle), "--engine", str(engine), *map(str, options)])
    return result.exit_code, result.stderr


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt:graph"])
def test_an_engine_is_verified_with_the_golden_inputs_of_its_bundle(
    cuda: FakeCuda, make_engine: Make, bundle: Path, tmp_path: Path, backend: str
) -> None:
    engine = make_engine()
    assert _verify(bundle, engine, "--backend", backend, "--json", tmp_path / "r.json") == (0, "")
    table = json.loads((tmp_path / "r.json").read_text())
    assert table["model"] == str(engine)
    assert table["backend"].startswith("tensorrt 10.3.0 SM87")
    assert table["stages"]["runtime / export"]["mean_px"] == 0
    assert cuda.calls.count("execute_async_v3") > 0


def test_an_engine_that_computes_something_else_fails_the_verification(
    cuda: FakeCuda, make_engine: Make, bundle: Path
) -> None:
    with np.load(bundle / "golden.npz") as archive:
        arrays = dict(archive)
    np.savez(bundle / "golden.npz", **{**arrays, "points": arrays["points"] + 0.1})
    code, message = _verify(bundle, make_engine())
    assert (code, "--max-mean-px" in message) == (4, True)
    cuda.open = True
    assert _verify(bundle, make_engine(), "--max-mean-px", 0.2)[0] == 0


def test_verifying_an_engine_checks_it_like_running_it(cuda: FakeCuda, make_engine: Make, bundle: Path) -> None:
    engine = make_engine()
    engine.write_bytes(engine.read_bytes() + b" ")
    assert _verify(bundle, engine)[0] == 6
    assert _verify(bundle, engine, "--trust")[0] == 0
    assert _verify(bundle, make_engine(compute_capabilities=(86,)))[0] == 3
    assert _verify(bundle, bundle / "model.onnx")[0] == 2
    assert _verify(bundle, engine, "--backend", "ort:cpu")[0] == 2
