"""What machine and which versions a measurement was taken with."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy import __version__

__all__ = ["available_cpus", "cpu_features", "cpu_name", "describe_machine", "describe_versions"]

CPUINFO = Path("/proc/cpuinfo")
BOARD = Path("/proc/device-tree/model")
MEMINFO = Path("/proc/meminfo")

FEATURES = (
    # x86: what float and 8-bit convolutions are built from
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    # Arm
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""Instruction sets that decide how fast a convolution can be, as Linux spells them."""


def describe_machine() -> dict[str, Any]:
    """Processor, instruction sets, memory and operating system; what cannot be found out is left out."""
    text = _read(CPUINFO)
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
    """Versions of Python, this package, numpy, OpenCV and ONNX Runtime, and of further ``packages`` where installed.

    Nothing heavy is imported for it: versions are read from the installed metadata.
    """
    import cv2  # broken installations are common, and the rest of this module serves to find that out

    found = {
        "python": platform.python_version(),
        "cunet_deploy": __version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    for package in ("onnxruntime", *packages):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def available_cpus() -> int:
    """How many logical processors this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def cpu_features(cpuinfo: str) -> list[str]:
    """The `FEATURES` that the first processor of a ``/proc/cpuinfo`` text has, in that order."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    has = set(match.group(1).split()) if match else set()
    return [name for name in FEATURES if name in has]


def cpu_name(cpuinfo: str) -> str:
    """The name of the first processor of a ``/proc/cpuinfo`` text, with family and model where that is all it tells."""
    fields: dict[str, str] = dict(re.findall(r"^([\w ]+?)\s*:[ \t]*(.*)$", cpuinfo.partition("\n\n")[0], re.MULTILINE))
    name = fields.get("model name", "").strip()
    if name and "cpu family" in fields:
        return f"{name} (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name


def _memory_gib(meminfo: str) -> float | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return round(int(match.group(1)) / 2**20, 1) if match else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
