"""External data: weights of an ONNX file that lie in files beside it, and are not always copied along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["external_files", "has_external_data", "missing_weights"]

_EXTERNAL = 1
"""TensorProto.DataLocation."""
_ENTRY = b"\x0a\x08location\x12"
"""Prefix of a tensor's entry that names the file."""


def has_external_data(data: bytes) -> bool:
    """Return whether an ONNX file may have weights elsewhere; quick, and never wrong when it says no."""
    return _ENTRY in data


def external_files(path: Path) -> dict[str, int]:
    """Names of the files that an ONNX file has weights in, relative to its folder, and bytes that each must have.

    What cannot be read, or is no ONNX file, has none: whoever loads it says what is wrong.
    """
    from cunet_deploy.onnx_graph.messages import DecodeError, model_message  # loads protobuf, for faulty files only

    try:
        data = path.read_bytes()
        model = model_message(data) if has_external_data(data) else None
    except (OSError, DecodeError):
        return {}
    needed: dict[str, int] = {}
    for tensor in [] if model is None else _tensors_of_model(model):
        if tensor.data_location == _EXTERNAL:
            said = {entry.key: entry.value for entry in tensor.external_data}
            end = _number(said.get("offset")) + _number(said.get("length"))
            name = said.get("location", "")
            needed[name] = max(needed.get(name, 0), end)
    return needed


def missing_weights(path: Path) -> str:
    """List the weights that an ONNX file lacks because a file beside it is missing or cut off.

    For messages, in one line: what is wrong and what to do.
    """
    for name, size in external_files(path).items():
        file, shown = path.parent / name, ascii(name)[1:-1]
        if not file.is_file():
            return f"its weights lie in {shown}, which is not beside it; copy that file into {path.parent} too"
        if file.stat().st_size < size:
            return f"its weights lie in {shown}, which is cut off ({size} bytes expected); copy that file again"
    return ""


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _tensors_of_model(model: Any) -> Iterator[Any]:
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[Any]:
    """Tensors in attributes, and in the graphs that are attributes of If, Loop and Scan."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of_graph(graph)
