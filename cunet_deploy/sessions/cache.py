"""The folder where what was found out about networks on this machine is kept, and the machine it holds for."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from cunet_deploy.machine.cpu import cpu_features, cpu_name

__all__ = ["cache_folder", "describe_processor"]


def cache_folder() -> Path | None:
    """Return the cache folder: ``CUNET_CACHE``, else ``cunet-deploy`` in the user's cache folder, if any.

    ``CUNET_CACHE=off``: nowhere.
    """
    given = os.environ.get("CUNET_CACHE")
    if given:
        return None if given.lower() == "off" else Path(given)
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "cunet-deploy"
    try:
        return Path.home() / ".cache" / "cunet-deploy"
    except RuntimeError:  # a user without a home
        return None


def describe_processor(cpuinfo: str) -> dict[str, Any]:
    """Describe what decides how a network runs on a processor, for JSON.

    Args:
        cpuinfo: see `cunet_deploy.machine.cpu.read_cpuinfo`.
    """
    return {
        "processor": cpu_name(cpuinfo) or platform.processor(),
        "architecture": platform.machine(),
        "instruction_sets": cpu_features(cpuinfo),
    }
