"""Export of a bundle for browsers: the same integers in float32, for WebGPU and WebNN, which do not multiply integers.

In QDQ graphs, WebGPU and WebNN multiply by the scales before they add, in float32, and round differently from the
checkpoint. Here tensors are float32 with the quantized integers, less their zero points: their products and sums are
exact up to 2^24, in whichever order a processor adds, and each sum is then multiplied once and rounded to an integer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.errors import InputError, VerificationError
from cunet_deploy.export.onnx_builder import INPUT, OUTPUT, OnnxBuilder
from cunet_deploy.export.targets.base import Addition, ExportJob
from cunet_deploy.model.graph import Node
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.sessions.onnxruntime import OrtSession

__all__ = ["write", "write_web_model"]

_EXACT = 2.0**24
_ROUND = 1.5 * 2**23
"""Constant that rounds half to even when it is added and subtracted; WebGPU has no operator that does."""
_BATCH = 16


def write(job: ExportJob) -> Addition:
    """Write a bundle in web/, whose heatmaps are those of the checkpoint, bit for bit.

    Raises:
        InputError: the checkpoint has no integers, or sums that float32 does not hold exactly.
        VerificationError: a heatmap value differs.
    """
    if job.checkpoint.kind == "float":
        raise InputError("a float checkpoint has no integers; export a quantized one, or run model.onnx in the browser")
    model = write_web_model(job.checkpoint)
    differing = _differing(job, model)
    if differing:
        raise VerificationError(f"{differing} heatmap values of the file for browsers differ from the checkpoint's")
    files = {"web/model.onnx": model, "web/manifest.json": job.manifest.to_json().encode()}
    return Addition(files, summary={"web/model.onnx": "the same integers in float32, for WebGPU and WebNN"})


def _differing(job: ExportJob, model: bytes) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(model)
        session = OrtSession(file)
        parts = np.split(job.crops, range(_BATCH, len(job.crops), _BATCH))
        count = sum(int((job.exact.run(part) != session.run(part)).sum()) for part in parts)
        session.close()
    return count


def write_web_model(checkpoint: Checkpoint) -> bytes:
    """The ONNX file of a quantized checkpoint with its integers in float32; input and output as in model.onnx.

    Raises:
        InputError: a sum may exceed what float32 holds exactly.
    """
    writer = _Writer(checkpoint.quantized_network())
    return writer.write().to_bytes(make_manifest(checkpoint))


class _Writer:
    """Writes a network node by node; ``values`` has the tensor of integers for each name in the network's graph."""

    def __init__(self, network: QuantizedNetwork) -> None:
        self._network, self._graph, self._builder = network, network.graph, OnnxBuilder()
        self._values: dict[str, str] = {}
        self._weights: dict[str, str] = {}

    def write(self) -> OnnxBuilder:
        """Write all nodes."""
        builder, graph = self._builder, self._graph
        _, zero = self._network.activation_qparams(graph.input)
        builder.node("Transpose", [INPUT], f"{INPUT}.nchw", perm=[0, 3, 1, 2])
        unit = [self._number(1), builder.constant(np.array(int(zero), np.uint8))]
        self._values[graph.input] = builder.node("DequantizeLinear", [f"{INPUT}.nchw", *unit], f"{INPUT}.x")
        for node in graph.nodes:
            if node.operation.weighted:
                self._values[node.output] = self._convolution(node)
            elif node.operation.role == "copy":
                parts = [self._rescaled(name, node.output) for name in node.inputs]
                self._values[node.output] = builder.operation(node, parts, node.output)
            else:
                self._values[node.output] = self._sum(node)
        result = graph.outputs[-1]
        builder.node("Mul", [self._values[result], self._number(self._scale(result))], OUTPUT)
        return builder

    def _scale(self, name: str) -> NDArray[np.float32]:
        return np.asarray(self._network.activation_qparams(name)[0].detach().numpy(), np.float32)

    def _number(self, value: Any) -> str:
        return self._builder.constant(np.array(value, np.float32))

    def _convolution(self, node: Node) -> str:
        """Convolution of integers, rescaled to the integers of its output."""
        weight, bias = (item.numpy().astype(np.float32) for item in self._network.integers(node))
        # a product is of an activation of at most 8 bits
        largest = 255 * np.abs(weight).sum(axis=(1, 2, 3), dtype=np.float64) + np.abs(bias)
        if largest.max() >= _EXACT:
            raise InputError(f"sums of {node.output} may exceed 2^24, and float32 does not hold them exactly")
        owner = node.shares or node.output
        if owner not in self._weights:
            self._weights[owner] = self._builder.tensor(f"{owner}.w", weight)
        inputs = [self._values[node.inputs[0]], self._weights[owner], self._builder.tensor(f"{node.output}.b", bias)]
        sums = self._builder.convolution(node, inputs, f"{node.output}.sums")
        # runtimes would multiply the weights by a factor behind a convolution; behind a clipping they leave it there
        lowest = -_EXACT if self._zero(node.output) else 0
        sums = self._builder.node("Clip", [sums, self._number(lowest), self._number(_EXACT)], f"{node.output}.clipped")
        worth = self._scale(node.inputs[0]) * self._network.weight_scale(node).detach().numpy()
        factor = np.asarray(worth / self._scale(node.output), np.float32)
        return self._rounded(sums, factor[:, None, None], node.output, node.output)

    def _zero(self, name: str) -> int:
        return int(self._network.activation_qparams(name)[1])

    def _rounded(self, tensor: str, factor: Any, name: str, target: str) -> str:
        """Tensor times a factor, rounded to the integers of the tensor ``target``."""
        product = self._builder.node("Mul", [tensor, self._number(factor)], f"{name}.product")
        return self._integers(product, name, target)

    def _integers(self, tensor: str, name: str, target: str) -> str:
        zero, builder = self._zero(target), self._builder
        limits = [self._number(limit - zero) for limit in (0, self._network.activation_max(target))]
        limited = builder.node("Clip", [tensor, *limits], f"{name}.limited")
        shifted = builder.node("Add", [limited, self._number(_ROUND)], f"{name}.shifted")
        return builder.node("Sub", [shifted, self._number(_ROUND)], f"{name}.x")

    def _sum(self, node: Node) -> str:
        scale = self._scale(node.output)
        parts = [
            self._builder.node("Mul", [self._values[name], self._number(self._scale(name) / scale)], f"{made}.part")
            for name, made in ((name, f"{node.output}.{index}") for index, name in enumerate(node.inputs))
        ]
        return self._integers(self._builder.operation(node, parts, f"{node.output}.sum"), node.output, node.output)

    def _rescaled(self, source: str, target: str) -> str:
        """Integers of one tensor rescaled to those of another, by a factor that rounds each as the division does."""
        if self._network.groups.of[source] == self._network.groups.of[target]:
            return self._values[source]
        given, scale = self._scale(source), self._scale(target)
        integers = np.arange(256, dtype=np.float32) - np.float32(self._zero(source))
        expected = np.round(integers * given / scale)  # division differs among GPUs
        near = np.float32(given / scale)
        for factor in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))):
            if np.array_equal(np.round(integers * factor), expected):
                return self._rounded(self._values[source], factor, f"{target}.of.{source}", target)
        raise InputError(f"no factor turns integers of {source} into those of {target} as a division does")
