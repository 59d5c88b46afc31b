"""The export targets, one row each: what ``cunet-deploy export --target NAME`` adds to a bundle.

Every bundle has model.onnx, which the row "cpu" stands for. This module loads nothing heavy: the command line makes its
choices, options and help from the table.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cunet_deploy.errors import InputError

if TYPE_CHECKING:
    from cunet_deploy.export.targets.base import Addition, ExportJob

__all__ = ["TARGETS", "Option", "Target", "get_target"]


@dataclass(frozen=True)
class Option:
    """An option of one target.

    Attributes:
        name: of the keyword of the target's writer, and on the command line.
        help: what it does.
        choices: what it can be; none: an integer from 1.
        is_file: it is a file instead.
    """

    name: str
    help: str
    choices: tuple[str, ...] = ()
    is_file: bool = False


@dataclass(frozen=True)
class Target:
    """Target of an export.

    Attributes:
        name: on the command line.
        help: what it adds, for people.
        writer: ``MODULE:FUNCTION`` that makes it; called as `write` is.
        files: patterns of what it adds, relative to the bundle; what an earlier export left there is removed.
        options: of this target only.
        command: the next command, with ``{bundle}`` for the folder; empty: to run the model.
        has_engine: `cunet_deploy.tensorrt.build` makes an engine of it.
    """

    name: str
    help: str
    writer: str
    files: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    command: str = ""
    has_engine: bool = False

    def write(self, job: ExportJob, options: Mapping[str, Any]) -> Addition:
        """Make what the target adds.

        Raises:
            InputError: the checkpoint or an option does not fit the target.
        """
        addition: Addition = pkgutil.resolve_name(self.writer)(job, **options)
        return addition

    def found_in(self, folder: Path) -> list[Path]:
        """The files of this target that lie in a folder."""
        return sorted(path for pattern in self.files for path in folder.glob(pattern) if path.is_file())


TARGETS = {
    target.name: target
    for target in (
        Target("cpu", "writes model.onnx", "cunet_deploy.export.targets.cpu:write"),
        Target(
            "tensorrt",
            "also writes model.tensorrt.onnx, from which cunet-deploy build makes an engine",
            "cunet_deploy.export.targets.tensorrt:write",
            files=("model.tensorrt.onnx",),
            options=(
                Option("carrier", "type between the convolutions; fp32 for TensorRT 8.6.", ("fp16", "fp32")),
                Option("features", "type of the features that are concatenated.", ("carrier", "int8")),
                Option("batch", "fix the batch size; the DLA needs it."),
            ),
            command="on the device: cunet-deploy build {bundle}",
            has_engine=True,
        ),
        Target(
            "triton",
            "also writes a model repository that NVIDIA Triton serves",
            "cunet_deploy.export.targets.triton:write",
            files=("triton/*/config.pbtxt", "triton/*/1/model.*"),
            options=(
                Option("device", "what the networks run on.", ("cpu", "gpu")),
                Option("instances", "requests that are worked on at a time.  [default: 1]"),
                Option("plan", "an engine of the model, which is served as NAME-engine.", is_file=True),
            ),
            command="on the server: tritonserver --model-repository {bundle}/triton",
        ),
        Target(
            "web",
            "also writes web/, a bundle for WebGPU and WebNN in browsers",
            "cunet_deploy.export.targets.web:write",
            files=("web/model.onnx", "web/manifest.json"),
        ),
    )
}
"""Targets by name; the first one is the default."""


def get_target(name: str) -> Target:
    """The target of that name.

    Raises:
        InputError: there is none.
    """
    if name not in TARGETS:
        raise InputError(f"export target {name!r} is unknown; expected one of {', '.join(TARGETS)}")
    return TARGETS[name]
