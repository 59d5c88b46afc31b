"""A QDQ graph made easy to ask: who makes a tensor, which values are constant, how a tensor is quantized."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.errors import ArtifactError, InputError

__all__ = ["COMMUTING", "QuantizedGraph", "Quantizer", "load_graph", "node_name"]

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

COMMUTING = ("MaxPool", "Concat", "Transpose", "Slice", "Split", "Reshape", "Identity")
"""What dequantizing moves behind: these move integers or take their maximum; joining needs equal scales for it."""

_DOMAINS = ("", "ai.onnx", "com.microsoft")


def node_name(node: Any) -> str:
    """Name of a node, or of what it makes where it has none."""
    return str(node.name or (node.output[0] if node.output else node.op_type))


@dataclass(frozen=True, eq=False)
class Quantizer:
    """A QuantizeLinear or DequantizeLinear.

    Attributes:
        node: of the graph.
        scale: its scale; ``None`` where it is not constant.
        zero_point: its zero point; ``None`` where it is not constant or absent.
        has_zero_point: whether there is an input for it.
        stored: type of the integers, as an ONNX element type; 0 where it is not known.
        axis: of a scale with more than one value.
    """

    node: Any
    scale: NDArray[Any] | None
    zero_point: NDArray[Any] | None
    has_zero_point: bool
    stored: int
    axis: int

    @property
    def name(self) -> str:
        """Of the node."""
        return node_name(self.node)

    @property
    def is_quantize(self) -> bool:
        """Whether it makes integers; else it makes real numbers of them."""
        return str(self.node.op_type) == QUANTIZE

    @property
    def is_per_tensor(self) -> bool:
        """Whether one scalar is the scale. An axis of length 1 is not the same: TensorRT takes it for channels."""
        return self.scale is not None and self.scale.ndim == 0


class QuantizedGraph:
    """The main graph of an ONNX model with lookups."""

    def __init__(self, model: Any) -> None:
        self.onnx: Any = require("onnx", extra="tensorrt")
        self.model = model
        self.nodes = list(model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}

    @cached_property
    def users(self) -> dict[str, list[Any]]:
        """Nodes that read a tensor."""
        users: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                users.setdefault(name, []).append(node)
        return users

    @cached_property
    def _stored(self) -> dict[str, Any]:
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return max((item.version for item in self.model.opset_import if item.domain in ("", "ai.onnx")), default=0)

    @cached_property
    def inputs(self) -> dict[str, list[int | None]]:
        """Shape of each input, ``None`` where a size is free."""
        shapes: dict[str, list[int | None]] = {}
        for item in self.model.graph.input:
            if item.name not in self._stored:
                sizes = item.type.tensor_type.shape.dim
                shapes[item.name] = [size.dim_value if size.dim_value > 0 else None for size in sizes]
        return shapes

    @cached_property
    def types(self) -> dict[str, int]:
        """ONNX element type of each tensor, as far as the file and shape inference tell."""
        try:
            inferred = self.onnx.shape_inference.infer_shapes(self.model)
        except (RuntimeError, ValueError):  # a model too large, or wrong in a place that concerns nobody here
            inferred = self.model
        graph = inferred.graph
        items = [*graph.value_info, *graph.input, *graph.output]
        found = {item.name: int(item.type.tensor_type.elem_type) for item in items}
        return {**found, **{name: int(tensor.data_type) for name, tensor in self._stored.items()}}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Value of a tensor that is stored in the file, or ``None``. A computed one is none, however constant."""
        if name in self._stored:
            return np.asarray(self.onnx.numpy_helper.to_array(self._stored[name]))
        node = self.maker.get(name)
        if node is None:
            return None
        if node.op_type == "Identity":
            return self.constant(node.input[0])
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    return np.asarray(self.onnx.numpy_helper.to_array(attribute.t))
                if attribute.name in ("value_float", "value_floats"):
                    return np.asarray(self.onnx.helper.get_attribute_value(attribute), np.float32)
        return None

    def attribute(self, node: Any, name: str, default: Any) -> Any:
        """Value of an attribute of a node."""
        for attribute in node.attribute:
            if attribute.name == name:
                return self.onnx.helper.get_attribute_value(attribute)
        return default

    def nodes_of(self, *operators: str) -> Iterator[Any]:
        """The nodes of these types in the standard domain."""
        return (node for node in self.nodes if node.op_type in operators and node.domain in _DOMAINS)

    def quantizer(self, node: Any) -> Quantizer:
        """A QuantizeLinear or DequantizeLinear with what its inputs say."""
        has_zero = len(node.input) > 2 and bool(node.input[2])
        zero = self.constant(node.input[2]) if has_zero else None
        if node.op_type == DEQUANTIZE:
            stored = self.types.get(node.input[0], 0) or self._zero_type(node, has_zero)
        else:
            stored = self._zero_type(node, has_zero) or int(self.attribute(node, "output_dtype", 0))
        scale = self.constant(node.input[1])
        return Quantizer(node, scale, zero, has_zero, stored, int(self.attribute(node, "axis", 1)))

    def _zero_type(self, node: Any, has_zero: bool) -> int:
        return self.types.get(node.input[2], 0) if has_zero else 0

    def source(self, name: str) -> Quantizer | None:
        """The DequantizeLinear that makes a tensor, or ``None``."""
        node = self.maker.get(name)
        return self.quantizer(node) if node is not None and node.op_type == DEQUANTIZE else None


def load_graph(model: str | Path | bytes) -> QuantizedGraph:
    """Read an ONNX model.

    Raises:
        InputError: the file cannot be read.
        ArtifactError: it is not an ONNX model, or is cut off.
        MissingDependencyError: the onnx package is not installed.
    """
    onnx: Any = require("onnx", extra="tensorrt")
    name = "the model" if isinstance(model, bytes) else str(model)
    try:
        data = model if isinstance(model, bytes) else Path(model).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); give an .onnx file or a bundle folder") from error
    decode_error = require("google.protobuf.message", extra="tensorrt").DecodeError
    try:
        loaded = onnx.load_from_string(data)
        if not isinstance(model, bytes) and any(t.data_location == 1 for t in loaded.graph.initializer):
            loaded = onnx.load(str(model))  # the rest lies in files beside it
    except (decode_error, ValueError, OSError) as error:
        raise ArtifactError(f"{name}: is not an ONNX model or is cut off; copy or export it again") from error
    if not loaded.graph.node:
        raise ArtifactError(f"{name}: is not an ONNX model, or an empty one; copy or export it again")
    return QuantizedGraph(loaded)
