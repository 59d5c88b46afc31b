"""Names of Arm processors, which Linux tells by numbers alone."""

from __future__ import annotations

import re

__all__ = ["arm_names"]

_ARM = "0x41"
_PARTS = {
    (_ARM, "0xd03"): "Cortex-A53",
    (_ARM, "0xd04"): "Cortex-A35",
    (_ARM, "0xd05"): "Cortex-A55",
    (_ARM, "0xd07"): "Cortex-A57",
    (_ARM, "0xd08"): "Cortex-A72",
    (_ARM, "0xd09"): "Cortex-A73",
    (_ARM, "0xd0a"): "Cortex-A75",
    (_ARM, "0xd0b"): "Cortex-A76",
    (_ARM, "0xd0c"): "Neoverse-N1",
    (_ARM, "0xd0d"): "Cortex-A77",
    (_ARM, "0xd0e"): "Cortex-A76AE",
    (_ARM, "0xd40"): "Neoverse-V1",
    (_ARM, "0xd41"): "Cortex-A78",
    (_ARM, "0xd42"): "Cortex-A78AE",
    (_ARM, "0xd44"): "Cortex-X1",
    (_ARM, "0xd46"): "Cortex-A510",
    (_ARM, "0xd47"): "Cortex-A710",
    (_ARM, "0xd48"): "Cortex-X2",
    (_ARM, "0xd49"): "Neoverse-N2",
    (_ARM, "0xd4d"): "Cortex-A715",
    (_ARM, "0xd4e"): "Cortex-X3",
    (_ARM, "0xd4f"): "Neoverse-V2",
    (_ARM, "0xd80"): "Cortex-A520",
    (_ARM, "0xd81"): "Cortex-A720",
    (_ARM, "0xd82"): "Cortex-X4",
    (_ARM, "0xd83"): "Neoverse-V3AE",
    (_ARM, "0xd84"): "Neoverse-V3",
    ("0x4e", "0x003"): "NVIDIA Denver 2",
    ("0x4e", "0x004"): "NVIDIA Carmel",
    ("0xc0", "0xac3"): "Ampere-1",
}
"""Processors by the implementer and part of the main identification register, as Linux prints them."""


def arm_names(cpuinfo: str) -> list[str]:
    """Names of the processors of a ``/proc/cpuinfo`` text, each kind once; the numbers of those that are not known."""
    found = re.findall(r"^CPU implementer\s*:\s*(\w+)$.*?^CPU part\s*:\s*(\w+)$", cpuinfo, re.MULTILINE | re.DOTALL)
    names = (_PARTS.get((maker.lower(), part.lower()), f"Arm processor {maker}/{part}") for maker, part in found)
    return list(dict.fromkeys(names))
