"""QDQ graphs with something between, beside or behind their convolutions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from qdq_net import INT8, PATTERNS, Net, one, pattern

__all__ = ["PATTERNS"]

BETWEEN: dict[str, Callable[[Net, str], str]] = {
    "MaxPool": lambda net, x: net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]),
    "AveragePool": lambda net, x: net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]),
    "Resize nearest": lambda net, x: _resize(net, x, "nearest"),
    "Resize linear": lambda net, x: _resize(net, x, "linear"),
    "Relu": lambda net, x: net.op("Relu", x),
    "Sigmoid": lambda net, x: net.op("Sigmoid", x),
    "Transpose": lambda net, x: net.op("Transpose", x, perm=[0, 1, 3, 2]),
    "Slice": lambda net, x: net.op(
        "Slice", x, net.const([0], np.int64), net.const([8], np.int64), net.const([2], np.int64)
    ),
    "Add of a constant": lambda net, x: net.op("Add", x, net.const(np.ones((1, 16, 1, 1)), net.dtype)),
    "Identity": lambda net, x: net.op("Identity", x),
    "Reshape": lambda net, x: net.op("Reshape", x, net.const([0, 0, -1, 4], np.int64)),
    "Pad": lambda net, x: net.op("Pad", x, net.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64)),
    "Clip": lambda net, x: net.op("Clip", x, net.const(0, net.dtype), net.const(6, net.dtype)),
    "Global mean": lambda net, x: net.op("ReduceMean", x, net.const([2, 3], np.int64), keepdims=1),
    "Split": lambda net, x: _split(net, x),
}


def _split(net: Net, x: str) -> str:
    name = f"Split{len(net.nodes)}"
    net.nodes.append(helper.make_node("Split", [x], [name, f"{name}.rest"], name=name, axis=2, num_outputs=2))
    return name


def _resize(net: Net, x: str, mode: str) -> str:
    factors = net.const([1, 1, 2, 2], np.float32)
    return net.op(
        "Resize", x, "", factors, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def _between(name: str, *, requantize: bool) -> bytes:
    """Convolution, ReLU, pair, operator, and the pair again or not, convolution."""
    net = Net()
    x = BETWEEN[name](net, net.pair(net.op("Relu", net.good("x"))))
    x = net.pair(x) if requantize else x
    return one(net, x, net.weights(16, 16))


for _name in BETWEEN:
    PATTERNS[f"{_name} between two pairs"] = lambda name=_name: _between(name, requantize=True)  # type: ignore[misc]
    PATTERNS[f"{_name} behind the pair"] = lambda name=_name: _between(name, requantize=False)  # type: ignore[misc]


def _concat(
    scales: tuple[float | None, float | None], *, requantize: bool, middle: str = "", dtype: Any = np.float32
) -> bytes:
    net = Net(dtype=dtype)
    parts = []
    for index, scale in enumerate(scales):
        x = net.op("Relu", net.good("x"))
        x = x if scale is None else net.pair(x, scale)
        parts.append(BETWEEN[middle](net, x) if middle and (index == 0 or middle in ("MaxPool",)) else x)
    if middle and middle != "MaxPool":
        parts[1] = _resize(net, parts[1], "nearest") if "Resize" in middle else BETWEEN[middle](net, parts[1])
    x = net.op("Concat", *parts, axis=1)
    x = net.pair(x) if requantize else x
    return one(net, x, net.weights(16, 32))


PATTERNS |= {
    "Concat of floats, quantized": lambda: _concat((None, None), requantize=True),
    "Concat of equal scales between pairs": lambda: _concat((0.02, 0.02), requantize=True),
    "Concat of equal scales behind pairs": lambda: _concat((0.02, 0.02), requantize=False),
    "Concat of equal scales behind pairs, float16": lambda: _concat((0.02, 0.02), requantize=False, dtype=np.float16),
    "Concat of different scales between pairs": lambda: _concat((0.02, 0.03), requantize=True),
    "Concat of different scales behind pairs": lambda: _concat((0.02, 0.03), requantize=False),
    "Concat quantized in part, behind": lambda: _concat((0.02, None), requantize=False),
    "Concat quantized in part, quantized": lambda: _concat((0.02, None), requantize=True),
    "MaxPool and Concat of equal scales behind pairs": lambda: _concat(
        (0.02, 0.02), requantize=False, middle="MaxPool"
    ),
    "Resize and Concat of equal scales behind pairs": lambda: _concat(
        (0.02, 0.02), requantize=False, middle="Resize nearest"
    ),
}


@pattern("pair between convolution and ReLU")
def _() -> bytes:
    net = Net()
    x = net.op("Relu", net.pair(net.good("x"), scale=0.05))
    return net.model(net.good(x))


@pattern("output quantized")
def _() -> bytes:
    net = Net()
    return net.model(net.pair(net.op("Relu", net.good("x"))))


@pattern("BN and ReLU before the pair")
def _() -> bytes:
    net = Net()
    x = net.good("x")
    params = [net.const(values, np.float32) for values in (np.ones(16) * 2, np.ones(16), np.zeros(16), np.ones(16))]
    return net.model(net.good(net.op("Relu", net.op("BatchNormalization", x, *params))))


@pattern("BN between convolution and ReLU")
def _() -> bytes:
    net = Net()
    params = [net.const(values, np.float32) for values in (np.ones(16) * 2, np.ones(16), np.zeros(16), np.ones(16))]
    x = net.op("Relu", net.op("BatchNormalization", net.good("x"), *params))
    return net.model(net.good(x))


@pattern("two convolutions of one pair")
def _() -> bytes:
    net = Net()
    x = net.pair("x")
    return net.model(*(net.conv(x, net.weights(16, 16)) for _ in range(2)))


@pattern("residual in float")
def _() -> bytes:
    net = Net()
    x = net.op("Relu", net.good("x"))
    return net.model(net.op("Relu", net.op("Add", net.good(x), x)))


@pattern("residual quantized")
def _() -> bytes:
    net = Net()
    x = net.pair(net.op("Relu", net.good("x")))
    y = net.conv(x, net.weights(16, 16))
    return net.model(net.op("Relu", net.op("Add", y, x)))


@pattern("ConvTranspose along axis 1")
def _() -> bytes:
    return _transposed(1)


@pattern("ConvTranspose along axis 0")
def _() -> bytes:
    return _transposed(0)


def _transposed(axis: int) -> bytes:
    net = Net()
    x = net.op("Relu", net.good("x"))
    y = net.conv(net.pair(x), net.weights(16, 16, 2, axis=axis), kernel=2, kind="ConvTranspose", pads=[0] * 4)
    return net.model(y)


@pattern("QLinearConv")
def _() -> bytes:
    net = Net()
    s, z = net.scale(), net.const(0, INT8)
    q = net.op("QuantizeLinear", "x", s, z)
    w = net.const(net.random.integers(-9, 9, (16, 16, 3, 3)), INT8)
    y = net.op("QLinearConv", q, s, z, w, s, z, s, z, kernel_shape=[3, 3], pads=[1] * 4)
    return net.model(net.op("DequantizeLinear", y, s, z))


@pattern("ConvInteger")
def _() -> bytes:
    net = Net()
    q = net.op("QuantizeLinear", "x", net.scale(), net.const(0, INT8))
    y = net.op("ConvInteger", q, net.const(net.random.integers(-9, 9, (16, 16, 3, 3)), INT8), kernel_shape=[3, 3])
    return net.model(net.op("Cast", y, to=TensorProto.FLOAT))
