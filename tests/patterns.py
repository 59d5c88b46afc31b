"""Small QDQ graphs, each with one way to quantize a convolution: right, wrong, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
