"""Finds in a QDQ model what TensorRT rejects, what silently changes its numbers and what silently runs in float.

It needs no TensorRT. Errors: a parser rejects the model, crashes, or computes something else than the file says.

    Q001  an operator on integers (QLinearConv, ...)      Q007  zero point that is not 0
    Q002  scale that is not stored in the file            Q008  DequantizeLinear of int32 (a bias)
    Q003  scale that is not positive and finite           Q009  other type than int8, or blocks
    Q005  zero point that is not stored in the file       Q010  QuantizeLinear without zero point: it means uint8
    Q006  uint8                                           Q011  the two of a pair differ in scale
    Q013  uint8 image in another operator than Cast       Q012  float16 scale before operator set 19

Warnings: it builds, but is slower or less accurate than it could be.

    Q004  scale below the normal numbers of float16       P005  residual input that is not quantized
    P001  convolution that does not run in int8           P006  float32 between int8 convolutions
    P002  quantized between convolution and activation    P007  channels that fill no whole vector
    P003  concatenation quantized in part                 P008  ConvTranspose: in float on TensorRT for RTX
    P004  concatenation of different scales
    P009  convolutions inside If, Loop or Scan: they are not checked

For a target (`cunet_deploy.tensorrt.targets`): T004 FP8 before SM89 and T005 a GPU that this flavour cannot build for
are errors; T001 SM75, T002 free shapes, T003 Q/DQ and T006 other operators on the DLA are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy.onnx_graph.qdq import COMMUTING, QuantizedGraph, Quantizer, load_graph, node_name
from cunet_deploy.tensorrt.targets import Target, parse_target, target_findings

__all__ = ["Finding", "ModelReport", "check_graph", "check_model"]

UINT8, INT8, INT32, FLOAT16, FLOAT32, FLOAT8_E4M3 = 2, 3, 6, 10, 1, 17
SMALLEST_NORMAL = 2.0**-14
_TARGET_ERRORS = frozenset({"T004", "T005"})
_INTEGER_OPERATORS = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})
_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "PRelu", "Tanh"})


@dataclass(frozen=True)
class Finding:
    """Something to change.

    Attributes:
        code: as listed at the top of this module.
        node: where; empty for the whole model.
        message: what is wrong and what to do.
    """

    code: str
    node: str
    message: str

    @property
    def is_error(self) -> bool:
        """Return whether the model is rejected or changes its numbers."""
        return self.code in _TARGET_ERRORS or (self.code.startswith("Q") and self.code != "Q004")

    def __str__(self) -> str:
        return f"{self.code} {self.node}: {self.message}" if self.node else f"{self.code} {self.message}"


@dataclass(frozen=True, eq=False)
class ModelReport:
    """Findings in a model.

    Attributes:
        convolutions: names of the Conv nodes.
        not_int8: reason of each convolution that will not run in int8.
        findings: in the order of the graph.
        quantizers: number of QuantizeLinear and DequantizeLinear nodes.
        carrier: type between the convolutions: "fp32", "fp16" or "other".
        opset: of the standard operators.
        inputs: shape of each input, ``None`` where a size is free.
        metadata: of the file.
        target: name of the target that was checked for, or ``None``.
    """

    convolutions: tuple[str, ...]
    not_int8: dict[str, str]
    findings: tuple[Finding, ...]
    quantizers: int
    carrier: str
    opset: int
    inputs: dict[str, list[int | None]]
    metadata: dict[str, str] = field(repr=False)
    target: str | None = None

    @property
    def int8(self) -> int:
        """Number of convolutions that will run in int8."""
        return len(self.convolutions) - len(self.not_int8)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings for which the model is rejected or changes its numbers."""
        return tuple(finding for finding in self.findings if finding.is_error)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The other findings."""
        return tuple(finding for finding in self.findings if not finding.is_error)

    @property
    def precision(self) -> str:
        """Precision in the engine's name: "int8", else the carrier."""
        return "int8" if self.int8 else self.carrier

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        return {
            "convolutions": len(self.convolutions),
            "int8_convolutions": self.int8,
            "quantize_and_dequantize_nodes": self.quantizers,
            "carrier": self.carrier,
            "opset": self.opset,
            "target": self.target,
            "errors": [asdict(finding) for finding in self.errors],
            "warnings": [asdict(finding) for finding in self.warnings],
        }


def check_model(model: str | Path | bytes, *, target: str | None = None, flavour: str = "") -> ModelReport:
    """Check an ONNX file for TensorRT.

    Args:
        model: path or content.
        target: "sm75" to "sm120" or "dla"; ``None`` leaves out what depends on the chip.
        flavour: "tensorrt", "tensorrt_rtx", or empty: what holds for both.

    Raises:
        InputError: the file cannot be read, or an unknown target.
        ArtifactError: it is not an ONNX model.
    """
    wanted = None if target is None else parse_target(target, flavour)
    graph = load_graph(model)
    with graph.valid():
        return check_graph(graph, wanted)


def check_graph(graph: QuantizedGraph, target: Target | None = None) -> ModelReport:
    """Check a graph; see `check_model`."""
    quantizers = [graph.quantizer(node) for node in graph.nodes_of("QuantizeLinear", "DequantizeLinear")]
    findings = [finding for node in graph.nodes for finding in _integer_operator(node)]
    findings += [finding for node in graph.nodes for finding in _uint8_input(graph, node)]
    for quantizer in quantizers:
        findings += [Finding(code, quantizer.name, text) for code, text in _quantizer_problems(graph, quantizer)]
    convolutions = list(graph.nodes_of("Conv"))
    reasons = {node_name(node): reason for node in convolutions if (reason := _why_not_int8(graph, node))}
    if target is not None and target.name == "sm75" and target.flavour == "tensorrt_rtx":
        reasons = {node_name(node): "TensorRT for RTX has no int8 convolutions on SM75" for node in convolutions}
    carrier = _carrier(graph, convolutions)
    if quantizers:
        findings += [Finding("P001", name, f"does not run in int8: {reason}") for name, reason in reasons.items()]
        findings += [finding for node in convolutions for finding in _after_convolution(graph, node)]
        findings += [finding for node in graph.nodes_of("Concat") for finding in _concatenation(graph, node)]
        findings += [finding for node in graph.nodes_of("Add") for finding in _residual(graph, node)]
        findings += _of_the_whole(graph, convolutions, reasons, carrier)
    findings += [finding for node in graph.nodes for finding in _not_checked(graph, node)]
    if target is not None:
        findings += [Finding(*finding) for finding in target_findings(graph, target)]
    return ModelReport(
        convolutions=tuple(node_name(node) for node in convolutions),
        not_int8=reasons,
        findings=tuple(findings),
        quantizers=len(quantizers),
        carrier=carrier,
        opset=graph.opset,
        inputs=graph.inputs,
        metadata={item.key: item.value for item in graph.model.metadata_props},
        target=None if target is None else target.name,
    )


def _not_checked(graph: QuantizedGraph, node: Any) -> Iterator[Finding]:
    """Graphs inside a node: what runs in them, and how often, is known when they run."""
    inside = [part for body in graph.bodies if body.inside is node for part in body.walk()]
    count = sum(1 for part in inside for _ in part.nodes_of("Conv", "ConvTranspose"))
    if count:
        text = f"{count} convolutions inside {node.op_type} are not checked; export without {node.op_type} if you can"
        yield Finding("P009", node_name(node), text)


def _integer_operator(node: Any) -> Iterator[Finding]:
    if node.op_type in _INTEGER_OPERATORS or node.op_type.startswith("QLinear"):
        text = f"{node.op_type} is not for TensorRT; export in the QDQ format (QuantizeLinear / DequantizeLinear)"
        yield Finding("Q001", node_name(node), text)


def _uint8_input(graph: QuantizedGraph, node: Any) -> Iterator[Finding]:
    if node.op_type in ("Cast", "QuantizeLinear", "DequantizeLinear", *_INTEGER_OPERATORS):
        return
    if any(name in graph.inputs and graph.types.get(name) == UINT8 for name in node.input):
        text = f"{node.op_type} does not take the uint8 input of the model; Cast it to float first"
        yield Finding("Q013", node_name(node), text)


def _quantizer_problems(graph: QuantizedGraph, quantizer: Quantizer) -> Iterator[tuple[str, str]]:
    scale, zero, stored = quantizer.scale, quantizer.zero_point, quantizer.stored
    if scale is None:
        yield "Q002", "its scale is computed, which crashes the parser; store the scale as an initializer"
    elif not np.isfinite(scale.astype(np.float64)).all() or not (scale > 0).all():
        yield "Q003", "its scale is not positive and finite; calibrate again, and leave dead channels at a small scale"
    elif (scale.astype(np.float64) < SMALLEST_NORMAL).any() and scale.dtype == np.float16:
        yield "Q004", f"its scale {float(scale.min()):.2g} loses digits in float16; use at least 6.1e-05, or float32"
    if scale is not None and scale.dtype == np.float16 and graph.opset < 19:
        yield "Q012", f"float16 scales need operator set 19, the model has {graph.opset}; convert it, or use float32"
    if quantizer.has_zero_point and zero is None:
        yield "Q005", "its zero point is computed; store zeros as an initializer"
    elif zero is not None and zero.astype(np.int64).any() and stored in (INT8, UINT8):
        yield (
            "Q007",
            "its zero point is not 0; TensorRT is symmetric: quantize with ActivationSymmetric, WeightSymmetric",
        )
    if stored == INT32 and not quantizer.is_quantize:
        yield "Q008", "int32 cannot be dequantized; leave the bias in float (QuantizeBias=False)"
    elif stored == UINT8:
        yield "Q006", "uint8 is read as int8, so 128 to 255 change; quantize to int8 with zero point 0"
    elif quantizer.is_quantize and not quantizer.has_zero_point and stored == 0:
        yield "Q010", "without a zero point the file means uint8, but TensorRT reads int8; add an int8 zero point of 0"
    elif stored not in (INT8, FLOAT8_E4M3, 0):
        yield "Q009", f"ONNX element type {stored} is not for convolutions; quantize to int8"
    if int(graph.attribute(quantizer.node, "block_size", 0)):
        yield "Q009", "scales of blocks are not for convolutions; quantize per tensor or per output channel"
    yield from _pair_problems(graph, quantizer)


def _pair_problems(graph: QuantizedGraph, quantizer: Quantizer) -> Iterator[tuple[str, str]]:
    maker = graph.maker.get(quantizer.node.input[0])
    if quantizer.is_quantize or maker is None or maker.op_type != "QuantizeLinear":
        return
    other = graph.quantizer(maker).scale
    if other is not None and quantizer.scale is not None and not np.array_equal(other, quantizer.scale):
        yield "Q011", f"its scale is not that of {node_name(maker)} before it; give both the same"


def _why_not_int8(graph: QuantizedGraph, node: Any) -> str:
    """Reason why a convolution will not run in int8; empty when it will."""
    reason = _why_activation(graph, node.input[0])
    if reason:
        return reason
    weights = graph.source(node.input[1])
    if weights is None:
        return "its weights are not quantized; put a DequantizeLinear of stored int8 directly on them"
    if weights.scale is None or weights.stored != INT8:
        return "its weights are not int8 with a stored scale"
    if not weights.is_per_tensor and weights.axis % 4 != 0:
        return f"its weights are quantized along axis {weights.axis}; the output channels are axis 0"
    stored = graph.constant(weights.node.input[0])
    maker = graph.maker.get(weights.node.input[0])
    folded = maker is not None and maker.op_type == "QuantizeLinear" and graph.constant(maker.input[0]) is not None
    if stored is None and not folded:
        return "its weights are computed, not stored"
    return ""


def _why_activation(graph: QuantizedGraph, name: str) -> str:
    scale = _scale_behind(graph, name)
    return scale if isinstance(scale, str) else ""


def _scale_behind(graph: QuantizedGraph, name: str) -> float | str:
    """Scale of a dequantized tensor, also behind operators that dequantizing can move behind; or why there is none."""
    quantizer = graph.source(name)
    if quantizer is not None:
        if quantizer.stored != INT8:
            return f"its input {name} is not dequantized from int8"
        if quantizer.scale is None:
            return f"the scale of its input {name} is not stored"
        if not quantizer.is_per_tensor:
            form = "has an axis of length 1" if quantizer.scale.size == 1 else "is per channel"
            return f"the scale of its input {name} {form}; activations need one scalar of shape ()"
        return float(quantizer.scale)
    node = graph.maker.get(name)
    if node is None or node.op_type not in COMMUTING:
        what = "the model's input" if node is None else f"{node.op_type} {node_name(node)}"
        return f"its input is {what}, not quantized; put QuantizeLinear and DequantizeLinear between"
    scales = [_scale_behind(graph, x) for x in (node.input if node.op_type == "Concat" else node.input[:1])]
    texts = [scale for scale in scales if isinstance(scale, str)]
    if texts:
        return f"{texts[0]} (through {node.op_type} {node_name(node)})"
    if len(set(scales)) > 1:
        return f"{node.op_type} {node_name(node)} joins different scales; quantize its result, or give them one scale"
    return scales[0]


def _after_convolution(graph: QuantizedGraph, node: Any) -> Iterator[Finding]:
    for user in graph.users.get(node.output[0], []):
        if user.op_type != "QuantizeLinear":
            continue
        behind = [last for pair in graph.users.get(user.output[0], []) for last in graph.users.get(pair.output[0], [])]
        if any(item.op_type in _ACTIVATIONS for item in behind):
            text = "is quantized before its activation, so the two do not fuse; quantize behind the activation"
            yield Finding("P002", node_name(node), text)


def _concatenation(graph: QuantizedGraph, node: Any) -> Iterator[Finding]:
    sources = [graph.source(name) for name in node.input]
    known = [source for source in sources if source is not None]
    if known and len(known) < len(sources):
        text = (
            f"{len(sources) - len(known)} of {len(sources)} inputs are not quantized; quantize all, or only the result"
        )
        yield Finding("P003", node_name(node), text)
    elif len({float(source.scale.max()) for source in known if source.scale is not None}) > 1:
        yield Finding("P004", node_name(node), "its inputs differ in scale and are rescaled one by one; give them one")


def _residual(graph: QuantizedGraph, node: Any) -> Iterator[Finding]:
    makers = [graph.maker.get(name) for name in node.input]
    for index, maker in enumerate(makers):
        other = makers[1 - index]
        plain = other is not None and other.op_type not in ("DequantizeLinear", "Constant", "Conv")
        if maker is not None and maker.op_type == "Conv" and plain:
            text = "adds a float tensor to a convolution, whose result is float then; quantize the other input too"
            yield Finding("P005", node_name(node), text)


def _of_the_whole(
    graph: QuantizedGraph, convolutions: list[Any], reasons: dict[str, str], carrier: str
) -> list[Finding]:
    findings = []
    if carrier == "fp32" and len(reasons) < len(convolutions):
        text = "everything between the convolutions is float32; float16 scales (operator set 19) halve that traffic"
        findings.append(Finding("P006", "", text))
    odd = [name for node in convolutions if (name := node_name(node)) not in reasons and _channels(graph, node) % 4]
    if odd:
        others = f"; so are those of {len(odd) - 1} more" if len(odd) > 1 else ""
        text = f"its input channels are no multiple of 4 and are padded{others}"
        findings.append(Finding("P007", odd[0], text))
    for node in graph.nodes_of("ConvTranspose"):
        findings.append(Finding("P008", node_name(node), "runs in float on TensorRT for RTX; Resize and Conv do not"))
    return findings


def _channels(graph: QuantizedGraph, node: Any) -> int:
    weights = graph.source(node.input[1])
    name = node.input[1] if weights is None else weights.node.input[0]
    maker = graph.maker.get(name)
    stored = graph.constant(maker.input[0] if maker is not None and maker.op_type == "QuantizeLinear" else name)
    return 0 if stored is None or stored.ndim < 2 else int(stored.shape[1])


def _carrier(graph: QuantizedGraph, convolutions: list[Any]) -> str:
    types = {graph.types.get(node.output[0], 0) for node in convolutions} - {0}
    return {frozenset({FLOAT32}): "fp32", frozenset({FLOAT16}): "fp16"}.get(frozenset(types), "other")
