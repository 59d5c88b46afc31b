"""Properties of each chip: compute capabilities 7.5 to 12.0, and the DLA of a Jetson."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cunet_deploy.errors import InputError
from cunet_deploy.onnx_graph.qdq import QuantizedGraph

__all__ = ["TARGETS", "Target", "parse_target", "target_findings"]

TARGETS = {
    "sm75": "Turing",
    "sm80": "Ampere (A100)",
    "sm86": "Ampere (RTX 30, A10)",
    "sm87": "Jetson Orin",
    "sm89": "Ada (RTX 40, L4)",
    "sm90": "Hopper",
    "sm110": "Jetson Thor",
    "sm120": "Blackwell (RTX 50)",
    "dla": "the DLA of a Jetson Xavier or Orin",
}
"""The chips whose rules are known."""

_NOT_FOR_RTX = (87, 90, 110)
_FLOAT8_E4M3 = 17
_DLA_OPERATORS = frozenset(
    {"Conv", "ConvTranspose", "Relu", "Sigmoid", "Tanh", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "Concat", "Add"}
    | {"GlobalAveragePool", "Sub", "Mul", "Max", "Min", "BatchNormalization", "Resize", "Slice", "Softmax"}
    | {"QuantizeLinear", "DequantizeLinear", "Constant", "Identity"}
)


@dataclass(frozen=True)
class Target:
    """Chip that an engine shall run on.

    Attributes:
        name: a key of `TARGETS`.
        flavour: "tensorrt" or "tensorrt_rtx"; empty: not said.
    """

    name: str
    flavour: str = ""

    @property
    def capability(self) -> int:
        """87 for "sm87"; 0 for the DLA."""
        return int(self.name[2:]) if self.name.startswith("sm") else 0


def parse_target(name: str, flavour: str = "") -> Target:
    """Read "sm87", "SM87", "87", "8.7" or "dla".

    Raises:
        InputError: another name.
    """
    text = name.strip().lower().removeprefix("sm").replace(".", "")
    found = text if text in TARGETS else f"sm{text}"
    if found not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}; got {name!r}")
    return Target(found, flavour)


def target_findings(graph: QuantizedGraph, target: Target) -> Iterator[tuple[str, str, str]]:
    """Code, node and message of what does not fit; the codes are explained in `cunet_deploy.tensorrt.lint`."""
    if target.name == "dla":
        yield from _dla_findings(graph)
    if target.name == "sm75" and target.flavour != "tensorrt":
        yield "T001", "", "TensorRT for RTX runs no convolution in int8 on SM75, silently; use tensorrt there"
    if target.flavour == "tensorrt_rtx" and target.capability in _NOT_FOR_RTX:
        yield (
            "T005",
            "",
            f"TensorRT for RTX cannot build for {target.name.upper()}; take the flavour tensorrt on the device",
        )
    for node in graph.nodes_of("QuantizeLinear", "DequantizeLinear"):
        if graph.quantizer(node).stored == _FLOAT8_E4M3 and 0 < target.capability < 89:
            yield "T004", graph.quantizer(node).name, f"FP8 needs SM89 or newer, not {target.name.upper()}; use int8"


def _dla_findings(graph: QuantizedGraph) -> Iterator[tuple[str, str, str]]:
    for name, shape in graph.inputs.items():
        if None in shape:
            yield (
                "T002",
                name,
                f"the DLA needs fixed shapes, this input has {shape}; export or build for one batch size",
            )
    if next(graph.nodes_of("QuantizeLinear", "DequantizeLinear"), None) is not None:
        yield (
            "T003",
            "",
            "before TensorRT 11.4.1 the DLA takes no Q/DQ, and 10.8 to 11.3 have no DLA: the layers go to the GPU",
        )
    others = sorted({node.op_type for node in graph.nodes} - _DLA_OPERATORS)
    if others:
        yield "T006", "", f"the DLA does not run {', '.join(others)}; build with a fallback to the GPU"
