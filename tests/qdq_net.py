"""Builds small QDQ graphs node by node, and collects them by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

INT8, UINT8, INT16, INT32 = np.int8, np.uint8, np.int16, np.int32
MICROSOFT = "com.microsoft"


@dataclass
class Net:
    """Appends nodes to a graph with the input ``x`` (batch, channels, size, size)."""

    opset: int = 19
    dtype: Any = np.float32
    channels: int = 16
    size: int = 16
    batch: int | str = 1
    domain: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    input_type: Any = None

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(0)

    def const(self, values: Any, dtype: Any = None) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def raw(self, name: str, onnx_type: int, shape: tuple[int, ...], values: list[float]) -> str:
        self.initializers.append(helper.make_tensor(name, onnx_type, shape, values))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def scale(self, value: Any = 0.02) -> str:
        return self.const(value, self.dtype)

    def pair(
        self, x: str, scale: Any = 0.02, zero: Any = 0, integer: Any = INT8, dq_scale: Any = None, **attributes: Any
    ) -> str:
        """QuantizeLinear and DequantizeLinear; ``zero`` ``None`` leaves the zero point out."""
        s = scale if isinstance(scale, str) else self.scale(scale)
        rest = [] if zero is None else [zero if isinstance(zero, str) else self.const(zero, integer)]
        q = self.op("QuantizeLinear", x, s, *rest, domain=self.domain, **attributes)
        s = s if dq_scale is None else self.scale(dq_scale)
        return self.op("DequantizeLinear", q, s, *rest, domain=self.domain, **attributes)

    def weights(
        self,
        out: int,
        into: int,
        kernel: int = 3,
        *,
        form: str = "stored",
        axis: int | None = 0,
        integer: Any = INT8,
        zero: Any = 0,
        value: float = 0.01,
        dims: int = 2,
    ) -> str:
        """Weights: "stored" integers, a "pair" on floats, or "float"; ``axis`` ``None`` is per tensor."""
        shape = (out, into, *[kernel] * dims)
        if form == "float":
            return self.const(self.random.normal(0, 0.1, shape), self.dtype)
        count = () if axis is None else (shape[axis],)
        s = self.scale(np.full(count, value))
        z = [] if zero is None else [self.const(np.full(count, zero), integer)]
        attributes = {} if axis is None else {"axis": axis}
        if form == "pair":
            x = self.const(self.random.normal(0, 0.1, shape), self.dtype)
            x = self.op("QuantizeLinear", x, s, *z, domain=self.domain, **attributes)
        else:
            x = self.const(self.random.integers(1, 100, shape), integer)
        return self.op("DequantizeLinear", x, s, *z, domain=self.domain, **attributes)

    def conv(self, x: str, w: str, bias: str = "", *, kernel: int = 3, kind: str = "Conv", **attributes: Any) -> str:
        attributes = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, **attributes}
        return self.op(kind, x, w, *([bias] if bias else []), **attributes)

    def good(self, x: str, out: int | None = None, into: int | None = None) -> str:
        """A convolution as it should be."""
        channels = self.channels
        return self.conv(self.pair(x), self.weights(out or channels, into or channels))

    def model(self, *outputs: str) -> bytes:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.input_type or self.dtype))
        out = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        image = helper.make_tensor_value_info("x", kind, [self.batch, self.channels, self.size, self.size])
        graph = helper.make_graph(
            self.nodes,
            "pattern",
            [image],
            [helper.make_tensor_value_info(name, out, None) for name in outputs],
            self.initializers,
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 19 else 9)
        return bytes(model.SerializeToString(deterministic=True))


Pattern = Callable[[], bytes]
PATTERNS: dict[str, Pattern] = {}


def pattern(name: str) -> Callable[[Pattern], Pattern]:
    def register(function: Pattern) -> Pattern:
        PATTERNS[name] = function
        return function

    return register


def chain(net: Net, length: int = 2) -> bytes:
    x = "x"
    for _ in range(length):
        x = net.op("Relu", net.good(x))
    return net.model(x)


def one(net: Net, x: str, w: str, bias: str = "", **attributes: Any) -> bytes:
    return net.model(net.op("Relu", net.conv(x, w, bias, **attributes)))
