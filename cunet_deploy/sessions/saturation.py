"""Saturation-safe int8 in ONNX Runtime: unsigned weights (U8U8) on x86 processors without VNNI.

There the kernels for unsigned activations and signed weights (U8S8) add pairs of products in 16 bits, which saturate:
of released networks up to half of the values of the heatmaps change. Told ``session.x64quantprecision``, ONNX Runtime
makes the weights unsigned and adds in 32 bits, which is exact. Measured on an AMD EPYC (Zen 3), one thread, in turns:
face68-s takes 1.36 times as long as with saturation and 0.91 of its float export, pose14-s with crops of
128 px 1.33 and 0.79.

That pass of ONNX Runtime (seen in 1.32) fails on a constant that several nodes share, so these get one each first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cunet_deploy.errors import ArtifactError
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.onnx_graph.messages import DecodeError, model_message

__all__ = ["saturation_safe_graph"]

_INT8 = 3
"""TensorProto.DataType of int8."""


def saturation_safe_graph(path: Path) -> bytes | None:
    """The network to load with that setting in place of a file; ``None`` where it cannot saturate.

    Files that cannot be read or have no manifest are left to those who load them and say what is wrong.
    """
    try:
        model = model_message(path.read_bytes())
        said = next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), "")
        if not Manifest.from_json(said, path).may_saturate:
            return None
    except (OSError, DecodeError, ArtifactError):
        return None
    return _unshare(model)


def _unshare(model: Any) -> bytes:
    """An ONNX model in which each DequantizeLinear has its own int8 constants; it computes the same."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == _INT8}
    used: dict[str, int] = {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        for index, name in enumerate(node.input):
            if name not in constants:
                continue
            used[name] = used.get(name, 0) + 1
            if used[name] > 1:
                copy = graph.initializer.add()
                copy.CopyFrom(constants[name])
                copy.name = node.input[index] = f"{name}.unshared.{used[name]}"
    data: bytes = model.SerializeToString(deterministic=True)
    return data
