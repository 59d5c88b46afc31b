"""Writes the ONNX file for TensorRT from a checkpoint: the weights of the CPU file, placed as TensorRT fuses them.

TensorRT knows symmetric signed integers only. A uint8 activation of scale ``s`` becomes an int8 one of scale
``s * 255 / 127``: it reaches as far, in half as many steps. (A feature with zero point ``z`` gets
``s * max(z, 255 - z) / 127``. Activations of fewer bits fit as they are, with a clamp at their largest.) Weights keep
their integers and scales, a byte each. What else differs from the CPU file, and why:

* a QuantizeLinear / DequantizeLinear pair stands on the input of every convolution and nowhere else: behind a
  concatenation or a pooling of unquantized tensors the convolution would silently run in float;
* biases are the rounded ones as floats, since the parser refuses a dequantized int32;
* everything between convolutions travels in the carrier type. It follows the type of the scales (a strongly typed
  network derives every type from them), which may be float16 from opset 19 on;
* BN before a convolution is a BatchNormalization: TensorRT fuses it with the ReLU and the quantization behind it.

A float checkpoint gives the same graph without quantization, in the carrier type: the float16 or float32 engine that
the int8 one is compared with.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.errors import InputError
from cunet_deploy.export.onnx_builder import INPUT, OUTPUT, OnnxBuilder
from cunet_deploy.export.targets.base import Addition, ExportJob
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.parity import compare_sessions
from cunet_deploy.quantize.network import INPUT_SCALE, QuantizedNetwork

__all__ = ["FILE_NAME", "LoweredSession", "Lowering", "write", "write_tensorrt_model"]

FILE_NAME = "model.tensorrt.onnx"
INT8_MAX = 127
SMALLEST_NORMAL = 2.0**-14
"""Smallest normal number of float16. A smaller scale would lose digits, and some hardware takes it for zero."""


@dataclass(frozen=True)
class Lowering:
    """Lowering of a checkpoint to a TensorRT graph.

    Attributes:
        carrier: type of everything between the convolutions; "fp16" needs opset 19, which TensorRT 8.6 cannot read.
        features: "carrier", or "int8" to pass concatenated features quantized too.
        batch: fixed batch size, or ``None`` for any.
    """

    carrier: Literal["fp16", "fp32"] = "fp16"
    features: Literal["carrier", "int8"] = "carrier"
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.carrier not in ("fp16", "fp32"):
            raise InputError(f"carrier must be fp16 or fp32, got {self.carrier!r}")
        if self.features not in ("carrier", "int8"):
            raise InputError(f"features must be carrier or int8, got {self.features!r}")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch must be at least 1, got {self.batch}; leave it out for any batch size")

    @property
    def opset(self) -> int:
        """The oldest operator set that has what is used, since old parsers read old ones only."""
        return 19 if self.carrier == "fp16" else 17

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """The carrier type."""
        return np.float16 if self.carrier == "fp16" else np.float32


def write(
    job: ExportJob,
    *,
    carrier: Literal["fp16", "fp32"] = "fp16",
    features: Literal["carrier", "int8"] = "carrier",
    batch: int | None = None,
) -> Addition:
    """model.tensorrt.onnx, and how far it is from the checkpoint; see `Lowering` and `write_tensorrt_model`."""
    lowering = Lowering(carrier, features, batch)
    model = write_tensorrt_model(job.checkpoint, lowering)
    session = LoweredSession(model)
    parity = compare_sessions(job.exact, session, job.crops)
    session.close()
    record = {
        "file": FILE_NAME,
        **asdict(lowering),
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        "parity": parity.to_dict(),
    }
    is_float = job.checkpoint.kind == "float"
    why = "float activations" if is_float else "127 steps of activations instead of 255"
    summary = f"{carrier} carriers; {why} move the landmarks by {parity.mean_px:.4f} px on average"
    return Addition({FILE_NAME: model}, record, {FILE_NAME: summary})


def write_tensorrt_model(checkpoint: Checkpoint, lowering: Lowering) -> bytes:
    """The ONNX file of a checkpoint for TensorRT, with the manifest inside; the same bytes every time.

    Input ``image`` (batch, size, size, 3) uint8 BGR, output ``heatmaps`` (batch, K, size/4, size/4) float32, never
    negative: as in the file for CPUs.

    Raises:
        InputError: a value does not fit into the carrier type, int8 features of a float checkpoint, or activations of
            fewer than 8 bits in a network with features that are rounded where no convolution follows.
    """
    network = checkpoint.quantized_network() if checkpoint.kind == "quantized" else None
    if network is None and lowering.features == "int8":
        raise InputError("a float checkpoint has no int8 features; pass them in the carrier type, or quantize it")
    if network is not None and network.groups.signed and network.config.activation_bits < 8:
        raise InputError(
            f"features of {network.config.activation_bits} bits between the convolutions would not be rounded in "
            'TensorRT; train with activation_bits = 8, or with block = "post", or export for the CPU only'
        )
    folded = {} if network is not None else {name: value.numpy() for name, value in checkpoint.folded().items()}
    manifest = replace(make_manifest(checkpoint), opset=lowering.opset)
    writer = _Writer(checkpoint.graph, network, folded, lowering)
    writer.write()
    return writer.builder.to_bytes(manifest, "batch" if lowering.batch is None else lowering.batch)


@dataclass
class _Writer:
    """Lowers a graph.

    Attributes:
        network: the quantized weights; ``None``: ``folded`` has float ones.
    """

    graph: Graph
    network: QuantizedNetwork | None
    folded: dict[str, NDArray[np.float32]]
    lowering: Lowering
    builder: OnnxBuilder = field(default_factory=OnnxBuilder)
    pairs: dict[tuple[str, str], str] = field(default_factory=dict)

    def write(self) -> None:
        graph = self.graph
        values = {graph.input: self._image()}
        for node in graph.nodes:
            inputs = [self._operand(node, x, values[x]) for x in node.inputs]
            out = self._operation(node, inputs)
            values[node.output] = self.builder.node("Relu", [out], node.output) if node.relu else out
        self.builder.node("Cast", [values[graph.outputs[-1]]], OUTPUT, to=TensorProto.FLOAT)

    def _image(self) -> str:
        """(N, S, S, 3) uint8 to (N, 3, S, S) in [-1, 1): an exact int8 tensor, in the carrier type."""
        carrier = helper.np_dtype_to_tensor_dtype(np.dtype(self.lowering.dtype))
        x = self.builder.node("Cast", [INPUT], f"{INPUT}.carrier", to=carrier)
        x = self.builder.node("Transpose", [x], f"{INPUT}.nchw", perm=[0, 3, 1, 2])
        x = self.builder.node("Sub", [x, self._carrier(128)], f"{INPUT}.centred")
        return self.builder.node("Mul", [x, self._carrier(INPUT_SCALE)], f"{INPUT}.x")

    def _operand(self, node: Node, name: str, value: str) -> str:
        """The input of a node, quantized where the placement wants it."""
        if node.operation.role == "filters":
            return self._quantized(value, name)
        if node.operation.role == "copy" and len(node.inputs) > 1 and self.lowering.features == "int8":
            # All at the scale of the result, so that dequantizing can move behind the concatenation.
            return self._quantized(value, node.output)
        return value

    def _quantized(self, value: str, like: str) -> str:
        """A QuantizeLinear / DequantizeLinear pair with the scale of a tensor of the graph; one for each scale."""
        if self.network is None:
            return value
        scale, highest = _symmetric_scale(self.network, like)
        scale = max(scale, SMALLEST_NORMAL)
        params = [self._carrier(scale), self.builder.constant(np.array(0, np.int8))]
        key = (value, params[0])
        if key not in self.pairs:
            name = f"{value}.int8" if sum(x == value for x, _ in self.pairs) == 0 else f"{value}.int8.{params[0]}"
            if highest < INT8_MAX:
                limits = [self._carrier(0), self._carrier(highest * scale)]
                value = self.builder.node("Clip", [value, *limits], f"{name}.c")
            self.builder.node("QuantizeLinear", [value, *params], f"{name}.q")
            self.pairs[key] = self.builder.node("DequantizeLinear", [f"{name}.q", *params], name)
        return self.pairs[key]

    def _operation(self, node: Node, inputs: list[str]) -> str:
        name = f"{node.output}.x" if node.relu else node.output
        if node.operation.role == "filters":
            return self._convolution(node, inputs[0], name)
        if node.operation.role == "per_channel":
            return self._affine(node, inputs[0], name)
        return self.builder.operation(node, inputs, name)

    def _convolution(self, node: Node, x: str, name: str) -> str:
        bias = self._cast(self._floats(node)[1])
        return self.builder.convolution(
            node, [x, self._weights(node), self.builder.tensor(f"{node.output}.b", bias)], name
        )

    def _weights(self, node: Node) -> str:
        name = f"{node.output}.w"
        if self.network is None:
            return self.builder.tensor(name, self._cast(self._floats(node)[0]))
        integers, _ = self.network.integers(node)
        weights, scale = _safe_scale(integers.numpy(), self.network.weight_scale(node).detach().numpy())
        stored = self.builder.tensor(f"{name}.q", weights)
        scales = self.builder.tensor(f"{name}.s", scale.astype(self.lowering.dtype))
        zero = self.builder.constant(np.zeros(scale.shape, np.int8))
        return self.builder.node("DequantizeLinear", [stored, scales, zero], name, axis=0)

    def _floats(self, node: Node) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights of an affine node, or those of a float network, and biases in the steps of integer sums."""
        if self.network is None:
            return self.folded[f"{node.output}.weight"], self.folded[f"{node.output}.bias"]
        weight = self.network.weights[(node.shares or node.output).replace(".", "/")]
        grid = self.network.weight_scale(node).double() * self.network.activation_qparams(node.inputs[0])[0].double()
        bias = self.network.integers(node)[1] * grid.detach()
        return weight.detach().numpy(), bias.float().numpy()

    def _affine(self, node: Node, x: str, name: str) -> str:
        scale, shift = self._floats(node)
        params = [
            self.builder.tensor(f"{node.output}.scale", self._cast(scale.reshape(-1))),
            self.builder.tensor(f"{node.output}.shift", self._cast(shift)),
            self.builder.constant(np.zeros(node.channels, self.lowering.dtype)),
            self.builder.constant(np.ones(node.channels, self.lowering.dtype)),
        ]
        return self.builder.node("BatchNormalization", [x, *params], name, epsilon=0.0)

    def _carrier(self, value: float) -> str:
        return self.builder.constant(np.array(value, self.lowering.dtype))

    def _cast(self, values: NDArray[Any]) -> NDArray[Any]:
        limit = float(np.finfo(self.lowering.dtype).max)
        if np.abs(values).max(initial=0) > limit:
            raise InputError(f"a weight or bias exceeds {limit:g}, the largest float16; use the carrier fp32")
        return np.asarray(values, self.lowering.dtype)


def _symmetric_scale(network: QuantizedNetwork, tensor: str) -> tuple[float, int]:
    """Scale of the int8 form of an activation and its largest integer; see the top of this module."""
    if tensor == network.graph.input:
        return INPUT_SCALE, INT8_MAX  # its integers are the pixels less 128
    scale, zero_point = network.activation_qparams(tensor)
    highest = network.activation_max(tensor)
    if highest <= INT8_MAX:
        return float(scale.detach()), highest
    return float(scale.detach()) * max(zero_point, highest - zero_point) / INT8_MAX, INT8_MAX


def _safe_scale(weights: NDArray[np.int8], scale: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights and scales with no scale below the smallest normal float16; such a channel is rounded once more."""
    floor = np.maximum(scale, np.float32(SMALLEST_NORMAL)).astype(np.float32)
    factor = (scale / floor).reshape(-1, 1, 1, 1)
    return np.rint(weights * factor).astype(np.int8), floor


class LoweredSession:
    """The TensorRT graph in ONNX Runtime on the CPU, behind the `Session` protocol, to measure what lowering costs.

    ONNX Runtime's pass WeightBiasQuantization stays off: it quantizes the float biases to 32 bits with a scale that
    underflows in float16, which changes the result by more than the quantization does. So does the fusion of
    quantized operators, which makes concatenations that refuse float16 scales.

    Args:
        model: the bytes of the file.
    """

    def __init__(self, model: bytes) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["WeightBiasQuantization", "QDQSelectorActionTransformer"],
        )
        text = self._session.get_modelmeta().custom_metadata_map[METADATA_KEY]
        self._manifest = Manifest.from_json(text, FILE_NAME)
        batch = self._session.get_inputs()[0].shape[0]
        self._batch = batch if isinstance(batch, int) else None

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        return self._manifest

    @property
    def backend(self) -> str:
        """Name of the backend."""
        return f"onnxruntime {ort.__version__} CPUExecutionProvider"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        step = self._batch or max(len(images), 1)
        parts = [self._run_part(images[start : start + step], step) for start in range(0, len(images), step)]
        return np.concatenate(parts)

    def _run_part(self, images: NDArray[np.uint8], step: int) -> NDArray[np.float32]:
        missing = step - len(images)
        padded = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)]) if missing else images
        maps = self._session.run([OUTPUT], {INPUT: padded})[0]
        return np.asarray(maps[: len(images)], np.float32)

    def close(self) -> None:
        """Release the network."""
        del self._session
