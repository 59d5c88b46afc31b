"""ONNX files of others, without a manifest, on the CPU."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from cunet_deploy.errors import ArtifactError
from cunet_deploy.onnx_graph.external import missing_weights
from cunet_deploy.sessions.providers import ORT_ERRORS, first_line

__all__ = ["open_foreign"]


def open_foreign(path: Path, *, threads: int | None = None) -> ort.InferenceSession:
    """Load a network.

    Args:
        path: the ONNX file.
        threads: how many CPU threads it may use; ``None`` leaves it to ONNX Runtime.

    Raises:
        ArtifactError: ONNX Runtime cannot load it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        reason = missing_weights(path) or f"ONNX Runtime cannot load it ({first_line(error)}); export or copy it again"
        raise ArtifactError(f"{path}: {reason}") from error
