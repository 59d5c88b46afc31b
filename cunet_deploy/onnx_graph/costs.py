"""Cost of a network for one crop, read from its ONNX file: multiplications and bytes, by their bits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cunet_deploy.manifest import METADATA_KEY
from cunet_deploy.onnx_graph.qdq import QUANTIZE, QuantizedGraph, inferred_shapes, load_graph, node_name
from cunet_deploy.onnx_graph.storage import PRODUCTS, Storage, read_storage

__all__ = ["Costs", "Product", "read_costs"]

_BITS = {  # of ONNX element types
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 25: 2, 26: 2,
}  # fmt: skip
_INTEGERS = (2, 3, 21, 22, 25, 26)
_FLOAT_BITS = 32


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product.

    Attributes:
        name: of the node.
        macs: multiplications with addition, for one crop; ``None`` where the sizes are not known, or inside If, Loop
            and Scan how often it runs.
        weight_bits: that a weight takes in the file.
        input_bits: that a value of its input takes.
        on_integers: whether both are integers of at most 8 bits.
        activation_bytes_by_bits: of its input and its output, for one crop.
    """

    name: str
    macs: int | None
    weight_bits: float
    input_bits: int
    on_integers: bool
    activation_bytes_by_bits: dict[int, int]


@dataclass(frozen=True)
class Costs:
    """A network taken apart.

    Attributes:
        products: in the order of the graph.
        weight_bytes_by_bits: bytes of the weights in the file, packed as they are.
    """

    products: tuple[Product, ...]
    weight_bytes_by_bits: dict[str, int]

    @property
    def macs(self) -> int:
        """Multiplications for one crop, as far as they are known."""
        return sum(product.macs or 0 for product in self.products)

    @property
    def integer_macs(self) -> int:
        """Multiplications of integers with integers."""
        return sum(product.macs or 0 for product in self.products if product.on_integers)

    @property
    def unknown(self) -> int:
        """Products whose size is not known."""
        return sum(product.macs is None for product in self.products)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; keys of ``macs_by_weight_x_activation_bits`` are such as ``"8x8"``."""
        macs: Counter[str] = Counter()
        moved: Counter[str] = Counter()
        for product in self.products:
            macs[f"{product.weight_bits:g}x{product.input_bits}"] += product.macs or 0
            for bits, size in product.activation_bytes_by_bits.items():
                moved[str(bits)] += size
        return {
            "macs_per_crop": self.macs,
            "integer_macs_per_crop": self.integer_macs,
            "macs_by_weight_x_activation_bits": dict(macs),
            "weight_bytes_by_bits": self.weight_bytes_by_bits,
            "activation_bytes_per_crop_by_bits": dict(moved),
            "products_of_unknown_size": self.unknown,
        }


def read_costs(model: str | Path | bytes) -> Costs:
    """Count what an ONNX file has to do.

    Activations are what convolutions and matrix products read and write; what lies between is fused with them by most
    runtimes. A weight counts with the bits that it takes in the file, though packed ones are computed as 8 bits.

    Raises:
        CunetError: as `cunet_deploy.onnx_graph.qdq.load_graph`; the onnx package is needed.
    """
    graph, storage = load_graph(model), read_storage(model)
    with graph.valid():
        return _read_costs(graph, storage)


def _read_costs(graph: QuantizedGraph, storage: Storage) -> Costs:
    by_bits: Counter[str] = Counter()
    for layer in storage.layers:
        by_bits[f"{_rounded(layer.bits):g}"] += layer.bytes
    stored = {layer.name: _rounded(layer.bits) for layer in storage.layers}
    suffix = ".x" if any(item.key == METADATA_KEY for item in graph.model.metadata_props) else ""
    sizes = _Sizes(graph)
    products = []
    for part in graph.walk():
        for node in part.nodes_of(*PRODUCTS):
            name = node_name(node).removesuffix(suffix)
            product = _product(part, sizes, node, name, stored.get(name))
            # how often a branch or a loop runs is known when it runs
            products.append(product if part is graph else replace(product, macs=None, activation_bytes_by_bits={}))
    return Costs(tuple(products), dict(by_bits))


def _rounded(bits: float) -> float:
    """Without the few bits that fill up the last byte."""
    return round(bits, 1)


class _Sizes:
    """Shapes of tensors for one crop."""

    def __init__(self, graph: QuantizedGraph) -> None:
        inferred = inferred_shapes(graph.model)
        self._found: dict[str, list[int | None]] = {}
        for item in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
            if item.type.tensor_type.HasField("shape"):
                sizes = item.type.tensor_type.shape.dim
                self._found[item.name] = [size.dim_value if size.dim_value > 0 else None for size in sizes]
        for tensor in inferred.graph.initializer:
            self._found[tensor.name] = list(tensor.dims)

    def weights(self, name: str) -> list[int] | None:
        """Every size of weights; ``None`` where one is not known."""
        return _whole(self._found.get(name))

    def of_crop(self, name: str) -> list[int] | None:
        """Sizes of an activation, the first, which counts the crops, being 1; ``None`` where another is not known."""
        sizes = self._found.get(name)
        return _whole([1, *sizes[1:]] if sizes else None)


def _whole(sizes: list[int | None] | None) -> list[int] | None:
    if sizes is None or None in sizes:
        return None
    return [size for size in sizes if size is not None]


def _product(graph: QuantizedGraph, sizes: _Sizes, node: Any, name: str, stored_bits: float | None) -> Product:
    taken, weights, made = node.input[0], node.input[1], node.output[0]
    given, kernel, result = sizes.of_crop(taken), sizes.weights(weights), sizes.of_crop(made)
    input_type, weight_type = _type(graph, taken), _type(graph, weights)
    input_bits = _BITS.get(input_type, _FLOAT_BITS)
    moved: Counter[int] = Counter()
    if given is not None:
        moved[input_bits] += math.prod(given) * input_bits // 8
    if result is not None:
        bits = _output_bits(graph, made)
        moved[bits] += math.prod(result) * bits // 8
    return Product(
        name=name,
        macs=_macs(node, given, kernel, result),
        weight_bits=stored_bits or _BITS.get(weight_type, _FLOAT_BITS),
        input_bits=input_bits,
        on_integers=input_type in _INTEGERS and weight_type in _INTEGERS,
        activation_bytes_by_bits=dict(moved),
    )


def _macs(node: Any, given: list[int] | None, kernel: list[int] | None, result: list[int] | None) -> int | None:
    """Multiplications for one crop. The second size of a kernel is already that of one group."""
    if node.op_type == "ConvTranspose":
        return None if given is None or kernel is None else math.prod(given[2:]) * math.prod(kernel)
    if node.op_type == "Conv":
        return None if result is None or kernel is None else math.prod(result[2:]) * math.prod(kernel)
    # a matrix product: each value of the result is a sum over the last size of the first factor
    return None if result is None or given is None or not given else math.prod(result) * given[-1]


def _type(graph: QuantizedGraph, name: str) -> int:
    """ONNX element type of what is stored or carried: of the integers, where a tensor is dequantized just before."""
    quantizer = graph.source(name)
    return quantizer.stored if quantizer is not None and quantizer.stored else graph.types.get(name, 0)


def _output_bits(graph: QuantizedGraph, name: str) -> int:
    """Bits of a result: of the integers, where all that read it quantize it, directly or behind an activation."""
    users = graph.users.get(name, [])
    if users and all(user.op_type in ("Relu", "Clip") for user in users):
        return max(_output_bits(graph, user.output[0]) for user in users)
    if users and all(user.op_type == QUANTIZE for user in users):
        return max(_BITS.get(graph.quantizer(user).stored, _FLOAT_BITS) for user in users)
    return _BITS.get(graph.types.get(name, 0), _FLOAT_BITS)
