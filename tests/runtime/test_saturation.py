"""Where sums of 8-bit products may be cut off: the warning, and the export that makes it pointless."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from dots import manifest, write_model
from drawn import write_faces
from networks import float_network, quantized
from onnx import numpy_helper

from cunet_deploy.checkpoint import make_manifest, save_checkpoint
from cunet_deploy.cli import cli, verify
from cunet_deploy.config import QuantConfig
from cunet_deploy.manifest import Manifest
from cunet_deploy.runtime.sessions import open_session, saturation
from cunet_deploy.runtime.sessions.saturation import saturation_warning

OLD = ["avx2", "fma"]
NEW = ["avx2", "fma", "avx_vnni"]
MODEL = Path("bundle/model.onnx")


def test_integers_on_x86_without_vnni_are_warned_of_and_the_ways_out_are_named() -> None:
    message = saturation_warning(MODEL, manifest(weight_bits=8), OLD, "x86_64")
    for words in (
        "bundle/model.onnx: ",
        "no VNNI",
        "cunet-deploy verify bundle",
        "--backend openvino",
        "--reduce-range",
    ):
        assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("said", "features", "architecture"),
    [
        pytest.param(manifest(weight_bits=8), NEW, "x86_64", id="VNNI"),
        pytest.param(manifest(weight_bits=8), ["asimd"], "aarch64", id="Arm"),
        pytest.param(manifest(weight_bits=8), [], "x86_64", id="not known"),
        pytest.param(manifest(weight_bits=32), OLD, "x86_64", id="float"),
        pytest.param(manifest(weight_bits=7, reduced_range=True), OLD, "x86_64", id="reduced range"),
    ],
)
def test_everything_else_is_not(said: Manifest, features: list[str], architecture: str) -> None:
    assert saturation_warning(MODEL, said, features, architecture) == ""


def test_fewer_bits_inside_are_warned_of_while_the_first_and_last_layers_have_8() -> None:
    said = make_manifest(quantized("post", QuantConfig(weight_bits=1)))
    assert saturation_warning(MODEL, said, OLD, "x86_64")
    said = make_manifest(quantized("pre", QuantConfig(weight_bits=1, edge_bits=7)))
    assert not saturation_warning(MODEL, said, OLD, "x86_64")


def test_the_warning_comes_once_from_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saturation, "may_saturate", lambda features, architecture: True)
    monkeypatch.setattr(saturation, "_warned", [])
    path = write_model(tmp_path / "model.onnx", manifest(weight_bits=8))
    with caplog.at_level(logging.WARNING, "cunet_deploy"):
        for _ in range(2):
            open_session(path, threads=1).close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no VNNI" in caplog.records[0].message


def test_verify_explains_a_difference_where_sums_may_be_cut_off() -> None:
    advice = verify._advice(["runtime / export"], "onnxruntime 1.32.0 CPU", lowered=False, cut_off=True)
    assert "--reduce-range" in advice
    advice = verify._advice(["runtime / export"], "onnxruntime 1.32.0 CPU", lowered=False, cut_off=False)
    assert "report it" in advice


def test_a_manifest_without_the_key_is_of_the_full_range_and_stays_without_it() -> None:
    plain, reduced = manifest(), manifest(reduced_range=True)
    assert "reduced_range" not in plain.to_dict()
    for said in (plain, reduced):
        assert Manifest.from_json(said.to_json(), "here") == said


def test_the_reduced_range_has_no_weight_above_63_in_any_layer(tmp_path: Path) -> None:
    save_checkpoint(float_network("post"), tmp_path / "float.pt")
    save_checkpoint(quantized("post", QuantConfig()), tmp_path / "quantized.pt")
    photos = str(write_faces(tmp_path / "photos", 2))
    arguments = ["export", str(tmp_path / "float.pt"), "--reduce-range", "--calibration", photos]
    result = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "bundle" / "manifest.json").read_text())["reduced_range"] is True
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "bundle" / "model.onnx").graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    ]
    largest = max(int(np.abs(weight.astype(int)).max()) for weight in weights)
    assert largest == 63
    assert 2 * 255 * largest <= 2**15 - 1

    both = CliRunner().invoke(cli, [*arguments, "--bits", "7", "-o", str(tmp_path / "other")])
    assert both.exit_code == 2
    assert "leave --bits out" in both.stderr
    arguments[1] = str(tmp_path / "quantized.pt")
    trained = CliRunner().invoke(cli, [*arguments, "-o", str(tmp_path / "other")])
    assert trained.exit_code == 2
    assert "trained with weights of 8 bits" in trained.stderr
