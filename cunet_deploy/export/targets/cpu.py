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

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.export.decoding import add_decoder
from cunet_deploy.export.onnx_builder import INPUT, OUTPUT, OnnxBuilder
from cunet_deploy.export.packing import lookup_table, pack
from cunet_deploy.export.rewrites import REWRITES, space_to_depth, space_to_depth_block, space_to_depth_weights
from cunet_deploy.export.targets.base import Addition, ExportJob
from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.quantize.network import QuantizedNetwork

__all__ = ["write", "write_model"]


def write(job: ExportJob) -> Addition:
    """Nothing: every bundle has model.onnx."""
    return Addition()


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
        builder = OnnxBuilder()
        _write_float(builder, checkpoint)
    else:
        network = checkpoint.quantized_network()
        formats = [network.weight_format(node) for node in network.graph.convolutions]
        builder = OnnxBuilder(short=packed and any(item.bits < 8 for item in formats))
        _write_quantized(builder, network, checkpoint.config.crop.size)
    manifest = make_manifest(checkpoint)
    if decoded:
        add_decoder(builder, manifest)
    return builder.to_bytes(manifest)


def _dequantized(builder: OnnxBuilder, name: str, values: NDArray[Any], scale: NDArray[np.float32]) -> str:
    """A DequantizeLinear of stored integers with one scale per output channel."""
    return _scaled(builder, name, builder.tensor(f"{name}.q", values), scale, values.dtype)


def _scaled(builder: OnnxBuilder, name: str, stored: str, scale: NDArray[np.float32], dtype: Any) -> str:
    scales, zero = builder.tensor(f"{name}.s", scale), builder.constant(np.zeros(scale.shape, dtype))
    return builder.node("DequantizeLinear", [stored, scales, zero], name, axis=0)


def _packed(builder: OnnxBuilder, name: str, values: NDArray[np.int8], bits: int) -> str:
    """The tensor of integers that are stored as packed bytes."""
    words = builder.node("Cast", [builder.tensor(f"{name}.p", pack(values, bits))], f"{name}.i", to=TensorProto.INT32)
    rows = builder.node("Gather", [builder.constant(lookup_table(bits)), words], f"{name}.t", axis=0)
    if values.size * bits % 8:  # the last byte holds more than there is
        rows = builder.node("Reshape", [rows, builder.constant(np.array([-1], np.int64))], f"{name}.f")
        ends = [builder.constant(np.array([end], np.int64)) for end in (0, values.size)]
        rows = builder.node("Slice", [rows, *ends], f"{name}.e")
    return builder.node("Reshape", [rows, builder.constant(np.array(values.shape, np.int64))], f"{name}.q")


def _quantized(builder: OnnxBuilder, x: str, name: str, params: list[str], highest: int = 255) -> str:
    """A QuantizeLinear / DequantizeLinear pair behind a tensor; integers above ``highest`` are clamped."""
    integers = builder.node("QuantizeLinear", [x, *params], f"{name}.q")
    if highest < 255:
        limits = [builder.constant(np.array(limit, np.uint8)) for limit in (0, highest)]
        integers = builder.node("Clip", [integers, *limits], f"{name}.c")
    return builder.node("DequantizeLinear", [integers, *params], name)


def _write_float(builder: OnnxBuilder, checkpoint: Checkpoint) -> None:
    folded = {name: value.numpy() for name, value in checkpoint.folded().items()}
    graph = checkpoint.graph
    builder.node("Transpose", [INPUT], f"{INPUT}.nchw", perm=[0, 3, 1, 2])
    builder.node("Cast", [f"{INPUT}.nchw"], f"{INPUT}.float", to=TensorProto.FLOAT)
    half = builder.constant(np.array(128, np.float32))
    builder.node("Sub", [f"{INPUT}.float", half], f"{INPUT}.centred")
    values = {graph.input: builder.node("Div", [f"{INPUT}.centred", half], f"{INPUT}.x")}
    for node in graph.nodes:
        weights = []
        if node.operation.weighted:
            weight = folded[f"{node.output}.weight"].reshape(node.channels, -1, node.kernel, node.kernel)
            weights = [
                builder.tensor(f"{node.output}.w", weight),
                builder.tensor(f"{node.output}.b", folded[f"{node.output}.bias"]),
            ]
        name = OUTPUT if node.output == graph.outputs[-1] else node.output
        inputs, made = [values[x] for x in node.inputs], f"{name}.x" if node.relu else name
        out = builder.convolution(node, [*inputs, *weights], made) if weights else builder.operation(node, inputs, made)
        values[node.output] = builder.node("Relu", [out], name) if node.relu else out


def _write_quantized(builder: OnnxBuilder, network: QuantizedNetwork, size: int) -> None:
    graph: Graph = network.graph
    (stem,) = (node for node in graph.nodes if graph.input in node.inputs)
    block = space_to_depth_block(stem)
    pixels = space_to_depth(builder, INPUT, size, block) if block > 1 else _channels_first(builder)
    values = {
        graph.input: builder.node("DequantizeLinear", [pixels, *_params(builder, network, graph.input)], f"{INPUT}.x")
    }
    stored: dict[str, str] = {}
    for node in graph.nodes:
        name = OUTPUT if node.output == graph.outputs[-1] else node.output
        params, inputs = _params(builder, network, node.output), [values[x] for x in node.inputs]
        rewrite = REWRITES.get(node.op)
        if node.operation.weighted:
            out = _convolution(builder, network, node, inputs, stored, block if node is stem else 1)
        elif rewrite is not None and network.activation_qparams(node.output)[1] == 0:
            out = rewrite(builder, inputs[0], f"{node.output}.x", size // node.stride_to_input // 2, params)
        else:
            out = builder.operation(node, inputs, f"{node.output}.x")
        values[node.output] = _quantized(builder, out, name, params, network.activation_max(node.output))


def _convolution(
    builder: OnnxBuilder, network: QuantizedNetwork, node: Node, inputs: list[str], stored: dict[str, str], block: int
) -> str:
    """A convolution of integers; of an image whose blocks of pixels are channels where ``block`` is not 1.

    Integers that several nodes share are written once and remembered in ``stored``.
    """
    weight, bias = (item.numpy() for item in network.integers(node))
    weight_scale = network.weight_scale(node)
    input_scale, _ = network.activation_qparams(node.inputs[0])
    owner, name, pads = node.shares or node.output, f"{node.output}.w", None
    if block > 1:
        weight, pads = space_to_depth_weights(weight, block)
        node = replace(node, kernel=weight.shape[-1], stride=node.stride // block)
    if owner not in stored:
        bits = network.weight_format(node).bits
        is_packed = builder.short and bits < 8
        stored[owner] = _packed(builder, name, weight, bits) if is_packed else builder.tensor(f"{name}.q", weight)
    weights = [
        _scaled(builder, name, stored[owner], _array(weight_scale), weight.dtype),
        _dequantized(builder, f"{node.output}.b", bias, _array(weight_scale * input_scale)),
    ]
    return builder.convolution(node, [*inputs, *weights], f"{node.output}.x", pads)


def _channels_first(builder: OnnxBuilder) -> str:
    return builder.node("Transpose", [INPUT], f"{INPUT}.q", perm=[0, 3, 1, 2])


def _params(builder: OnnxBuilder, network: QuantizedNetwork, name: str) -> list[str]:
    """Scale and zero point of a tensor."""
    scale, zero_point = network.activation_qparams(name)
    return [builder.constant(_array(scale)), builder.constant(np.array(zero_point, np.uint8))]


def _array(value: Any) -> NDArray[np.float32]:
    return np.asarray(value.detach().numpy(), np.float32)
