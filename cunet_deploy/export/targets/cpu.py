"""Writes ONNX node by node from a checkpoint: nothing is traced, so the same weights give the same bytes everywhere.

The file for CPUs (ONNX Runtime and OpenVINO) is a QDQ graph: every tensor passes a QuantizeLinear / DequantizeLinear
pair, activations uint8, weights int8 per output channel, biases int32. What the runtimes make fast, and why it has this
form:

* the image enters as uint8 with zero point 128: it is the quantized tensor, so the first convolution is integer;
* there is no ReLU node: behind a ReLU the zero point is 0, and clamping at 0 is the ReLU;
* BN before a convolution is a depthwise 1x1 convolution, since a BatchNormalization stays float (and crashes OpenVINO);
* tensors that are concatenated share a scale, so the concatenation copies bytes;
* enlarging copies cells, and a 7x7 stem reads blocks of pixels; see `cunet_deploy.export.rewrites`;
* weights of fewer than 8 bits are packed; see `cunet_deploy.export.packing`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from cunet_deploy.checkpoint.storage import Checkpoint, make_manifest
from cunet_deploy.export.decoding import add_decoder
from cunet_deploy.export.onnx_builder import INPUT, OUTPUT, OnnxBuilder
from cunet_deploy.export.packing import lookup_table, pack
from cunet_deploy.export.rewrites import block_of, enlarged, spread_pixels, spread_weights
from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.quantize.network import QuantizedCUNet

__all__ = ["write_model"]


def write_model(checkpoint: Checkpoint, *, packed: bool = True, decoded: bool = False) -> bytes:
    """The ONNX file of a checkpoint: float for a float one, QDQ for a quantized one, with the manifest inside.

    Input ``image`` (batch, size, size, 3) uint8 BGR, output ``heatmaps`` (batch, K, size/4, size/4) float32, never
    negative.

    Args:
        checkpoint: what to write.
        decoded: also output ``landmarks`` and ``scores``; see `cunet_deploy.export.decoding`.
        packed: weights of fewer than 8 bits are packed; else every weight takes a byte, and the same integers come out.
    """
    if checkpoint.kind == "float":
        parts = OnnxBuilder()
        _write_float(parts, checkpoint)
    else:
        network = checkpoint.quantized_network()
        formats = [network.weight_format(node) for node in network.graph.nodes if node.op == "conv"]
        parts = OnnxBuilder(short=packed and any(item.bits < 8 for item in formats))
        _write_quantized(parts, network, checkpoint.config.crop.size)
    manifest = make_manifest(checkpoint)
    if decoded:
        add_decoder(parts, manifest)
    return parts.to_bytes(manifest)


def _dequantized(parts: OnnxBuilder, name: str, values: NDArray[Any], scale: NDArray[np.float32]) -> str:
    """A DequantizeLinear of stored integers with one scale per output channel."""
    return _scaled(parts, name, parts.tensor(f"{name}.q", values), scale, values.dtype)


def _scaled(parts: OnnxBuilder, name: str, stored: str, scale: NDArray[np.float32], dtype: Any) -> str:
    scales, zero = parts.tensor(f"{name}.s", scale), parts.constant(np.zeros(scale.shape, dtype))
    return parts.node("DequantizeLinear", [stored, scales, zero], name, axis=0)


def _packed(parts: OnnxBuilder, name: str, values: NDArray[np.int8], bits: int) -> str:
    """The tensor of integers that are stored as packed bytes."""
    words = parts.node("Cast", [parts.tensor(f"{name}.p", pack(values, bits))], f"{name}.i", to=TensorProto.INT32)
    rows = parts.node("Gather", [parts.constant(lookup_table(bits)), words], f"{name}.t", axis=0)
    if values.size * bits % 8:  # the last byte holds more than there is
        rows = parts.node("Reshape", [rows, parts.constant(np.array([-1], np.int64))], f"{name}.f")
        ends = [parts.constant(np.array([end], np.int64)) for end in (0, values.size)]
        rows = parts.node("Slice", [rows, *ends], f"{name}.e")
    return parts.node("Reshape", [rows, parts.constant(np.array(values.shape, np.int64))], f"{name}.q")


def _quantized(parts: OnnxBuilder, x: str, name: str, params: list[str], highest: int = 255) -> str:
    """A QuantizeLinear / DequantizeLinear pair behind a tensor; integers above ``highest`` are clamped."""
    integers = parts.node("QuantizeLinear", [x, *params], f"{name}.q")
    if highest < 255:
        limits = [parts.constant(np.array(limit, np.uint8)) for limit in (0, highest)]
        integers = parts.node("Clip", [integers, *limits], f"{name}.c")
    return parts.node("DequantizeLinear", [integers, *params], name)


def _write_float(parts: OnnxBuilder, checkpoint: Checkpoint) -> None:
    folded = {name: value.numpy() for name, value in checkpoint.folded().items()}
    graph = checkpoint.graph
    parts.node("Transpose", [INPUT], f"{INPUT}.nchw", perm=[0, 3, 1, 2])
    parts.node("Cast", [f"{INPUT}.nchw"], f"{INPUT}.float", to=TensorProto.FLOAT)
    half = parts.constant(np.array(128, np.float32))
    parts.node("Sub", [f"{INPUT}.float", half], f"{INPUT}.centred")
    values = {graph.input: parts.node("Div", [f"{INPUT}.centred", half], f"{INPUT}.x")}
    for node in graph.nodes:
        weights = []
        if node.op in ("conv", "affine"):
            weight = folded[f"{node.output}.weight"]
            weight = weight if weight.ndim == 4 else weight.reshape(-1, 1, 1, 1)
            weights = [
                parts.tensor(f"{node.output}.w", weight),
                parts.tensor(f"{node.output}.b", folded[f"{node.output}.bias"]),
            ]
        name = OUTPUT if node.output == graph.outputs[-1] else node.output
        inputs, made = [values[x] for x in node.inputs], f"{name}.x" if node.relu else name
        out = parts.convolution(node, [*inputs, *weights], made) if weights else parts.moved(node, inputs, made)
        values[node.output] = parts.node("Relu", [out], name) if node.relu else out


def _write_quantized(parts: OnnxBuilder, network: QuantizedCUNet, size: int) -> None:
    graph: Graph = network.graph
    (stem,) = (node for node in graph.nodes if graph.input in node.inputs)
    block = block_of(stem)
    pixels = spread_pixels(parts, INPUT, size, block) if block > 1 else _channels_first(parts)
    values = {
        graph.input: parts.node("DequantizeLinear", [pixels, *_params(parts, network, graph.input)], f"{INPUT}.x")
    }
    stored: dict[str, str] = {}
    for node in graph.nodes:
        name = OUTPUT if node.output == graph.outputs[-1] else node.output
        params, inputs = _params(parts, network, node.output), [values[x] for x in node.inputs]
        if node.op == "upsample" and network.activation_qparams(node.output)[1] == 0:
            out = enlarged(parts, inputs[0], f"{node.output}.x", size // node.stride_to_input // 2, params)
        elif node.op in ("conv", "affine"):
            out = _convolution(parts, network, node, inputs, stored, block if node is stem else 1)
        else:
            out = parts.moved(node, inputs, f"{node.output}.x")
        values[node.output] = _quantized(parts, out, name, params, network.activation_max(node.output))


def _convolution(
    parts: OnnxBuilder, network: QuantizedCUNet, node: Node, inputs: list[str], stored: dict[str, str], block: int
) -> str:
    """A convolution of integers; of an image whose blocks of pixels are channels where ``block`` is not 1.

    Integers that several nodes share are written once and remembered in ``stored``.
    """
    weight, bias = (item.numpy() for item in network.integers(node))
    weight_scale = network.weight_scale(node)
    input_scale, _ = network.activation_qparams(node.inputs[0])
    owner, name, pads = node.shares or node.output, f"{node.output}.w", None
    if block > 1:
        weight, pads = spread_weights(weight, block)
        node = replace(node, kernel=weight.shape[-1], stride=node.stride // block)
    if owner not in stored:
        bits = network.weight_format(node).bits
        is_packed = parts.short and bits < 8
        stored[owner] = _packed(parts, name, weight, bits) if is_packed else parts.tensor(f"{name}.q", weight)
    weights = [
        _scaled(parts, name, stored[owner], _array(weight_scale), weight.dtype),
        _dequantized(parts, f"{node.output}.b", bias, _array(weight_scale * input_scale)),
    ]
    return parts.convolution(node, [*inputs, *weights], f"{node.output}.x", pads)


def _channels_first(parts: OnnxBuilder) -> str:
    return parts.node("Transpose", [INPUT], f"{INPUT}.q", perm=[0, 3, 1, 2])


def _params(parts: OnnxBuilder, network: QuantizedCUNet, name: str) -> list[str]:
    """Scale and zero point of a tensor."""
    scale, zero_point = network.activation_qparams(name)
    return [parts.constant(_array(scale)), parts.constant(np.array(zero_point, np.uint8))]


def _array(value: Any) -> NDArray[np.float32]:
    return np.asarray(value.detach().numpy(), np.float32)
