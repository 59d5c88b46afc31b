"""Small QDQ graphs, each with one way to quantize a convolution: right, wrong, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper
from patterns_of_graphs import PATTERNS
from qdq_net import INT8, INT16, INT32, MICROSOFT, UINT8, Net, chain, one, pattern

__all__ = ["PATTERNS"]


def plain_form(**changes: Any) -> bytes:
    """One convolution with changed activations: arguments of `Net.pair`."""
    net = Net()
    return one(net, net.pair("x", **changes), net.weights(16, 16))


def weight_form(**changes: Any) -> bytes:
    """One convolution with changed weights: arguments of `Net.weights`."""
    net = Net()
    return one(net, net.pair("x"), net.weights(16, 16, **changes))


for _opset in (13, 17, 19, 21, 23):
    PATTERNS[f"float32 carriers, operator set {_opset}"] = lambda opset=_opset: chain(Net(opset))  # type: ignore[misc]
for _opset in (17, 19, 21):
    PATTERNS[f"float16 carriers, operator set {_opset}"] = (
        lambda opset=_opset: chain(Net(opset, np.float16))  # type: ignore[misc]
    )
PATTERNS |= {
    "Q and DQ of com.microsoft": lambda: chain(Net(domain=MICROSOFT)),
    "free batch": lambda: chain(Net(batch="batch")),
    "batch of 4": lambda: chain(Net(batch=4)),
    "weights per tensor": lambda: weight_form(axis=None),
    "weights as a pair on floats": lambda: weight_form(form="pair"),
    "weights as a pair on floats, per tensor": lambda: weight_form(form="pair", axis=None),
    "weights without zero point": lambda: weight_form(zero=None),
    "weights along axis 1": lambda: weight_form(axis=1),
    "weights as a pair along axis 1": lambda: weight_form(form="pair", axis=1),
    "weights along axis -4": lambda: weight_form(axis=-4),
    "weights in float": lambda: weight_form(form="float"),
    "weights in uint8 around 128": lambda: weight_form(integer=UINT8, zero=128),
    "weights in uint8 from 0": lambda: weight_form(integer=UINT8),
    "weights with a zero point": lambda: weight_form(zero=3),
    "weights with scale zero": lambda: weight_form(value=0.0),
    "activation scale per channel": lambda: plain_form(scale=np.full(16, 0.02), zero=np.zeros(16), axis=1),
    "activation scale with an axis of length 1": lambda: plain_form(scale=[0.02], zero=[0]),
    "activation in uint8 from 0": lambda: plain_form(integer=UINT8),
    "activation in uint8 around 128": lambda: plain_form(integer=UINT8, zero=128),
    "activation with a zero point": lambda: plain_form(zero=3),
    "activation without zero point": lambda: plain_form(zero=None),
    "activation in int16": lambda: chain_of_type(INT16),
    "activation scale zero": lambda: plain_form(scale=0.0),
    "activation scale negative": lambda: plain_form(scale=-0.02),
    "activation scale infinite": lambda: plain_form(scale=np.inf),
    "activation scale not a number": lambda: plain_form(scale=np.nan),
    "pair of two scales": lambda: plain_form(dq_scale=0.03),
}


def chain_of_type(integer: Any) -> bytes:
    net = Net(opset=21)
    return one(net, net.pair("x", integer=integer), net.weights(16, 16))


@pattern("no quantization")
def _() -> bytes:
    net = Net()
    return one(net, "x", net.weights(16, 16, form="float"))


@pattern("weights only")
def _() -> bytes:
    net = Net()
    return one(net, "x", net.weights(16, 16))


@pattern("bias in float")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x"), net.weights(16, 16), net.const(np.ones(16), np.float32))


@pattern("bias dequantized from int32")
def _() -> bytes:
    net = Net()
    bias = net.op("DequantizeLinear", net.const(np.ones(16), INT32), net.scale(np.full(16, 1e-4)), axis=0)
    return one(net, net.pair("x"), net.weights(16, 16), bias)


@pattern("one output channel")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x"), net.weights(1, 16))


@pattern("odd channels")
def _() -> bytes:
    net = Net(channels=5)
    return one(net, net.pair("x"), net.weights(7, 5))


@pattern("7x7, stride 2, three channels")
def _() -> bytes:
    net = Net(channels=3)
    return one(net, net.pair("x"), net.weights(16, 3, 7), kernel=7, strides=[2, 2])


@pattern("1x1")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x"), net.weights(16, 16, 1), kernel=1)


@pattern("3x3 dilated")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x"), net.weights(16, 16), dilations=[2, 2], pads=[2] * 4)


@pattern("two groups")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x"), net.weights(16, 8), group=2)


@pattern("depthwise")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x"), net.weights(16, 1), group=16)


@pattern("uint8 input, cast")
def _() -> bytes:
    net = Net(input_type=UINT8)
    return one(net, net.pair(net.op("Cast", "x", to=TensorProto.FLOAT)), net.weights(16, 16))


@pattern("uint8 input, transposed")
def _() -> bytes:
    net = Net(input_type=UINT8)
    x = net.op("Cast", net.op("Transpose", "x", perm=[0, 1, 3, 2]), to=TensorProto.FLOAT)
    return one(net, net.pair(x), net.weights(16, 16))


@pattern("uint8 input, reshaped")
def _() -> bytes:
    net = Net(input_type=UINT8)
    x = net.op("Cast", net.op("Reshape", "x", net.const([0, 0, -1, 16], np.int64)), to=TensorProto.FLOAT)
    return one(net, net.pair(x), net.weights(16, 16))


@pattern("int8 input with DQ only")
def _() -> bytes:
    net = Net(input_type=INT8)
    x = net.op("DequantizeLinear", "x", net.scale(), net.const(0, INT8))
    return one(net, x, net.weights(16, 16))


@pattern("zero point computed by Identity")
def _() -> bytes:
    net = Net()
    zero = net.op("Identity", net.const(0, INT8))
    return one(net, net.pair("x", zero=zero), net.weights(16, 16))


@pattern("zero point computed by Cast")
def _() -> bytes:
    net = Net()
    zero = net.op("Cast", net.const(0.0, np.float32), to=TensorProto.INT8)
    return one(net, net.pair("x", zero=zero), net.weights(16, 16))


@pattern("scale in a Constant node")
def _() -> bytes:
    net = Net()
    scale = net.op("Constant", value=numpy_helper.from_array(np.array(0.02, np.float32)))
    return one(net, net.pair("x", scale=scale), net.weights(16, 16))


@pattern("scale behind Identity")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x", scale=net.op("Identity", net.scale())), net.weights(16, 16))


@pattern("scale computed from constants")
def _() -> bytes:
    net = Net()
    return one(net, net.pair("x", scale=net.op("Mul", net.scale(0.1), net.scale(0.2))), net.weights(16, 16))


@pattern("scale computed from the input")
def _() -> bytes:
    net = Net()
    peak = net.op("ReduceMax", net.op("Abs", "x"), keepdims=0)
    return one(net, net.pair("x", scale=net.op("Div", peak, net.scale(127.0))), net.weights(16, 16))


@pattern("scale without digits in float16")
def _() -> bytes:
    net = Net(dtype=np.float16)
    return one(net, net.pair("x", scale=1e-6), net.weights(16, 16))


@pattern("weights computed from the input")
def _() -> bytes:
    net = Net(size=3)
    return one(net, net.pair("x"), net.pair("x", scale=0.01))


@pattern("type of Q by output_dtype")
def _() -> bytes:
    net = Net(opset=21)
    s = net.scale()
    q = net.op("QuantizeLinear", "x", s, output_dtype=TensorProto.INT8)
    return one(net, net.op("DequantizeLinear", q, s), net.weights(16, 16))


@pattern("FP8 E4M3")
def _() -> bytes:
    return _float8(TensorProto.FLOAT8E4M3FN)


@pattern("FP8 E5M2")
def _() -> bytes:
    return _float8(TensorProto.FLOAT8E5M2)


def _float8(kind: int) -> bytes:
    net = Net()
    zero, s = net.raw("zx", kind, (), [0.0]), net.scale()
    w = net.const(net.random.normal(0, 0.1, (16, 16, 3, 3)), np.float32)
    q = net.op("DequantizeLinear", net.op("QuantizeLinear", w, s, zero), s, zero)
    return one(net, net.pair("x", zero=zero), q)


@pattern("weights in int4")
def _() -> bytes:
    net = Net(opset=21)
    stored = net.raw("w4", TensorProto.INT4, (16, 16, 3, 3), [1] * (16 * 16 * 9))
    return one(net, net.pair("x"), net.op("DequantizeLinear", stored, net.scale(np.full(16, 0.1)), axis=0))
