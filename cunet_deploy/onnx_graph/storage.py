"""Storage of an ONNX file: bits and bytes of each layer's weights, packed or not."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy.manifest import METADATA_KEY
from cunet_deploy.onnx_graph.external import external_files
from cunet_deploy.onnx_graph.qdq import QuantizedGraph, load_graph, node_name

__all__ = ["PRODUCTS", "Layer", "Storage", "read_storage"]

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators that multiply by weights, their second input."""

_STEPS = ("DequantizeLinear", "Reshape", "Slice", "Gather", "Cast", "Identity", "Transpose")
"""Operators that may stand between stored weights and the convolution that uses them."""


@dataclass(frozen=True)
class Layer:
    """Weights of a convolution or matrix product.

    Attributes:
        name: of the node; in files of this package that of the layer, as ``[quant.layers]`` takes it.
        bits: that a weight takes in the file.
        weights: how many.
        bytes: of the weights in the file; 0 where another layer has stored them.
    """

    name: str
    bits: float
    weights: int
    bytes: int


@dataclass(frozen=True)
class Storage:
    """A file taken apart.

    Attributes:
        layers: in the order of the graph.
        constants: bytes of all other stored tensors: biases, scales, tables.
        rest: bytes of everything else: nodes, names, the manifest.
        external: names of further files that hold weights of the model; they count.
    """

    layers: tuple[Layer, ...]
    constants: int
    rest: int
    external: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of the file, with those that hold weights of it."""
        return sum(layer.bytes for layer in self.layers) + self.constants + self.rest

    def by_bits(self) -> dict[str, int]:
        """Bytes of the weights by their bits."""
        found: dict[str, int] = {}
        for layer in self.layers:
            found[f"{layer.bits:g}"] = found.get(f"{layer.bits:g}", 0) + layer.bytes
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "bytes": self.total,
            "weight_bytes_by_bits": self.by_bits(),
            "constant_bytes": self.constants,
            "graph_bytes": self.rest,
            "external_files": list(self.external),
            "layers": [asdict(layer) for layer in self.layers],
        }


def read_storage(model: str | Path | bytes) -> Storage:
    """Take a file apart. Layers inside If, Loop and Scan count as the others do.

    Raises:
        CunetError: as `cunet_deploy.onnx_graph.qdq.load_graph`.
    """
    graph = load_graph(model)
    with graph.valid():
        return _read_storage(graph, model)


def _read_storage(graph: QuantizedGraph, model: str | Path | bytes) -> Storage:
    sizes: dict[_Key, int] = {}
    layers, seen = [], set[_Key]()
    suffix = ".x" if any(item.key == METADATA_KEY for item in graph.model.metadata_props) else ""
    for part in graph.walk():
        sizes.update({(id(part), tensor.name): _bytes(part, tensor) for tensor in part.graph.initializer})
        for node in part.nodes_of(*PRODUCTS):
            found = _weights(part, node.input[1]) if len(node.input) > 1 else None
            if found is None:
                continue
            key, size, count = found
            name = node_name(node).removesuffix(suffix)
            layers.append(Layer(name, 8 * size / max(count, 1), count, 0 if key in seen else size))
            seen.add(key)
    constants = sum(size for key, size in sizes.items() if key not in seen)
    total, external = _file_bytes(model)
    weights = sum(layer.bytes for layer in layers)
    return Storage(tuple(layers), constants, max(total - weights - constants, 0), external)


_Key = tuple[int, str]
"""A graph and the name of a tensor that is stored in it."""


def _file_bytes(model: str | Path | bytes) -> tuple[int, tuple[str, ...]]:
    """Bytes of a model with the files that hold weights of it, and their names."""
    if isinstance(model, bytes):
        return len(model), ()
    path = Path(model)
    names = tuple(external_files(path))
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in names), names


def _bytes(graph: QuantizedGraph, tensor: Any) -> int:
    """Bytes of a stored tensor; 4-bit types have two values in one, which numpy does not."""
    value = graph.constant(tensor.name)
    return len(tensor.raw_data) or (0 if value is None else value.nbytes)


def _weights(graph: QuantizedGraph, name: str) -> tuple[_Key, int, int] | None:
    """Find where weights are stored, their bytes there, and how many come out; ``None``: they are computed."""
    count, current = 0, name
    for _ in range(len(graph.maker) + 1):  # each node once at most, also where a damaged graph goes round in a circle
        place, tensor = graph.stored(current)
        if tensor is not None:
            size = _bytes(graph, tensor) if place else len(tensor.raw_data)
            value = graph.constant(current)
            whole = 0 if value is None else int(value.size)
            return (place, current if place else _digest(tensor)), size, count or whole
        node = graph.maker.get(current)
        if node is None or node.op_type not in _STEPS or not node.input:
            return None
        if node.op_type == "Reshape" and not count and len(node.input) > 1:
            shape = graph.constant(node.input[1])
            if shape is not None and (shape > 0).all():
                count = int(np.prod(shape))
        current = node.input[1] if node.op_type == "Gather" and len(node.input) > 1 else node.input[0]
    return None


def _digest(tensor: Any) -> str:
    """Identify a tensor in a node: a function that is called twice holds it once."""
    return hashlib.sha256(tensor.SerializeToString(deterministic=True)).hexdigest()
