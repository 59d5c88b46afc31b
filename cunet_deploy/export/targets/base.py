"""Input and output of the writers of export targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.manifest import Manifest

__all__ = ["Addition", "ExportJob"]


@dataclass(frozen=True, eq=False)
class ExportJob:
    """Input of a target's writer.

    Attributes:
        checkpoint: in the precision to export.
        manifest: of the model.
        model: the bytes of model.onnx.
        exact: the checkpoint in torch, to compare with.
        crops: (N, size, size, 3) uint8 BGR to compare on.
    """

    checkpoint: Checkpoint
    manifest: Manifest
    model: bytes
    exact: TorchSession
    crops: NDArray[np.uint8]


@dataclass(frozen=True)
class Addition:
    """Files and entries that a target adds to a bundle.

    Attributes:
        files: contents by path in the bundle.
        record: its entry in manifest.json; empty: none.
        summary: by path, what a person should know of a file.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, str] = field(default_factory=dict)
