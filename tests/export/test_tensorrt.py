"""The graph for TensorRT: placed as it fuses, the same weights, and a loss that is measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import BLOCKS, NETWORKS, float_checkpoint, quantized, quantized_checkpoint
from onnx import TensorProto, numpy_helper

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli.export import command
from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.tensorrt import LoweredSession, Lowering, write_tensorrt_model
from cunet_deploy.manifest import METADATA_KEY, Manifest

LOWERINGS = [Lowering("fp16"), Lowering("fp32"), Lowering("fp16", "int8"), Lowering("fp32", "int8", 2)]


def lowered(block: str = "post", stem: str = "conv3x2", lowering: Lowering = LOWERINGS[0]) -> Any:
    return onnx.load_from_string(write_tensorrt_model(quantized_checkpoint(block, stem), lowering)).graph


def constants(graph: Any) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def export(checkpoint: Path, out: Path, *options: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(checkpoint), "-o", str(out), *map(str, options)])
    if isinstance(result.exception, CunetError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def quantized_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "quantized.pt"
    save_checkpoint(quantized_checkpoint(), path)
    return path


@pytest.mark.parametrize("lowering", LOWERINGS, ids=str)
@pytest.mark.parametrize(("block", "stem"), BLOCKS)
def test_the_lowered_network_stays_near_exact_integer_arithmetic(block: str, stem: str, lowering: Lowering) -> None:
    checkpoint = quantized_checkpoint(block, stem)
    crops = drawn_crops(make_manifest(checkpoint), 3)
    expected = TorchSession(checkpoint).run(crops)
    found = LoweredSession(write_tensorrt_model(checkpoint, lowering)).run(crops)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    # Half the steps, and a network with random weights, which damps nothing.
    assert np.abs(found - expected).mean() < 0.15 * expected.std()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(("carrier", "tolerance"), [("fp32", 1e-4), ("fp16", 0.02)])
@pytest.mark.parametrize("block", ["pre", "post"])
def test_a_float_checkpoint_gives_the_same_graph_without_quantization(
    block: str, carrier: Any, tolerance: float
) -> None:
    checkpoint = float_checkpoint(block)
    crops = drawn_crops(make_manifest(checkpoint), 2)
    expected = TorchSession(checkpoint).run(crops)
    model = write_tensorrt_model(checkpoint, Lowering(carrier))
    np.testing.assert_allclose(LoweredSession(model).run(crops), expected, atol=tolerance * expected.max())
    assert not any("Linear" in node.op_type for node in onnx.load_from_string(model).graph.node)
    with pytest.raises(InputError, match="no int8 features"):
        write_tensorrt_model(checkpoint, Lowering(carrier, "int8"))


@pytest.mark.parametrize(("block", "stem"), BLOCKS)
def test_every_convolution_has_a_pair_on_its_input_and_nothing_else_has(block: str, stem: str) -> None:
    graph = lowered(block, stem)
    makers = {name: node for node in graph.node for name in node.output}
    users = {name: [node for node in graph.node if name in node.input] for name in makers}
    for node in graph.node:
        if node.op_type == "Conv":
            assert [makers[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert makers[makers[node.input[0]].input[0]].op_type == "QuantizeLinear"
        if node.op_type == "QuantizeLinear":
            (dequantize,) = users[node.output[0]]
            assert {user.op_type for user in users[dequantize.output[0]]} == {"Conv"}


def test_activations_have_one_scalar_scale_and_an_int8_zero_point_of_zero() -> None:
    graph = lowered()
    values = constants(graph)
    pairs = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        scale, zero = values[node.input[1]], values[node.input[2]]
        assert (str(zero.dtype), int(np.abs(zero).max())) == ("int8", 0)
        assert scale.dtype == np.float16
        # A shape of (1,) would mean one scale for each channel, and TensorRT then runs the convolution in float.
        assert scale.shape == (() if not node.name.endswith(".w") else values[f"{node.name}.q"].shape[:1])


def test_scales_reach_as_far_as_the_uint8_ones() -> None:
    checkpoint = quantized_checkpoint()
    network, values = checkpoint.quantized_network(), constants(lowered(lowering=Lowering("fp32")))
    graph = lowered(lowering=Lowering("fp32"))
    found = {node.name: values[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in checkpoint.graph.nodes:
        if node.op == "conv" and node.inputs[0] != "image":
            scale, zero_point = network.activation_qparams(node.inputs[0])
            assert zero_point == 0
            assert found[f"{node.inputs[0]}.int8.q"] * 127 == pytest.approx(scale.item() * 255)
    assert found["image.x.int8.q"] == 1 / 128


def test_weights_are_the_integers_and_scales_of_the_file_for_cpus() -> None:
    checkpoint = quantized_checkpoint()
    network, values = checkpoint.quantized_network(), constants(lowered(lowering=Lowering("fp32")))
    for node in checkpoint.graph.nodes:
        if node.op == "conv":
            np.testing.assert_array_equal(values[f"{node.output}.w.q"], network.integers(node)[0].numpy())
            np.testing.assert_array_equal(values[f"{node.output}.w.s"], network.weight_scale(node).detach().numpy())
            assert values[f"{node.output}.b"].dtype == np.float32


@pytest.mark.parametrize("features", ["carrier", "int8"])
@pytest.mark.parametrize("weights", ["1", "ternary", "4"])
@pytest.mark.parametrize("network", NETWORKS)
def test_few_bits_refinement_and_the_baselines_stay_near_exact_integers(
    network: str, weights: str, features: Any
) -> None:
    bits = {"ternary": QuantConfig(weight_bits=2, ternary=True)}
    checkpoint = quantized(network, bits.get(weights) or QuantConfig(weight_bits=int(weights)))
    crops = drawn_crops(make_manifest(checkpoint), 3)
    expected = TorchSession(checkpoint).run(crops)
    model = write_tensorrt_model(checkpoint, Lowering("fp16", features))
    found = LoweredSession(model).run(crops)
    assert expected.std() > 0
    assert np.abs(found - expected).mean() < 0.3 * expected.std()
    stored = constants(onnx.load_from_string(model).graph)
    integers = {name: values for name, values in stored.items() if name.endswith(".w.q")}
    assert len(integers) == sum(node.op == "conv" for node in checkpoint.graph.nodes)
    inside = next(
        values for name, values in integers.items() if name.endswith(("grow.w.q", "conv2.w.q")) and "stem" not in name
    )
    assert np.abs(inside).max() == (7 if weights == "4" else 1)


@pytest.mark.parametrize("bits", [2, 4, 7])
@pytest.mark.parametrize("network", ["post", "refined post", "dense post"])
def test_activations_of_fewer_bits_are_the_same_integers_up_to_the_heatmaps(network: str, bits: int) -> None:
    """TensorRT leaves them as they are, while the file for CPUs rounds them to 8 bits."""
    checkpoint = quantized(network, QuantConfig(weight_bits=4, activation_bits=bits))
    crops = drawn_crops(make_manifest(checkpoint), 3)
    expected = TorchSession(checkpoint).run(crops)
    found = LoweredSession(write_tensorrt_model(checkpoint, Lowering("fp32"))).run(crops)
    step = float(checkpoint.quantized_network().activation_qparams(checkpoint.graph.outputs[-1])[0].detach())
    assert expected.max() > 0
    assert np.abs(found - expected)[expected < 254.5 * step].max() <= 0.501 * step


def test_features_of_fewer_bits_that_tensorrt_would_not_round_are_refused(tmp_path: Path) -> None:
    for network in ("pre", "hourglass"):
        save_checkpoint(quantized(network, QuantConfig(activation_bits=4)), tmp_path / f"{network}.pt")
        code, message = export(tmp_path / f"{network}.pt", tmp_path / "b", "--target", "tensorrt")
        assert (code, "features of 4 bits" in message, "\n" in message) == (2, True, False)
        assert not (tmp_path / "b").exists()


def test_biases_are_those_of_the_integers() -> None:
    """With few bits a step of the sums is coarse, and the float bias beside it would be another one."""
    checkpoint = quantized("post", QuantConfig(weight_bits=1))
    network = checkpoint.quantized_network()
    values = constants(onnx.load_from_string(write_tensorrt_model(checkpoint, Lowering("fp32"))).graph)
    moved = 0
    for node in checkpoint.graph.nodes:
        if node.op == "conv":
            step = network.weight_scale(node).double() * network.activation_qparams(node.inputs[0])[0].double()
            exact = (network.integers(node)[1] * step).detach().float().numpy()
            np.testing.assert_array_equal(values[f"{node.output}.b"], exact)
            moved += (exact != network.biases[node.output.replace(".", "/")].detach().numpy()).sum()
    assert moved > 0


@pytest.mark.parametrize("block", ["pre", "post"])
def test_int8_features_meet_in_a_concatenation_with_one_scale(block: str) -> None:
    graph = lowered(block, lowering=Lowering("fp16", "int8"))
    makers, values = {name: node for node in graph.node for name in node.output}, constants(graph)
    concats = [node for node in graph.node if node.op_type == "Concat"]
    assert concats
    for node in concats:
        sources = [makers[name] for name in node.input]
        assert {source.op_type for source in sources} == {"DequantizeLinear"}
        assert len({float(values[source.input[1]]) for source in sources}) == 1


def test_the_form_decides_operator_set_and_batch() -> None:
    checkpoint = quantized_checkpoint()
    for lowering, opset, batch in ((Lowering("fp16"), 19, "batch"), (Lowering("fp32", batch=4), 17, 4)):
        model = onnx.load_from_string(write_tensorrt_model(checkpoint, lowering))
        (image,), (heatmaps,) = model.graph.input, model.graph.output
        sizes = [size.dim_value or size.dim_param for size in image.type.tensor_type.shape.dim]
        assert (model.opset_import[0].version, sizes) == (opset, [batch, 64, 64, 3])
        assert image.type.tensor_type.elem_type == TensorProto.UINT8
        assert heatmaps.type.tensor_type.elem_type == TensorProto.FLOAT
        (text,) = [item.value for item in model.metadata_props if item.key == METADATA_KEY]
        assert Manifest.from_json(text, "model").opset == opset


def test_a_fixed_batch_runs_any_number_of_crops() -> None:
    checkpoint = quantized_checkpoint()
    crops = drawn_crops(make_manifest(checkpoint), 5)
    fixed, free = (LoweredSession(write_tensorrt_model(checkpoint, Lowering("fp32", batch=n))) for n in (2, None))
    np.testing.assert_allclose(fixed.run(crops), free.run(crops), atol=1e-5)


def test_a_weight_too_large_for_float16_asks_for_float32() -> None:
    checkpoint = quantized_checkpoint()
    name = next(name for name in checkpoint.state if name.startswith("biases"))
    checkpoint = type(checkpoint)(
        checkpoint.kind,
        checkpoint.config,
        {**checkpoint.state, name: checkpoint.state[name] + 1e5},
        checkpoint.zero_points,
    )
    with pytest.raises(InputError, match="use the carrier fp32"):
        write_tensorrt_model(checkpoint, Lowering("fp16"))
    assert write_tensorrt_model(checkpoint, Lowering("fp32"))


def test_export_writes_the_same_file_each_time_and_records_its_loss(quantized_file: Path, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        code, output = export(quantized_file, tmp_path / name, "--target", "tensorrt")
        assert code == 0
        assert "127 steps" in output
        files.append((tmp_path / name / "model.tensorrt.onnx").read_bytes())
    assert files[0] == files[1]
    table = json.loads((tmp_path / "one" / "manifest.json").read_text())["tensorrt"]
    assert table["sha256"] == hashlib.sha256(files[0]).hexdigest()
    assert (table["carrier"], table["features"], table["batch"]) == ("fp16", "carrier", None)
    assert table["parity"]["mean_px"] > 0


def test_an_old_graph_does_not_stay_beside_a_new_model(quantized_file: Path, tmp_path: Path) -> None:
    assert export(quantized_file, tmp_path, "--target", "tensorrt")[0] == 0
    assert export(quantized_file, tmp_path, "--overwrite")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "manifest.json", "golden.npz"}
    assert "tensorrt" not in json.loads((tmp_path / "manifest.json").read_text())


def test_options_of_tensorrt_need_its_target(quantized_file: Path, tmp_path: Path) -> None:
    code, message = export(quantized_file, tmp_path / "b", "--carrier", "fp32")
    assert (code, "--target tensorrt" in message) == (2, True)
    assert not (tmp_path / "b").exists()
