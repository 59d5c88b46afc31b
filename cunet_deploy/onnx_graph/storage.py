"""What takes the bytes of an ONNX file: bits and bytes of each layer's weights, packed or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy.manifest import METADATA_KEY
from cunet_deploy.onnx_graph.qdq import QuantizedGraph, load_graph, node_name

__all__ = ["Layer", "Storage", "read_storage"]

_STEPS = ("DequantizeLinear", "Reshape", "Slice", "Gather", "Cast", "Identity", "Transpose")
"""What may stand between stored weights and the convolution that uses them."""


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
    """

    layers: tuple[Layer, ...]
    constants: int
    rest: int

    @property
    def total(self) -> int:
        """Bytes of the file."""
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
            "layers": [asdict(layer) for layer in self.layers],
        }


def read_storage(model: str | Path | bytes) -> Storage:
    """Take a file apart.

    Raises:
        CunetError: as `cunet_deploy.onnx_graph.qdq.load_graph`.
    """
    graph = load_graph(model)
    sizes = {tensor.name: _bytes(graph, tensor) for tensor in graph.model.graph.initializer}
    layers, seen = [], set[str]()
    suffix = ".x" if any(item.key == METADATA_KEY for item in graph.model.metadata_props) else ""
    for node in graph.nodes_of("Conv", "ConvTranspose", "MatMul", "Gemm"):
        stored, count = _weights(graph, node.input[1])
        if stored is None:
            continue
        size = sizes[stored]
        name = node_name(node).removesuffix(suffix)
        layers.append(Layer(name, 8 * size / max(count, 1), count, 0 if stored in seen else size))
        seen.add(stored)
    constants = sum(size for name, size in sizes.items() if name not in seen)
    total = len(model) if isinstance(model, bytes) else Path(model).stat().st_size
    weights = sum(layer.bytes for layer in layers)
    return Storage(tuple(layers), constants, max(total - weights - constants, 0))


def _bytes(graph: QuantizedGraph, tensor: Any) -> int:
    """Bytes of a stored tensor; 4-bit types have two values in one, which numpy does not."""
    value = graph.constant(tensor.name)
    return len(tensor.raw_data) or (0 if value is None else value.nbytes)


def _weights(graph: QuantizedGraph, name: str) -> tuple[str | None, int]:
    """The stored tensor that a weight comes from, and how many weights come out; ``None``: it is computed."""
    count, current = 0, name
    while True:
        value = graph.constant(current)
        if value is not None and current not in graph.maker:
            return current, count or int(value.size)
        node = graph.maker.get(current)
        if node is None or node.op_type not in _STEPS:
            return None, 0
        if node.op_type == "Reshape" and not count:
            shape = graph.constant(node.input[1])
            if shape is not None and (shape > 0).all():
                count = int(np.prod(shape))
        current = node.input[1] if node.op_type == "Gather" else node.input[0]
