"""Bytes of a file by purpose: everything is counted, once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from networks import float_network, quantized
from onnx import TensorProto, helper, numpy_helper

from cunet_deploy.cli import cli
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.onnx_graph.storage import read_storage
from cunet_deploy.quantize.formats import check_layers

MIXED = QuantConfig(weight_bits=4, layers={"down.*": "1", "up.*": "ternary"})


def models() -> dict[str, bytes]:
    return {
        "float": write_model(float_network("post")),
        "8 bits": write_model(quantized("pre", QuantConfig())),
        "binary": write_model(quantized("pre", QuantConfig(weight_bits=1))),
        "mixed": write_model(quantized("post", MIXED)),
        "refined": write_model(quantized("refined post", MIXED)),
    }


@pytest.mark.parametrize("name", models())
def test_the_parts_of_a_file_add_up_to_its_size(name: str, tmp_path: Path) -> None:
    model = models()[name]
    (tmp_path / "x.onnx").write_bytes(model)
    storage = read_storage(tmp_path / "x.onnx")
    assert storage == read_storage(model)
    stored = [numpy_helper.to_array(tensor).nbytes for tensor in onnx.load_from_string(model).graph.initializer]
    weights = sum(layer.bytes for layer in storage.layers)
    assert weights + storage.constants == sum(stored)
    assert weights + storage.constants + storage.rest == storage.total == len(model)
    assert sum(storage.by_bits().values()) == weights
    assert storage.rest > 0


def test_bits_are_those_of_the_formats_and_every_layer_is_there() -> None:
    checkpoint = quantized("post", MIXED)
    network, layers = checkpoint.quantized_network(), read_storage(write_model(checkpoint)).layers
    nodes = [node for node in checkpoint.graph.nodes if node.op == "conv"]
    assert [layer.name for layer in layers] == [node.output for node in nodes]
    for layer, node in zip(layers, nodes, strict=True):
        assert layer.weights == network.integers(node)[0].numel()
        assert layer.bits == pytest.approx(network.weight_format(node).bits)


def test_float_weights_have_32_bits_and_shared_ones_are_counted_where_they_stand() -> None:
    assert {layer.bits for layer in read_storage(models()["float"]).layers} == {32}
    layers = {layer.name: layer for layer in read_storage(models()["refined"]).layers}
    again = [layer for name, layer in layers.items() if name.startswith("again.")]
    assert len(again) > 20
    for layer in again:
        owner = layers[layer.name.removeprefix("again.")]
        assert (layer.bytes, layer.bits, layer.weights) == (0, owner.bits, owner.weights)
        assert owner.bytes > 0


@pytest.mark.parametrize("name", ["8 bits", "mixed"])
def test_the_names_are_those_that_a_configuration_takes(name: str) -> None:
    graph = quantized("pre" if name == "8 bits" else "post", QuantConfig()).graph
    for layer in read_storage(models()[name]).layers:
        if ".norm" not in layer.name:
            check_layers(graph, QuantConfig(layers={layer.name: "4"}))


def test_four_bit_types_of_other_files_take_half_a_byte() -> None:
    weight = helper.make_tensor("w", TensorProto.INT4, (2, 4, 1, 1), bytes([0x21, 0x43, 0x65, 0x87]), raw=True)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["w.x"]),
        helper.make_node("Conv", ["x", "w.x"], ["y.x"], name="conv.x"),
    ]
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 8, 8]) for name, size in (("x", 4), ("y.x", 2))
    ]
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "s")
    graph = helper.make_graph(nodes, "other", shapes[:1], shapes[1:], [weight, scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    storage = read_storage(model)
    assert [(layer.name, layer.bits, layer.bytes) for layer in storage.layers] == [("conv.x", 4, 4)]
    assert storage.total == len(model)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_inspect_prints_bits_bytes_and_share_of_every_layer(tmp_path: Path) -> None:
    checkpoint = quantized("post", MIXED)
    bundle = export_checkpoint(checkpoint, tmp_path / "bundle", target="tensorrt")
    result = run("inspect", bundle.path, "--layers", "--json", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if " bits " in line and " bytes " in line]
    convolutions = [node.output for node in checkpoint.graph.nodes if node.op == "conv"]
    assert [row[0] for row in rows] == convolutions
    storage = json.loads((tmp_path / "x.json").read_text())["storage"]
    assert storage["bytes"] == bundle.bytes == (bundle.path / "model.onnx").stat().st_size
    assert [layer["name"] for layer in storage["layers"]] == convolutions
    assert [int(row[3]) for row in rows] == [layer["bytes"] for layer in storage["layers"]]
    for row, layer in zip(rows, storage["layers"], strict=True):
        assert float(row[5].rstrip("%")) == pytest.approx(100 * layer["bytes"] / bundle.bytes, abs=0.051)
    assert (
        sum(storage["weight_bytes_by_bits"].values()) + storage["constant_bytes"] + storage["graph_bytes"]
        == bundle.bytes
    )
    assert f"{bundle.bytes / 1e6:.3f} MB: weights" in result.output


def test_a_bundle_for_cpus_is_checked_for_tensorrt_only_when_asked(tmp_path: Path) -> None:
    bundle = export_checkpoint(quantized("post", MIXED), tmp_path / "bundle")
    plain, asked = run("inspect", bundle.path), run("inspect", bundle.path, "--target", "sm87")
    assert (plain.exit_code, asked.exit_code) == (0, 4)
    assert "made for CPUs" in plain.output
    assert asked.stderr.endswith("it was made for CPUs: export its checkpoint with --target tensorrt\n")
    assert "error" not in plain.output


def test_without_the_option_only_the_sum_is_printed(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(models()["binary"])
    output = run("inspect", tmp_path / "x.onnx").output
    assert "at 1 bits" in output
    assert "down.0.units.0.grow " not in output
