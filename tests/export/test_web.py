"""``export --target web``: the same integers in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import float_checkpoint, quantized, quantized_checkpoint

from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import Checkpoint, save_checkpoint
from cunet_deploy.cli.export import command
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.targets import web
from cunet_deploy.export.targets.web import write_web_model
from cunet_deploy.sessions import open_session


def export(checkpoint: Checkpoint, folder: Path, *more: str) -> Any:
    save_checkpoint(checkpoint, folder / "c.pt")
    return CliRunner().invoke(command, [str(folder / "c.pt"), "-o", str(folder / "b"), "--target", "web", *more])


def test_the_bundle_has_one_more_with_the_same_bits(tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint()
    result = export(checkpoint, tmp_path)
    assert result.exit_code == 0, result.output
    assert "the same integers in float32" in result.output
    graph = onnx.load(tmp_path / "b" / "web" / "model.onnx").graph
    assert [node.op_type for node in graph.node if "quantize" in node.op_type.lower()] == ["DequantizeLinear"]  # pixels
    manifest = json.loads((tmp_path / "b" / "web" / "manifest.json").read_text())
    size = manifest["crop"]["size"]
    crops = np.random.default_rng(3).integers(0, 256, (3, size, size, 3), np.uint8)
    session = open_session(tmp_path / "b" / "web")
    np.testing.assert_array_equal(session.run(crops), TorchSession(checkpoint).run(crops))
    session.close()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("network", ["pre", "hourglass"])  # the second adds tensors of several scales
def test_other_networks_and_bits(tmp_path: Path, network: str, bits: int) -> None:
    checkpoint = quantized(network, QuantConfig(activation_bits=bits))
    (tmp_path / "model.onnx").write_bytes(write_web_model(checkpoint))
    size = checkpoint.config.crop.size
    crops = np.random.default_rng(4).integers(0, 256, (2, size, size, 3), np.uint8)
    session = open_session(tmp_path / "model.onnx")
    found = session.run(crops)
    session.close()
    assert len(np.unique(found)) > 2
    np.testing.assert_array_equal(found, TorchSession(checkpoint).run(crops))


def test_what_has_no_exact_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "float").mkdir()
    result = export(float_checkpoint(), tmp_path / "float", "--bits", "32")
    assert "a float checkpoint has no integers" in str(result.exception)
    monkeypatch.setattr(web, "_EXACT", 2.0**12)
    result = export(quantized_checkpoint(), tmp_path)
    assert "may exceed 2^24" in str(result.exception)
    assert not (tmp_path / "b").exists()


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = quantized_checkpoint("pre")
    monkeypatch.setattr(web, "write_web_model", lambda checkpoint: write_web_model(other))
    result = export(quantized_checkpoint(), tmp_path)
    assert result.exit_code != 0
    assert "heatmap values of the file for browsers differ" in str(result.exception)
    assert not (tmp_path / "b").exists()
