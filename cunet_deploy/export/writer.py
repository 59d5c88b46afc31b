"""Writes ONNX node by node from a checkpoint: nothing is traced, so the same weights give the same bytes everywhere.

The file for CPUs (ONNX Runtime and OpenVINO) is a QDQ graph: every tensor passes a QuantizeLinear / DequantizeLinear
pair, activations uint8, weights int8 per output channel, biases int32. What the runtimes make fast, and why it has this
form:

* the image enters as uint8 with zero point 128: it is the quantized tensor, so the first convolution is integer;
* there is no ReLU node: behind a ReLU the zero point is 0, and clamping at 0 is the ReLU;
* BN before a convolution is a depthwise 1x1 convolution, since a BatchNormalization stays float (and crashes OpenVINO);
* tensors that are concatenated share a scale, so the concatenation copies bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from cunet_deploy.checkpoint import Checkpoint, make_manifest
from cunet_deploy.export.parts import INPUT, OUTPUT, Parts
from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.quantize.network import QuantizedCUNet

__all__ = ["write_model"]


def write_model(checkpoint: Checkpoint) -> bytes:
    """The ONNX file of a checkpoint: float for a float one, QDQ for a quantized one, with the manifest inside.

    Input ``image`` (batch, size, size, 3) uint8 BGR, output ``heatmaps`` (batch, K, size/4, size/4) float32, never
    negative.
    """
    parts = Parts()
    if checkpoint.kind == "float":
        _write_float(parts, checkpoint)
    else:
        _write_quantized(parts, checkpoint.quantized_network())
    return parts.to_bytes(make_manifest(checkpoint))


def _operation(parts: Parts, node: Node, inputs: list[str], weights: list[str], output: str) -> str:
    if node.op in ("conv", "affine"):
        return parts.convolution(node, [*inputs, *weights], output)
    return parts.moved(node, inputs, output)


def _dequantized(parts: Parts, name: str, values: NDArray[Any], scale: NDArray[np.float32]) -> str:
    """A DequantizeLinear of stored integers with one scale per output channel."""
    stored, scales = parts.tensor(f"{name}.q", values), parts.tensor(f"{name}.s", scale)
    zero = parts.constant(np.zeros(scale.shape, values.dtype))
    return parts.node("DequantizeLinear", [stored, scales, zero], name, axis=0)


def _quantized(parts: Parts, x: str, name: str, scale: NDArray[np.float32], zero_point: int) -> str:
    """A QuantizeLinear / DequantizeLinear pair behind a tensor."""
    params = [parts.constant(scale), parts.constant(np.array(zero_point, np.uint8))]
    parts.node("QuantizeLinear", [x, *params], f"{name}.q")
    return parts.node("DequantizeLinear", [f"{name}.q", *params], name)


def _write_float(parts: Parts, checkpoint: Checkpoint) -> None:
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
        out = _operation(parts, node, [values[x] for x in node.inputs], weights, f"{name}.x" if node.relu else name)
        values[node.output] = parts.node("Relu", [out], name) if node.relu else out


def _write_quantized(parts: Parts, network: QuantizedCUNet) -> None:
    graph: Graph = network.graph
    scale, zero_point = network.activation_qparams(graph.input)
    parts.node("Transpose", [INPUT], f"{INPUT}.q", perm=[0, 3, 1, 2])
    params = [parts.constant(_array(scale)), parts.constant(np.array(zero_point, np.uint8))]
    values = {graph.input: parts.node("DequantizeLinear", [f"{INPUT}.q", *params], f"{INPUT}.x")}
    for node in graph.nodes:
        weights = []
        if node.op in ("conv", "affine"):
            weight, bias = network.integers(node)
            weight_scale = network.weight_scale(node)
            input_scale, _ = network.activation_qparams(node.inputs[0])
            weights = [
                _dequantized(parts, f"{node.output}.w", weight.numpy(), _array(weight_scale)),
                _dequantized(parts, f"{node.output}.b", bias.numpy(), _array(weight_scale * input_scale)),
            ]
        out = _operation(parts, node, [values[x] for x in node.inputs], weights, f"{node.output}.x")
        scale, zero_point = network.activation_qparams(node.output)
        name = OUTPUT if node.output == graph.outputs[-1] else node.output
        values[node.output] = _quantized(parts, out, name, _array(scale), zero_point)


def _array(value: Any) -> NDArray[np.float32]:
    return np.asarray(value.detach().numpy(), np.float32)
