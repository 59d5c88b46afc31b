"""Collects the parts of an ONNX file; what the files for CPUs and for TensorRT have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.model.graph import Node

__all__ = ["INPUT", "LANDMARKS", "OUTPUT", "SCORES", "OnnxBuilder"]

INPUT, OUTPUT, LANDMARKS, SCORES = "image", "heatmaps", "landmarks", "scores"


@dataclass
class OnnxBuilder:
    """Nodes and initializers of a graph in the making; equal constants are stored once.

    Attributes:
        outputs: of the graph behind the heatmaps.
        short: names of tensors become as short as they can be, and only convolutions are named: in a file of packed
            weights the names would take more bytes than the biases.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    constants: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    short: bool = False
    _count: int = 0

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node, named after the tensor that it makes; returns the name of that tensor."""
        name = ("" if op != "Conv" else output.removesuffix(".x")) if self.short else output
        made = self._shortened(output)
        self.nodes.append(helper.make_node(op, inputs, [made], name=name, **attributes))
        return made

    def _shortened(self, name: str) -> str:
        if not self.short or name in (INPUT, OUTPUT, LANDMARKS, SCORES):
            return name
        self._count += 1
        return np.base_repr(self._count, 36)

    def tensor(self, name: str, values: NDArray[Any]) -> str:
        """Add an initializer; returns its name."""
        # Scalars stay scalars (ascontiguousarray would give them an axis): TensorRT takes a scale of shape (1,) for one
        # scale per channel, and a convolution behind such activations silently runs in float.
        name = self._shortened(name)
        self.initializers.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """The name of an initializer with these values, added when there is none yet."""
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in self.constants:
            self.constants[key] = self.tensor(f"c{len(self.constants)}", values)
        return self.constants[key]

    def convolution(self, node: Node, inputs: list[str], output: str, pads: list[int] | None = None) -> str:
        """The Conv of a convolution, or of an affine node as a depthwise 1x1 convolution.

        Args:
            node: the convolution.
            inputs: features, weights, bias.
            output: the tensor to make.
            pads: rows and columns before, then behind; ``None``: half the kernel.
        """
        return self.node(
            "Conv",
            inputs,
            output,
            group=node.groups,
            kernel_shape=[node.kernel] * 2,
            pads=pads or [node.kernel // 2] * 4,
            strides=[node.stride] * 2,
        )

    def operation(self, node: Node, inputs: list[str], output: str) -> str:
        """The node of an operation without weights."""
        row = node.operation
        constants = ["" if values is None else self.constant(values) for values in row.constants]
        return self.node(row.onnx, [*inputs, *constants], output, **row.attributes)

    def to_bytes(self, manifest: Manifest, batch: int | str = "batch") -> bytes:
        """The file, checked, with the manifest inside; the same bytes for the same parts.

        Args:
            manifest: of the model; it states the opset.
            batch: fixed batch size, or the name of a free one.
        """
        size, cells = manifest.crop.size, manifest.map_size
        heatmaps = [batch, len(manifest.skeleton), cells, cells]
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                manifest.name,
                [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [batch, size, size, 3])],
                [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, heatmaps), *self.outputs],
                self.initializers,
            ),
            opset_imports=[helper.make_opsetid("", manifest.opset)],
            ir_version=9 if manifest.opset >= 19 else 8,
            producer_name="cunet-deploy",
            producer_version=manifest.producer.rpartition(" ")[2],
        )
        helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
