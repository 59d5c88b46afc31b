"""Licences of weights: which of them allow every use, and what is asked for on this machine.

A manifest names the licence of its weights. ``--licence open``, ``Localizer(licence="open")`` and the environment
variable ``CUNET_LICENCE=open`` refuse weights whose licence is not in `OPEN_LICENCES`; see `cunet_deploy.zoo`. Commands
that only measure or check a model, such as ``bench``, ``evaluate`` and ``verify``, take weights of any licence.
"""

from __future__ import annotations

import os
from pathlib import Path

from cunet_deploy.errors import InputError

__all__ = ["CHOICES", "OPEN_LICENCES", "RESEARCH", "is_open", "stated_licence", "wanted_licence"]

OPEN_LICENCES = (
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC-BY-4.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unlicense",
    "Zlib",
)
"""Licences that allow every use, at most with the names of the authors, by their SPDX identifiers."""

RESEARCH = "research"
"""Licence, in a manifest, of weights that learnt from data for research only."""

_LEGAL_CODE = "Creative Commons Legal Code"

CHOICES = ("any", "open")
"""Values of ``--licence`` and ``CUNET_LICENCE``; the first is the default."""


def is_open(licence: str) -> bool:
    """Return whether weights under a licence may be used for every purpose."""
    return licence in OPEN_LICENCES


def stated_licence(folder: Path) -> str:
    """Title of the ``LICENSE`` of a folder, its first line; empty where there is none.

    The texts of Creative Commons begin with a line that all of them share; theirs is the next one.
    """
    for path in sorted(folder.glob("LICEN[CS]E*")):
        lines = [line.strip() for line in path.read_text("utf-8-sig", errors="replace").splitlines() if line.strip()]
        if lines and lines[0] == _LEGAL_CODE:
            del lines[0]
        if lines:
            return lines[0][:200]
    return ""


def wanted_licence(given: str | None = None) -> str:
    """One of `CHOICES`: what was given, else what ``CUNET_LICENCE`` says, else any.

    Raises:
        InputError: it is none of them.
    """
    value = given if given is not None else os.environ.get("CUNET_LICENCE") or CHOICES[0]
    if value not in CHOICES:
        where = "CUNET_LICENCE" if given is None else "licence"
        raise InputError(f"{where} is {value!r}; expected {' or '.join(CHOICES)}")
    return value
