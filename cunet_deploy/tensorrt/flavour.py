"""Flavours of TensorRT: which one is installed and what it can do.

Versions 8.6 to 11 and TensorRT for RTX share one code path; where they differ, the question is always whether a name
exists, never which version it is.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from cunet_deploy._optional import require
from cunet_deploy.errors import ArtifactError, InputError, MissingDependencyError

__all__ = ["FLAVOURS", "Flavour", "is_installed", "load"]

FLAVOURS = ("tensorrt", "tensorrt_rtx")
"""Python modules, the first that is installed being the default."""

_JETSON = (53, 62, 72, 87, 101, 110)


@dataclass(frozen=True)
class Flavour:
    """An importable TensorRT.

    Attributes:
        name: "tensorrt" or "tensorrt_rtx".
        module: the Python module.
    """

    name: str
    module: ModuleType

    @property
    def trt(self) -> Any:
        """The module without its types, of which it has none."""
        return self.module

    @property
    def version(self) -> str:
        """Its version, for example "10.3.0"."""
        return str(getattr(self.module, "__version__", ""))

    @property
    def short_version(self) -> str:
        """The first two numbers of the version, for file names."""
        return ".".join(self.version.split(".")[:2])

    @property
    def is_portable(self) -> bool:
        """Return whether it builds for named compute capabilities, without a GPU."""
        return hasattr(self.trt.IBuilderConfig, "set_compute_capability")

    @property
    def has_strong_types(self) -> bool:
        """Return whether the types in the ONNX file decide; before that (8.6), flags allow INT8 and FP16."""
        return hasattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def has_timing_cache(self) -> bool:
        """Return whether a file can keep measured kernels. TensorRT for RTX has the functions but measures nothing."""
        return hasattr(self.trt.IBuilderConfig, "create_timing_cache") and not self.is_portable

    @property
    def has_progress(self) -> bool:
        """Return whether it reports progress."""
        return hasattr(self.trt, "IProgressMonitor")

    def compute_capability(self, number: int) -> Any:
        """The constant of a compute capability, 86 for 8.6.

        Raises:
            ArtifactError: this flavour builds for the GPU that is here, or does not know that one.
        """
        if not self.is_portable:
            raise ArtifactError(
                f"{self.name} {self.version} builds for the GPU of this machine only, so sm does not apply; "
                "leave it out, or take the flavour tensorrt_rtx"
            )
        names = self.trt.ComputeCapability.__members__
        known = {int(name[2:]): value for name, value in names.items() if name.startswith("SM")}
        if number not in known:
            jetson = " (a Jetson builds its own engines, with the flavour tensorrt)" if number in _JETSON else ""
            raise ArtifactError(
                f"{self.name} {self.version} cannot build for SM{number}{jetson}; choose from "
                f"{', '.join(str(item) for item in sorted(known))}"
            )
        return known[number]


def is_installed(name: str) -> bool:
    """Return whether a flavour can be found, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # in tests: a module without a specification
        return name in sys.modules


def load(name: str = "auto") -> Flavour:
    """Import a flavour.

    Args:
        name: "tensorrt", "tensorrt_rtx", or "auto" for the first of them that is installed.

    Raises:
        InputError: an unknown name.
        MissingDependencyError: it is not installed; the message is the install line.
    """
    if name == "auto":
        for candidate in FLAVOURS:
            try:
                return load(candidate)
            except MissingDependencyError:
                continue
        raise MissingDependencyError(
            "no TensorRT is installed; on a Jetson it comes with JetPack (make the environment with "
            "--system-site-packages); elsewhere run: pip install 'cunet-deploy[tensorrt]', "
            "or without a GPU: pip install 'cunet-deploy[tensorrt-rtx]'"
        )
    if name not in FLAVOURS:
        raise InputError(f"flavour must be auto, {' or '.join(FLAVOURS)}; got {name!r}")
    return Flavour(name, require(name, extra=name.replace("_", "-")))
