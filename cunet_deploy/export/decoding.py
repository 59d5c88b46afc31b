"""`cunet_deploy.heatmaps.decode` as nodes of the graph, for programs that want landmarks and no heatmaps.

A device whose program is not Python then needs no decoder of its own, and a GPU sends 136 numbers for a face instead of
the maps. The arithmetic is that of `decode`, in float32.
"""

from __future__ import annotations

import pkgutil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import TensorProto, helper

from cunet_deploy.errors import InputError
from cunet_deploy.export.onnx_builder import LANDMARKS, OUTPUT, SCORES, OnnxBuilder
from cunet_deploy.heatmaps import DECODERS
from cunet_deploy.manifest import Manifest

__all__ = ["NodeWriter", "add_decoder", "log_parabola"]


def add_decoder(builder: OnnxBuilder, manifest: Manifest) -> None:
    """Add what finds landmarks in the heatmaps, and its outputs.

    ``landmarks`` (batch, K, 2) float32 are pixels of the network's input, x then y, ``scores`` (batch, K) float32.

    Raises:
        InputError: the model's way of decoding has no nodes.
    """
    method, count = manifest.decoder.method, len(manifest.skeleton)
    nodes = DECODERS[method].nodes
    if not nodes:
        raise InputError(f"landmarks of the method {method!r} cannot be found in the graph; export without the decoder")
    write = NodeWriter(builder)
    found, top = pkgutil.resolve_name(nodes)(write, manifest)
    stride, half = write.value(manifest.stride), write.value(0.5)
    write("Sub", write("Mul", write("Add", found, half), stride), half, name=LANDMARKS)
    write("Clip", top, write.value(0), write.value(1), name=SCORES)
    for name, shape in ((LANDMARKS, [count, 2]), (SCORES, [count])):
        builder.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]))


def log_parabola(write: NodeWriter, manifest: Manifest) -> tuple[str, str]:
    """The nodes of that method of `cunet_deploy.heatmaps`.

    Returns:
        The tensors of landmarks in map coordinates, (batch, K, 2), and of the highest values, (batch, K).
    """
    cells, radius, count = manifest.map_size, manifest.decoder.radius, len(manifest.skeleton)
    side = 2 * radius + 1
    flat = write("Reshape", OUTPUT, write.ints([0, count, cells * cells]))
    maps = flat
    if manifest.decoder.blur:
        kernel = write.value(manifest.decoder.kernel(cells))
        blurred = write("MatMul", kernel, write("MatMul", write("Relu", OUTPUT), kernel))
        flat = write("Reshape", blurred, write.ints([0, count, cells * cells]))
    highest = write("ArgMax", flat, axis=2, keepdims=0)  # (B, K); the first of equals, as in numpy
    row, column = write("Div", highest, write.ints(cells)), write("Mod", highest, write.ints(cells))
    low, high = write.ints(radius), write.ints(cells - 1 - radius)
    y, x = (write("Min", write("Max", at, low), high) for at in (row, column))

    reach = np.arange(-radius, radius + 1)
    offsets = write.ints((reach[:, None] * cells + reach).ravel())
    middle = write("Add", write("Mul", y, write.ints(cells)), x)
    where = write("Add", write("Unsqueeze", middle, write.ints([2])), offsets)
    values = write("GatherElements", flat, where, axis=2)  # (B, K, side * side)
    top = write("ReduceMax", values if maps == flat else maps, axes=[2], keepdims=0)
    window = write("Reshape", write("Relu", values), write.ints([0, count, side, side]))
    profiles = write.pair(*(write("ReduceSum", window, write.ints([axis]), keepdims=0) for axis in (2, 3)), axis=2)

    peak = write.pair(column, row, axis=2)  # (B, K, 2), as all that follows
    start = write("Sub", write.pair(x, y, axis=2), low)
    middle = write("Min", write("Max", write("Sub", peak, start), write.ints(1)), write.ints(2 * radius - 1))
    found = write("Add", write.floats(write("Add", start, middle)), _top(write, profiles, middle))
    reached, half = write.floats(peak), write.value(0.5)
    found = write("Min", write("Max", found, write("Sub", reached, half)), write("Add", reached, half))
    empty = write("Unsqueeze", write("LessOrEqual", top, write.value(0)), write.ints([2]))
    return write("Where", empty, write.value((cells - 1) / 2), found), top


def _top(write: NodeWriter, profiles: str, middle: str) -> str:
    """Top of the parabola through the logarithms of three neighbours; see `heatmaps._top_of_log_parabola`."""
    where = write("Add", write("Unsqueeze", middle, write.ints([3])), write.ints([-1, 0, 1]))
    values = write("GatherElements", profiles, where, axis=3)  # (B, K, 2, 3)
    floor = write("Mul", write("ReduceMax", values, axes=[3], keepdims=1), write.value(0.01))
    logs = write("Log", write("Max", values, write("Max", floor, write.value(1e-12))))
    left, top, right = (write("Gather", logs, write.ints(i), axis=3) for i in range(3))
    curvature = write("Sub", write("Sub", write("Mul", top, write.value(2)), left), right)
    peaked = write("Greater", curvature, write.value(1e-6))
    safe = write("Where", peaked, curvature, write.value(1))
    shift = write("Div", write("Sub", right, left), write("Mul", safe, write.value(2)))
    flat = write("Sub", write.floats(write("ArgMax", values, axis=3, keepdims=0)), write.value(1))
    return write("Where", peaked, shift, flat)


class NodeWriter:
    """Adds nodes under running names: ``write(OPERATOR, INPUT, ..., ATTRIBUTE=VALUE)`` returns the tensor made."""

    def __init__(self, builder: OnnxBuilder) -> None:
        self._builder, self._count = builder, 0

    def __call__(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node."""
        self._count += 1
        return self._builder.node(op, list(inputs), name or f"decode.{self._count}", **attributes)

    def ints(self, values: Any) -> str:
        """A constant of int64."""
        return self._builder.constant(np.array(values, np.int64))

    def value(self, number: ArrayLike) -> str:
        """A constant of float32."""
        return self._builder.constant(np.array(number, np.float32))

    def floats(self, x: str) -> str:
        """A tensor as float32."""
        self._count += 1
        return self._builder.node("Cast", [x], f"decode.{self._count}", to=TensorProto.FLOAT)

    def pair(self, a: str, b: str, *, axis: int) -> str:
        """Two tensors as one with a further axis."""
        at = self.ints([axis])
        return self("Concat", self("Unsqueeze", a, at), self("Unsqueeze", b, at), axis=axis)
