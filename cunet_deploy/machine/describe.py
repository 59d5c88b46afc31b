"""Machine and versions of a measurement."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy import __version__
from cunet_deploy.machine.cpu import available_cpus, cpu_features, cpu_name, read_cpuinfo

__all__ = ["describe_machine", "describe_versions"]

BOARD = Path("/proc/device-tree/model")
MEMINFO = Path("/proc/meminfo")


def describe_machine() -> dict[str, Any]:
    """Processor, instruction sets, memory and operating system; what cannot be found out is left out."""
    text = read_cpuinfo()
    board = _read(BOARD).strip("\0 \n")
    found = {
        "processor": cpu_name(text) or platform.processor() or platform.machine(),
        "board": board,
        "architecture": platform.machine(),
        "cpus": available_cpus(),
        "instruction_sets": cpu_features(text),
        "virtual_machine": "hypervisor" in text if text else None,
        "memory_gib": _memory_gib(_read(MEMINFO)),
        "system": f"{platform.system()} {platform.release()}",
    }
    return {key: value for key, value in found.items() if value not in (None, "", [])}


def describe_versions(*packages: str) -> dict[str, str]:
    """Versions of Python, this package, numpy, OpenCV and of ``packages`` where they are installed.

    Nothing heavy is imported for it: versions are read from the installed metadata.
    """
    import cv2  # broken installations are common, and the rest of this module serves to find that out

    found = {
        "python": platform.python_version(),
        "cunet_deploy": __version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _memory_gib(meminfo: str) -> float | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return round(int(match.group(1)) / 2**20, 1) if match else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
