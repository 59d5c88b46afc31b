"""Packed weights: the same integers in fewer bytes, gone when the model is loaded."""

from __future__ import annotations

import collections
import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from drawn import tiny_config, write_faces
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from networks import NETWORKS, float_network, quantized, random_checkpoint
from numpy.typing import NDArray
from onnx import numpy_helper

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import Checkpoint, save_checkpoint
from cunet_deploy.cli.export import command
from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import CunetError
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.packing import lookup_table, pack
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.machine.cpu import cpu_features, may_saturate, read_cpuinfo
from cunet_deploy.manifest import Manifest
from cunet_deploy.onnx_graph.storage import read_storage
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.sessions.saturation import saturation_safe_graph

FORMATS = {
    "binary": QuantConfig(weight_bits=1),
    "ternary": QuantConfig(weight_bits=2, ternary=True),
    "3 bits": QuantConfig(weight_bits=3),
    "4 bits": QuantConfig(weight_bits=4),
    "mixed": QuantConfig(layers={"down.*": "1", "up.0.*": "ternary", "up.1.*": "4", "stem.*": "3"}),
    "few bits everywhere": QuantConfig(weight_bits=1, activation_bits=4, edge_bits=4),
}


def values_of(bits: int) -> st.SearchStrategy[NDArray[np.int8]]:
    integers = st.sampled_from([-1, 1]) if bits == 1 else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return arrays(np.int8, array_shapes(max_dims=4, max_side=5), elements=integers)


@given(st.sampled_from([1, 2, 4]).flatmap(lambda bits: st.tuples(st.just(bits), values_of(bits))))
def test_what_was_packed_comes_out_again(case: tuple[int, NDArray[np.int8]]) -> None:
    bits, values = case
    words = pack(values, bits)
    assert words.shape == (math.ceil(values.size * bits / 8),)
    np.testing.assert_array_equal(lookup_table(bits)[words].ravel()[: values.size].reshape(values.shape), values)


def test_the_first_weight_is_in_the_lowest_bits() -> None:
    assert pack(np.array([1, -1, -1, -1, -1, -1, -1, 1, 1], np.int8), 1).tolist() == [0b10000001, 1]
    assert pack(np.array([[-1, 0], [1, -2]], np.int8), 2).tolist() == [0b00111001]
    assert lookup_table(4)[0x9F].tolist() == [7, 1]


@pytest.mark.parametrize(
    ("values", "bits"), [([0], 1), ([2], 1), ([-3], 1), ([2], 2), ([-3], 2), ([8], 4), ([1], 3), ([1], 8)], ids=str
)
def test_an_integer_without_a_code_is_refused(values: list[int], bits: int) -> None:
    with pytest.raises(ValueError, match=f"does not fit into {bits} bits"):
        pack(np.array(values, np.int8), bits)


def load(model: bytes, folder: Path) -> tuple[ort.InferenceSession, collections.Counter[str]]:
    """A session, and the operators that are left in it."""
    options, path = ort.SessionOptions(), folder / "optimized.onnx"
    options.optimized_model_filepath, options.log_severity_level = str(path), 4
    (folder / "model.onnx").write_bytes(model)
    unsigned = saturation_safe_graph(folder / "model.onnx")
    if unsigned is not None and may_saturate(
        cpu_features(read_cpuinfo())
    ):  # as our sessions do where sums may be cut off
        options.add_session_config_entry("session.x64quantprecision", "1")
        model = unsigned
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session, collections.Counter(node.op_type for node in onnx.load(path).graph.node)


def check_twins(checkpoint: Checkpoint, folder: Path) -> None:
    """A packed file runs as its unpacked twin does, to the bit, and as exact integers say."""
    crops = drawn_crops(make_manifest(checkpoint), 4)
    expected = TorchSession(checkpoint).run(crops)
    assert expected.any()
    operators, results = [], []
    for packed in (True, False):
        session, left = load(write_model(checkpoint, packed=packed), folder)
        results.append(session.run(None, {"image": crops})[0])
        operators.append(left)
    np.testing.assert_array_equal(*results)
    # ONNX Runtime adds two tensors with their zero points taken off last, which can fall on the other side of a half.
    adds = any(node.op == "add" for node in checkpoint.graph.nodes)
    assert (results[0] != expected).mean() <= (0.01 if adds else 0)
    assert operators[0] == operators[1]
    assert operators[0]["QLinearConv"] == sum(node.op in ("conv", "affine") for node in checkpoint.graph.nodes)
    assert not set(operators[0]) & {"Cast", "Slice", "Conv", "QuantizeLinear"}
    enlarged = [node.output for node in checkpoint.graph.nodes if node.op == "upsample"]
    assert operators[0]["Reshape"] == (2 if checkpoint.config.model.stem == "conv7" else 0)  # blocks of pixels
    zero_points = [checkpoint.quantized_network().activation_qparams(name)[1] for name in enlarged]
    assert operators[0]["Gather"] == 2 * zero_points.count(0)
    assert operators[0]["DequantizeLinear"] == 1


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("network", ["pre", "post"])
def test_a_packed_file_runs_as_its_unpacked_twin_on_integers_throughout(
    network: str, name: str, tmp_path: Path
) -> None:
    check_twins(quantized(network, FORMATS[name]), tmp_path)


@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in ("pre", "post")])
def test_refined_networks_and_the_baselines_do_so_too(network: str, tmp_path: Path) -> None:
    check_twins(quantized(network, FORMATS["binary"]), tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_weights_take_the_bytes_that_their_bits_need(name: str) -> None:
    checkpoint = quantized("post", FORMATS[name])
    network, model = checkpoint.quantized_network(), write_model(checkpoint)
    expected = {}
    for node in checkpoint.graph.nodes:
        if node.op == "conv":
            weights, bits = network.integers(node)[0].numel(), network.weight_format(node).bits
            expected[node.output] = math.ceil(weights * bits / 8)
    assert {layer.name: layer.bytes for layer in read_storage(model).layers} == expected
    # Beside the weights, packing costs a table of at most 2 KiB for each number of bits, and names save some of it.
    saved = sum(network.integers(node)[0].numel() for node in checkpoint.graph.nodes if node.op == "conv")
    assert len(write_model(checkpoint, packed=False)) - len(model) > saved - sum(expected.values()) - 3 * 2048


def test_the_integers_of_both_passes_stand_in_the_file_once() -> None:
    one, two = (quantized(name, FORMATS["4 bits"]) for name in ("post", "refined post"))
    weights = [sum(layer.bytes for layer in read_storage(write_model(item)).layers) for item in (one, two)]
    merge = 2 * 8 * 8 // 2
    assert weights[1] == weights[0] + merge


@pytest.mark.parametrize(
    ("unets", "megabytes"), [(2, 0.40), pytest.param(8, 1.6, marks=pytest.mark.slow)], ids=["N2", "N8"]
)
def test_binary_networks_of_the_paper_s_width_are_as_small_as_promised(unets: int, megabytes: float) -> None:
    table = {"num_unets": unets, "channels": 128, "growth": 32, "bottleneck": 4, "depth": 4, "stem": "conv7"}
    config = tiny_config(model=table, crop={"size": 256})
    checkpoint = random_checkpoint(config)
    ranges = dict.fromkeys(activation_groups(checkpoint.graph).of.values(), (0.0, 1.0))
    storage = read_storage(write_model(checkpoint.with_ranges(ranges, QuantConfig(weight_bits=1))))
    assert storage.total <= megabytes * 1e6
    assert storage.by_bits()["1"] > storage.total / 2


@pytest.mark.parametrize("name", ["binary", "mixed"])
def test_the_same_weights_give_the_same_bytes(name: str) -> None:
    models = [write_model(quantized("pre", FORMATS[name])) for _ in range(2)]
    assert models[0] == models[1]


@pytest.mark.parametrize("network", ["pre", "hourglass"])
@pytest.mark.parametrize("name", ["binary", "few bits everywhere"])
def test_a_packed_file_asks_for_nothing_that_the_oldest_supported_runtime_lacks(name: str, network: str) -> None:
    """ONNX Runtime 1.17 folds and fuses exactly this; operator set 17 and IR 8 are what it and OpenVINO 2024 read."""
    model = onnx.load_from_string(write_model(quantized(network, FORMATS[name])))
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert {node.op_type for node in model.graph.node} <= {
        "Add", "Cast", "Clip", "Concat", "Conv", "DequantizeLinear", "Gather", "MaxPool", "QuantizeLinear", "Reshape",
        "Resize", "Slice", "Transpose",
    }  # fmt: skip
    types = {tensor.data_type for tensor in model.graph.initializer}
    names = {onnx.TensorProto.DataType.Name(number) for number in types}
    assert names <= {"FLOAT", "INT8", "UINT8", "INT32", "INT64"}


def test_names_are_short_and_convolutions_keep_theirs() -> None:
    model = onnx.load_from_string(write_model(quantized("post", FORMATS["binary"])))
    assert all(len(name) <= 3 for node in model.graph.node for name in node.output if name != "heatmaps")
    named = {node.name for node in model.graph.node if node.name}
    assert "down.0.units.0.squeeze" in named
    assert len(named) == sum(node.op_type == "Conv" for node in model.graph.node)
    assert len({name for node in model.graph.node for name in node.output}) == len(model.graph.node)


def test_tables_hold_what_each_byte_stands_for() -> None:
    model = onnx.load_from_string(write_model(quantized("post", FORMATS["binary"])))
    makers = {node.output[0]: node for node in model.graph.node}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    gathers = [node for node in makers.values() if node.op_type == "Gather" and node.attribute[0].i == 0]
    assert len({node.input[0] for node in gathers}) == 1  # one table for all
    np.testing.assert_array_equal(values[gathers[0].input[0]], lookup_table(1))
    assert {makers[node.input[1]].op_type for node in gathers} == {"Cast"}


def export(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, CunetError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("name", "bits"), [("binary", 1), ("ternary", 2), ("3 bits", 3), ("few bits everywhere", 1), ("mixed", 1)]
)
def test_a_bundle_is_proven_equal_and_says_how_many_bits_most_weights_have(
    name: str, bits: int, tmp_path: Path
) -> None:
    bundle = export_checkpoint(quantized("post", FORMATS[name]), tmp_path / "bundle")
    assert bundle.differing == 0
    manifest = Manifest.from_json((bundle.path / "manifest.json").read_text(), "manifest.json")
    assert (manifest.weight_bits, manifest.activation_bits) == (bits, FORMATS[name].activation_bits)


@pytest.mark.parametrize(
    ("trained", "wanted", "fits"),
    [
        ("binary", "1", True),
        ("binary", "8", False),
        ("ternary", "2", True),
        ("ternary", "weight_bits = 2\nternary = true", True),
        ("ternary", "weight_bits = 2\n[layers]", True),
        ("binary", "weight_bits = 1\nedge_bits = 4", False),
        ("binary", 'weight_bits = 1\n[layers]\n"down.*" = "4"', False),
        ("mixed", '[layers]\n"down.*" = "1"\n"up.0.*" = "ternary"\n"up.1.*" = "4"\n"stem.*" = "3"', True),
        ("4 bits", "weight_bits = 4\nternary = false", True),
    ],
)
def test_bits_that_a_checkpoint_was_not_trained_with_are_refused(
    trained: str, wanted: str, fits: bool, tmp_path: Path
) -> None:
    save_checkpoint(quantized("post", FORMATS[trained]), tmp_path / "x.pt")
    bits = tmp_path / "bits.toml"
    bits.write_text(wanted)
    code, message = export(tmp_path / "x.pt", "--bits", wanted if wanted.isdigit() else bits, "-o", tmp_path / "b")
    assert code == (0 if fits else 2), message
    assert fits or "was trained with weights" in message


@pytest.mark.parametrize("bits", ["1", "2", "4", "file"])
def test_a_float_checkpoint_is_packed_after_calibration_with_a_warning(bits: str, tmp_path: Path) -> None:
    save_checkpoint(float_network("post"), tmp_path / "float.pt")
    photos = write_faces(tmp_path / "photos", 3)
    if bits == "file":
        (tmp_path / "bits.toml").write_text('weight_bits = 4\n[layers]\n"down.*" = "1"\n')
    given = tmp_path / "bits.toml" if bits == "file" else bits
    code, output = export(tmp_path / "float.pt", "--bits", given, "--calibration", photos, "-o", tmp_path / "b")
    assert (code, "fewer than 8 bits without training" in output) == (0, True)
    assert "bit for bit equal to exact integer arithmetic" in output
    found = set(read_storage(tmp_path / "b" / "model.onnx").by_bits())
    assert found == ({"8", "4", "1"} if bits == "file" else {"8", bits})
    table = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert table["calibration_loss"]["mean_px"] > 0


@pytest.mark.parametrize(
    ("bits", "message"),
    [("9", "expected 1 to 8"), ("0", "expected 1 to 8"), ("four", "expected 1 to 8"), ("²", "expected 1 to 8")],
)
def test_bits_that_do_not_exist_are_refused(bits: str, message: str, tmp_path: Path) -> None:
    save_checkpoint(quantized("post", FORMATS["binary"]), tmp_path / "x.pt")
    code, found = export(tmp_path / "x.pt", "--bits", bits, "-o", tmp_path / "b")
    assert (code, message in found) == (2, True)
