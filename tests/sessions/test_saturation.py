"""Networks on x86 processors without VNNI: sums that would be cut off are added exactly; with 7 bits they fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from dots import manifest, write_model
from drawn import write_faces
from networks import NETWORKS, float_network, quantized
from onnx import numpy_helper

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.cpu import write_model as write_network
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions import onnxruntime as ort
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.saturation import saturation_safe_graph


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(manifest(weight_bits=8), True, id="8 bits"),
        pytest.param(manifest(weight_bits=32), False, id="float"),
        pytest.param(manifest(weight_bits=7, reduced_range=True), False, id="reduced range"),
        pytest.param(make_manifest(quantized("post", QuantConfig(weight_bits=1))), True, id="8 bits at the ends"),
        pytest.param(make_manifest(quantized("pre", QuantConfig(weight_bits=1, edge_bits=7))), False, id="7 there"),
    ],
)
def test_sums_are_wide_where_a_layer_has_weights_of_8_bits(said: Manifest, expected: bool) -> None:
    assert said.may_saturate is expected


@pytest.mark.parametrize(
    ("network", "bits"),
    # ONNX Runtime's sums of two tensors round some halves to the other side: seen in the hourglass of 4 bits.
    [(network, bits) for network in NETWORKS for bits in (8, 4, 1) if (network, bits) != ("hourglass", 4)],
)
def test_networks_are_exact_integers_on_such_processors(
    network: str, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without VNNI this keeps the integers; elsewhere it shows that the other graph computes the same."""
    monkeypatch.setattr(ort, "may_saturate", lambda features: True)
    checkpoint = quantized(network, QuantConfig(weight_bits=bits))
    path = tmp_path / "model.onnx"
    path.write_bytes(write_network(checkpoint))
    crops = drawn_crops(make_manifest(checkpoint), 3)
    expected = TorchSession(checkpoint).run(crops)
    assert expected.any()
    for _ in range(2):  # from the kept graph the second time
        np.testing.assert_array_equal(open_session(path, threads=1).run(crops), expected)


def test_the_graph_has_constants_of_its_own_for_every_weight_and_is_the_same_otherwise(
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(write_network(quantized("refined post", QuantConfig())))
    before, data = onnx.load(path), saturation_safe_graph(path)
    assert data is not None
    after = onnx.load_from_string(data)
    onnx.checker.check_model(after, full_check=True)
    assert before.metadata_props[0].value == after.metadata_props[0].value

    def bytes_used(model: onnx.ModelProto) -> list[str]:
        signed = {item.name for item in model.graph.initializer if item.data_type == onnx.TensorProto.INT8}
        return [name for node in model.graph.node for name in node.input if name in signed]

    def arrays(model: onnx.ModelProto) -> list[list[object]]:
        values = {item.name: numpy_helper.to_array(item).tolist() for item in model.graph.initializer}
        return [[node.op_type, *(values.get(name, name) for name in node.input)] for node in model.graph.node]

    assert len(set(bytes_used(before))) < len(bytes_used(before))
    assert len(set(bytes_used(after))) == len(bytes_used(after))
    assert arrays(before) == arrays(after)


def test_what_is_no_network_is_left_to_the_runtime(tmp_path: Path) -> None:
    said_nothing = write_model(tmp_path / "mute.onnx", metadata=False)
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)))
    for path in (said_nothing, tmp_path / "noise.onnx", tmp_path / "missing.onnx"):
        assert saturation_safe_graph(path) is None


def test_onnx_runtime_is_told_so_where_it_matters_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, key: str, value: str) -> None:
            told.append(f"{key}={value}")
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    for cut_off, said, expected in (
        (True, manifest(weight_bits=8), ["session.x64quantprecision=1"]),
        (True, manifest(weight_bits=32), []),
        (False, manifest(weight_bits=8), []),
    ):
        monkeypatch.setattr(ort, "may_saturate", lambda features, answer=cut_off: answer)
        told.clear()
        open_session(write_model(tmp_path / f"{cut_off}-{said.weight_bits}.onnx", said)).close()
        assert told == expected


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
