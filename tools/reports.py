"""What the reports of all measuring tools have in common."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cunet_deploy._files import write_text_atomic
from cunet_deploy.bench.hardware import describe_machine, describe_versions

__all__ = ["signed", "write_report"]


def signed(report: dict[str, Any], *packages: str) -> dict[str, Any]:
    """A report with the command of this process, the machine, and the versions of libraries and further packages."""
    command = f"python tools/{Path(sys.argv[0]).name} " + " ".join(sys.argv[1:])
    return {"command": command, **report, "machine": describe_machine(), "versions": describe_versions(*packages)}


def write_report(path: Path | None, report: dict[str, Any]) -> None:
    """Write a report as JSON, in place of an earlier one; nowhere where ``path`` is ``None``."""
    if path is not None:
        write_text_atomic(path, json.dumps(report, indent=1, allow_nan=False) + "\n", overwrite=True)
