"""Layers that a builder made of a network: every one with its types and the ONNX nodes that it computes.

There are two sources for one structure. The engine inspector gives JSON, but needs a GPU. TensorRT for RTX prints the
same table into its log while it builds, on any machine. Only the compiled layers tell whether a convolution runs on
integers: a graph can parse and build without a warning and still run in float.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cunet_deploy.errors import CunetError

__all__ = ["Layer", "LayerReport", "layers_from_inspector", "layers_from_log"]

CONVOLUTION, OTHER = "convolution", "other"

_KINDS = {
    "correlation": CONVOLUTION,
    "conv": CONVOLUTION,
    "convolution": CONVOLUTION,
    "caskconvolution": CONVOLUTION,
    "cudnnconvolution": CONVOLUTION,
    "deconv": "deconvolution",
    "deconvolution": "deconvolution",
    "caskdeconvolution": "deconvolution",
    "gemm": "matrix multiplication",
    "maxpool": "pooling",
    "avgpool": "pooling",
    "pooling": "pooling",
    "caskpooling": "pooling",
    "kgen": "pointwise",
    "pointwise": "pointwise",
    "pointwisev2": "pointwise",
}
"""Kind of a layer by its type, in lower case; and by its "ParameterType", which older inspectors give besides."""

_TYPES = (  # the first that fits; "int8" must not find "uint8"
    ("uint8", "uint8"),
    ("int8", "int8"),
    ("int4", "int4"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("e4m3", "fp8"),
    ("fp8", "fp8"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("fp16", "fp16"),
    ("half", "fp16"),
    ("fp32", "fp32"),
    ("float", "fp32"),
    ("bool", "bool"),
)
_ROW = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId.*?Metadata: (?P<metadata>.*)$"
)
_TENSOR = re.compile(r"Dimensions: \[(?P<shape>[-\d,]*)\].*?Datatype: (?P<type>\w+)")
_ONNX = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: of the layer.
        kind: "convolution", "deconvolution", "matrix multiplication", "pooling", "pointwise" or "other".
        inputs: types of its inputs, "int8", "fp16", "fp32" and so on; "?" where the source does not say.
        weights: type of its weights; empty where it has none.
        outputs: types of its outputs.
        onnx: names of the ONNX nodes that it computes.
        tactic: the chosen kernel.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    weights: str
    outputs: tuple[str, ...]
    onnx: tuple[str, ...]
    tactic: str = ""

    @property
    def is_int8(self) -> bool:
        """Return whether both what comes in and the weights are 8-bit integers."""
        return self.inputs[:1] == ("int8",) and self.weights == "int8"


@dataclass(frozen=True)
class LayerReport:
    """Every layer of an engine.

    Attributes:
        layers: in the order in which they run.
        source: "build log" or "inspector".
    """

    layers: tuple[Layer, ...]
    source: str

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        """The convolutions; an engine with two profiles has each twice."""
        return tuple(layer for layer in self.layers if layer.kind == CONVOLUTION)

    @property
    def not_int8(self) -> tuple[Layer, ...]:
        """The convolutions that do not run on 8-bit integers."""
        return tuple(layer for layer in self.convolutions if not layer.is_int8)

    @property
    def int8(self) -> int:
        """Number of convolutions that run on 8-bit integers."""
        return len(self.convolutions) - len(self.not_int8)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        return {
            "source": self.source,
            "convolutions": len(self.convolutions),
            "int8_convolutions": self.int8,
            "layers": [asdict(layer) for layer in self.layers],
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> LayerReport:
        """Read what `to_dict` gave."""
        layers = (
            Layer(
                name=row["name"],
                kind=row["kind"],
                inputs=tuple(row["inputs"]),
                weights=row["weights"],
                outputs=tuple(row["outputs"]),
                onnx=tuple(row["onnx"]),
                tactic=row["tactic"],
            )
            for row in table["layers"]
        )
        return cls(tuple(layers), str(table["source"]))


def layers_from_log(messages: Iterable[str]) -> LayerReport:
    """The layer table that TensorRT for RTX logs at level VERBOSE when the profiling verbosity is DETAILED.

    Raises:
        CunetError: there is no such table: the format, which is not documented, has changed.
    """
    rows = [match for message in messages for line in message.splitlines() if (match := _ROW.match(line.strip()))]
    if not rows:
        raise CunetError(
            "the build log holds no layer table that this version can read, so nothing proves what runs in int8; "
            "install the TensorRT-RTX version that the package's tensorrt-rtx extra names, or report this one"
        )
    return LayerReport(tuple(_from_row(row) for row in rows), "build log")


def _from_row(row: re.Match[str]) -> Layer:
    inputs, constants = _tensors(row["inputs"]), _tensors(row["constants"])
    kind = _KINDS.get(row["type"].lower(), OTHER)
    # Weights are a constant, or an input where another layer has dequantized them: the largest tensor of rank 4.
    weights = max((item for item in [*inputs[1:], *constants] if item[0]), key=lambda item: item[0], default=(0, ""))
    return Layer(
        name=row["name"],
        kind=kind,
        inputs=tuple(type_ for _, type_ in inputs),
        weights=weights[1] if kind in (CONVOLUTION, "deconvolution") else "",
        outputs=tuple(type_ for _, type_ in _tensors(row["outputs"])),
        onnx=tuple(_ONNX.findall(row["metadata"])),
        tactic=row["tactic"],
    )


def _tensors(text: str) -> list[tuple[int, str]]:
    """Number of values, 0 where the rank is not that of weights, and type of each tensor in a list of the log."""
    # The lists hold brackets of their own, but a tensor never ends before its type.
    found = []
    for tensor in _TENSOR.finditer(text):
        shape = [int(size) for size in tensor["shape"].split(",") if size]
        found.append((math.prod(shape) if len(shape) >= 3 and min(shape) > 0 else 0, _type_name(tensor["type"])))
    return found


def layers_from_inspector(text: str) -> LayerReport:
    """The layers from the JSON of an engine inspector, of TensorRT 8.6 to 11.

    Raises:
        CunetError: the text is no such JSON, or the engine was built without details of its layers.
    """
    try:
        table = json.loads(text)
        rows = table["Layers"]
    except (ValueError, TypeError, KeyError) as error:
        raise CunetError(f"the engine inspector gave no list of layers ({error!r}); report this version") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CunetError("the engine holds names of layers only; build it again: cunet-deploy build BUNDLE")
    return LayerReport(tuple(_from_inspected(row) for row in rows), "inspector")


def _from_inspected(row: Mapping[str, Any]) -> Layer:
    kind = _KINDS.get(str(row.get("ParameterType", "")).lower()) or _KINDS.get(
        str(row.get("LayerType", "")).lower(), OTHER
    )
    weights, constants = row.get("Weights"), row.get("Constants") or []
    if isinstance(weights, dict):
        weight_type = _type_name(str(weights.get("Type", "")))
    else:
        sizes = {_volume(item): _datatype(item) for item in constants if isinstance(item, dict)}
        weight_type = sizes[max(sizes)] if sizes else ""
    return Layer(
        name=str(row.get("Name", "")),
        kind=kind,
        inputs=tuple(_datatype(item) for item in row.get("Inputs") or []),
        weights=weight_type if kind in (CONVOLUTION, "deconvolution") else "",
        outputs=tuple(_datatype(item) for item in row.get("Outputs") or []),
        onnx=tuple(_ONNX.findall(str(row.get("Metadata", "")))),
        tactic=str(row.get("TacticName", "")),
    )


def _datatype(tensor: Mapping[str, Any]) -> str:
    # "Format/Datatype": "Row major linear FP32" up to 10.x; two keys of their own later.
    text = tensor.get("Datatype") or tensor.get("DataType") or tensor.get("Format/Datatype") or ""
    return _type_name(str(text))


def _volume(tensor: Mapping[str, Any]) -> int:
    return math.prod(int(size) for size in tensor.get("Dimensions") or [0])


def _type_name(text: str) -> str:
    lowered = text.lower()
    return next((name for word, name in _TYPES if word in lowered), "?")
