"""The processor: its name, how many of it there are, and the instruction sets that 8-bit networks depend on."""

from __future__ import annotations

import itertools
import os
import platform
import re
import sys
from collections.abc import Collection
from pathlib import Path

from cunet_deploy.machine.arm import arm_names

__all__ = [
    "CPUINFO",
    "FEATURES",
    "available_cpus",
    "cpu_features",
    "cpu_name",
    "is_x86",
    "may_saturate",
    "read_cpuinfo",
]

CPUINFO = Path("/proc/cpuinfo")

FEATURES = (
    # x86: what float and 8-bit convolutions are built from
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    # Arm
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""Instruction sets that decide how fast a convolution can be, as Linux spells them."""

_X86 = ("x86_64", "amd64", "i386", "i686")
_WIDE_SUMS = ("avx_vnni", "avx512_vnni", "amx_int8")


def available_cpus() -> int:
    """Count the logical processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def cpu_features(cpuinfo: str) -> list[str]:
    """The `FEATURES` that the first processor of a ``/proc/cpuinfo`` text has, in that order."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    has = set(match.group(1).split()) if match else set()
    return [name for name in FEATURES if name in has]


def cpu_name(cpuinfo: str) -> str:
    """The name of the processor of a ``/proc/cpuinfo`` text, with family and model where that is all it tells.

    Arm boards may have several kinds of processors; those that the text lists are named.
    """
    fields: dict[str, str] = dict(re.findall(r"^([\w ]+?)\s*:[ \t]*(.*)$", cpuinfo.partition("\n\n")[0], re.MULTILINE))
    name = fields.get("model name", "").strip()
    if name and "cpu family" in fields:
        return f"{name} (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name or ", ".join(arm_names(cpuinfo))


def is_x86(architecture: str | None = None) -> bool:
    """Return whether an architecture, as `platform.machine` tells that of this machine, is x86."""
    return (platform.machine() if architecture is None else architecture).lower() in _X86


def may_saturate(features: Collection[str], architecture: str = platform.machine()) -> bool:
    """Return whether products of unsigned and signed bytes may be cut off on a processor.

    Without VNNI, x86 adds two such products in 16 bits, which hold 32767 at most: 255 * 127 * 2 = 64770 is cut off.
    Weights of 7 bits cannot get there: 255 * 63 * 2 = 32130. Arm widens before it adds.

    Args:
        features: the `FEATURES` that it has; none are known outside Linux, and then nothing is claimed.
        architecture: as `platform.machine` tells it.
    """
    return bool(features) and is_x86(architecture) and not set(features) & set(_WIDE_SUMS)


def read_cpuinfo() -> str:
    """Read what Linux says of the first processor; empty on other systems."""
    try:
        with CPUINFO.open(encoding="utf-8", errors="replace") as file:
            return "".join(itertools.takewhile(str.strip, file))  # the kernel makes up the rest when it is read
    except OSError:
        return ""
