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

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cunet_deploy.checkpoint import OPSET, Checkpoint, make_manifest
from cunet_deploy.manifest import METADATA_KEY
from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.quantize.network import QuantizedCUNet

__all__ = ["write_model"]

IR_VERSION = 8
INPUT, OUTPUT = "image", "heatmaps"


def write_model(checkpoint: Checkpoint) -> bytes:
    """The ONNX file of a checkpoint: float for a float one, QDQ for a quantized one, with the manifest inside.

    Input ``image`` (batch, size, size, 3) uint8 BGR, output ``heatmaps`` (batch, K, size/4, size/4) float32, never
    negative.
    """
    writer = _Writer()
    if checkpoint.kind == "float":
        _write_float(writer, checkpoint)
    else:
        _write_quantized(writer, checkpoint.quantized_network())
    manifest = make_manifest(checkpoint)
    size, cells = manifest.crop.size, manifest.map_size
    image = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", size, size, 3])
    heatmaps = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", len(manifest.skeleton), cells, cells])
    graph = helper.make_graph(writer.nodes, manifest.name, [image], [heatmaps], writer.initializers)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cunet-deploy",
        producer_version=manifest.producer.rpartition(" ")[2],
    )
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@dataclass
class _Writer:
    """Collects nodes and initializers; equal constants are stored once."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    constants: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in self.constants:
            self.constants[key] = self.tensor(f"c{len(self.constants)}", values)
        return self.constants[key]

    def operation(self, node: Node, inputs: list[str], weights: list[str], output: str) -> str:
        """The ONNX node of one operation on real numbers."""
        if node.op in ("conv", "affine"):
            pad = node.kernel // 2
            return self.node(
                "Conv",
                [*inputs, *weights],
                output,
                group=node.channels if node.op == "affine" else 1,
                kernel_shape=[node.kernel] * 2,
                pads=[pad] * 4,
                strides=[node.stride] * 2,
            )
        if node.op == "max_pool":
            return self.node("MaxPool", inputs, output, kernel_shape=[2, 2], strides=[2, 2])
        if node.op == "upsample":
            scales = self.constant(np.array([1, 1, 2, 2], np.float32))
            return self.node(
                "Resize",
                [*inputs, "", scales],
                output,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        return self.node("Concat", inputs, output, axis=1)

    def dequantized(self, name: str, values: NDArray[Any], scale: NDArray[np.float32]) -> str:
        """A DequantizeLinear of stored integers with one scale per output channel."""
        stored, scales = self.tensor(f"{name}.q", values), self.tensor(f"{name}.s", scale)
        zero = self.constant(np.zeros(scale.shape, values.dtype))
        return self.node("DequantizeLinear", [stored, scales, zero], name, axis=0)

    def quantized(self, x: str, name: str, scale: NDArray[np.float32], zero_point: int) -> str:
        """A QuantizeLinear / DequantizeLinear pair behind a tensor."""
        params = [self.constant(scale), self.constant(np.array(zero_point, np.uint8))]
        self.node("QuantizeLinear", [x, *params], f"{name}.q")
        return self.node("DequantizeLinear", [f"{name}.q", *params], name)


def _write_float(writer: _Writer, checkpoint: Checkpoint) -> None:
    folded = {name: value.numpy() for name, value in checkpoint.folded().items()}
    graph = checkpoint.graph
    writer.node("Transpose", [INPUT], f"{INPUT}.nchw", perm=[0, 3, 1, 2])
    writer.node("Cast", [f"{INPUT}.nchw"], f"{INPUT}.float", to=TensorProto.FLOAT)
    half = writer.constant(np.array(128, np.float32))
    writer.node("Sub", [f"{INPUT}.float", half], f"{INPUT}.centred")
    values = {graph.input: writer.node("Div", [f"{INPUT}.centred", half], f"{INPUT}.x")}
    for node in graph.nodes:
        weights = []
        if node.op in ("conv", "affine"):
            weight = folded[f"{node.output}.weight"]
            weight = weight if weight.ndim == 4 else weight.reshape(-1, 1, 1, 1)
            weights = [
                writer.tensor(f"{node.output}.w", weight),
                writer.tensor(f"{node.output}.b", folded[f"{node.output}.bias"]),
            ]
        name = OUTPUT if node.output == graph.outputs[-1] else node.output
        out = writer.operation(node, [values[x] for x in node.inputs], weights, f"{name}.x" if node.relu else name)
        values[node.output] = writer.node("Relu", [out], name) if node.relu else out


def _write_quantized(writer: _Writer, network: QuantizedCUNet) -> None:
    graph: Graph = network.graph
    scale, zero_point = network.activation_qparams(graph.input)
    writer.node("Transpose", [INPUT], f"{INPUT}.q", perm=[0, 3, 1, 2])
    params = [writer.constant(_array(scale)), writer.constant(np.array(zero_point, np.uint8))]
    values = {graph.input: writer.node("DequantizeLinear", [f"{INPUT}.q", *params], f"{INPUT}.x")}
    for node in graph.nodes:
        weights = []
        if node.op in ("conv", "affine"):
            weight, bias = network.integers(node)
            weight_scale = network.weight_scale(node)
            input_scale, _ = network.activation_qparams(node.inputs[0])
            weights = [
                writer.dequantized(f"{node.output}.w", weight.numpy(), _array(weight_scale)),
                writer.dequantized(f"{node.output}.b", bias.numpy(), _array(weight_scale * input_scale)),
            ]
        out = writer.operation(node, [values[x] for x in node.inputs], weights, f"{node.output}.x")
        scale, zero_point = network.activation_qparams(node.output)
        name = OUTPUT if node.output == graph.outputs[-1] else node.output
        values[node.output] = writer.quantized(out, name, _array(scale), zero_point)


def _array(value: Any) -> NDArray[np.float32]:
    return np.asarray(value.detach().numpy(), np.float32)
