"""A warning where ONNX Runtime may cut off sums of 8-bit products: on x86 processors without VNNI."""

from __future__ import annotations

import logging
import platform
from collections.abc import Collection
from pathlib import Path

from cunet_deploy.cpu import cpu_features, may_saturate, read_cpuinfo
from cunet_deploy.manifest import Manifest

__all__ = ["saturation_warning", "warn_of_saturation"]

_log = logging.getLogger(__name__)
_warned: list[Path] = []


def saturation_warning(
    path: Path, manifest: Manifest, features: Collection[str], architecture: str = platform.machine()
) -> str:
    """What to say about a network on a processor; empty where its sums fit.

    Args:
        path: of the network.
        manifest: of the network.
        features: instruction sets of the processor, see `cunet_deploy.cpu.FEATURES`.
        architecture: of the processor.
    """
    if manifest.weight_bits == 32 or manifest.reduced_range or not may_saturate(features, architecture):
        return ""
    return (
        f"{path}: this processor has no VNNI, so ONNX Runtime may cut off sums of 8-bit products, which moves "
        f"landmarks; 'cunet-deploy verify {path.parent}' tells how far; --backend openvino or a model of 'cunet-deploy "
        "export --reduce-range' avoids it"
    )


def warn_of_saturation(path: Path, manifest: Manifest) -> None:
    """Log `saturation_warning` for this machine, once in the life of the program."""
    if _warned:
        return
    message = saturation_warning(path, manifest, cpu_features(read_cpuinfo()))
    if message:
        _warned.append(path)
        _log.warning("%s", message)
