"""A QDQ graph made easy to ask: who makes a tensor, which values are constant, how a tensor is quantized."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.onnx_graph.external import has_external_data, missing_weights

__all__ = ["COMMUTING", "QuantizedGraph", "Quantizer", "inferred_shapes", "load_graph", "node_name"]

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

COMMUTING = ("MaxPool", "Concat", "Transpose", "Slice", "Split", "Reshape", "Identity")
"""Operators behind which dequantizing may move: they move integers or take the maximum; Concat needs equal scales."""

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
        """Name of the node."""
        return node_name(self.node)

    @property
    def is_quantize(self) -> bool:
        """Return whether it makes integers; else it makes real numbers of them."""
        return str(self.node.op_type) == QUANTIZE

    @property
    def is_per_tensor(self) -> bool:
        """Return whether the scale is a scalar. An axis of length 1 is not the same: TensorRT takes it for channels."""
        return self.scale is not None and self.scale.ndim == 0


class QuantizedGraph:
    """The main graph of an ONNX model with lookups, or a graph inside one of its nodes.

    Attributes:
        model: the whole.
        name: what messages call it.
        graph: its main graph, or the branch of an If or the body of a Loop or Scan.
        outer: the graph that it is in; ``None`` for the main graph. Lookups find what stands there too.
        inside: the node that it is in; ``None`` for the main graph.
        nodes: of this graph.
        maker: the node that makes a tensor.
    """

    def __init__(self, model: Any, graph: Any = None, outer: QuantizedGraph | None = None, inside: Any = None) -> None:
        self.onnx: Any = require("onnx", extra="tensorrt")
        self.model = model
        self.graph = model.graph if graph is None else graph
        self.outer, self.inside = outer, inside
        self.name: str = "the model" if outer is None else outer.name
        self.nodes = list(self.graph.node)
        self.maker: dict[str, Any] = {} if outer is None else dict(outer.maker)
        self.maker.update((name, node) for node in self.nodes for name in node.output)

    @cached_property
    def bodies(self) -> tuple[QuantizedGraph, ...]:
        """The graphs inside its nodes: branches of If, bodies of Loop and Scan."""
        return tuple(
            QuantizedGraph(self.model, graph, self, node)
            for node in self.nodes
            for attribute in node.attribute
            for graph in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
        )

    @contextmanager
    def valid(self) -> Iterator[None]:
        """Within the block, an error that an invalid graph causes says what is wrong with the graph.

        Valid graphs are the rule, and checking them takes as long as reading them: so it is done afterwards.

        Raises:
            ArtifactError: the graph is not valid ONNX.
        """
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            reason = self._invalid()
            if not reason:
                raise
            raise ArtifactError(f"{self.name}: is not valid ONNX ({reason}); copy or export it again") from error

    def _invalid(self) -> str:
        """First finding of ONNX's checker; empty if there is none."""
        if not all(isinstance(node.op_type, str) for part in self.walk() for node in part.nodes):
            return "the name of an operator is damaged"
        try:
            self.onnx.checker.check_model(self.model)
        except (self.onnx.checker.ValidationError, RuntimeError, ValueError) as error:
            return str(error).strip().partition("\n")[0][:200] or type(error).__name__
        return ""

    def walk(self) -> Iterator[QuantizedGraph]:
        """This graph and all that are inside it, however deep."""
        yield self
        for body in self.bodies:
            yield from body.walk()

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
        outer = {} if self.outer is None else self.outer._stored
        return {**outer, **{tensor.name: tensor for tensor in self.graph.initializer}}

    @cached_property
    def opset(self) -> int:
        """Version of the standard operator set."""
        return max((item.version for item in self.model.opset_import if item.domain in ("", "ai.onnx")), default=0)

    @cached_property
    def inputs(self) -> dict[str, list[int | None]]:
        """Shape of each input, ``None`` where a size is free."""
        shapes: dict[str, list[int | None]] = {}
        for item in self.graph.input:
            if item.name not in self._stored:
                sizes = item.type.tensor_type.shape.dim
                shapes[item.name] = [size.dim_value if size.dim_value > 0 else None for size in sizes]
        return shapes

    @cached_property
    def types(self) -> dict[str, int]:
        """ONNX element type of each tensor, as far as the file and, in the main graph, shape inference tell."""
        if self.outer is not None:
            graph, known = self.graph, self.outer.types
        else:
            graph, known = inferred_shapes(self.model).graph, {}
        items = [*graph.value_info, *graph.input, *graph.output]
        found = {item.name: int(item.type.tensor_type.elem_type) for item in items}
        return {**known, **found, **{name: int(tensor.data_type) for name, tensor in self._stored.items()}}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Value of a tensor that is stored in the file, or ``None``. A computed one is none, however constant."""
        if name in self._stored:
            return self._value(self._stored[name])
        node = self.maker.get(name)
        for _ in self.maker:  # each node once at most: a damaged graph may go round in a circle
            if node is None or node.op_type != "Identity" or not node.input:
                break
            if node.input[0] in self._stored:
                return self.constant(node.input[0])
            node = self.maker.get(node.input[0])
        if node is None:
            return None
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    return self._value(attribute.t)
                if attribute.name in ("value_float", "value_floats"):
                    return np.asarray(self.onnx.helper.get_attribute_value(attribute), np.float32)
        return None

    def _value(self, tensor: Any) -> NDArray[Any]:
        try:
            return np.asarray(self.onnx.numpy_helper.to_array(tensor))
        except (KeyError, TypeError, ValueError) as error:
            what = f"tensor {ascii(tensor.name)[1:-1]}"
            raise ArtifactError(f"{self.name}: its {what} is damaged ({error}); copy or export it again") from error

    def stored(self, name: str) -> tuple[int, Any]:
        """The tensor of a name as it is stored, and the `id` of the graph that holds it; 0 for one inside a node."""
        if name in self._stored:
            owner = self
            while owner.outer is not None and not any(tensor.name == name for tensor in owner.graph.initializer):
                owner = owner.outer
            return id(owner), self._stored[name]
        node = self.maker.get(name)
        if node is not None and node.op_type == "Constant":
            return 0, next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
        return 0, None

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


def inferred_shapes(model: Any) -> Any:
    """A model with all shapes and types that can be inferred; itself where inference fails."""
    onnx: Any = require("onnx", extra="tensorrt")
    try:
        return onnx.shape_inference.infer_shapes(model)
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        return model  # it is too large, or wrong in a place that concerns nobody here


def load_graph(model: str | Path | bytes) -> QuantizedGraph:
    """Read an ONNX model, with what it keeps in files beside it; its own functions are inlined.

    Raises:
        InputError: the file cannot be read.
        ArtifactError: it is not an ONNX model or is cut off, or a file with its weights is missing.
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
        if not isinstance(model, bytes) and has_external_data(data):
            missing = missing_weights(Path(model))
            if missing:
                raise ArtifactError(f"{name}: {missing}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of keys that it does not know
                onnx.load_external_data_for_model(loaded, str(Path(model).parent))
    except (decode_error, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"{name}: is not an ONNX model or is cut off; copy or export it again") from error
    if loaded.functions:
        loaded = _inlined(loaded, name)
    if not loaded.graph.node:
        raise ArtifactError(f"{name}: is not an ONNX model, or an empty one; copy or export it again")
    graph = QuantizedGraph(loaded)
    graph.name = name
    return graph


def _inlined(model: Any, name: str) -> Any:
    """A model whose calls of its own functions are replaced by their nodes."""
    onnx: Any = require("onnx", extra="tensorrt")
    inliner: Any = require("onnx.inliner", extra="tensorrt")
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ArtifactError(f"{name}: its functions cannot be inlined ({reason}); export it without them") from error
