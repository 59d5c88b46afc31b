"""The latencies in docs/serving.md, from docs/serving.json, which `tools.experiments.triton` writes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from tools.reports import replace_between

ROOT = Path(__file__).resolve().parents[2]
REPORT, DOCUMENT = ROOT / "docs" / "serving.json", ROOT / "docs" / "serving.md"

HEADER = """\
| clients at once | requests | lost | refused | answered a second | half within | 90 % within | 99 % within |
|---|---|---|---|---|---|---|---|
"""


def update(*, write: bool) -> list[Path]:
    """docs/serving.md where it is not current; with ``write`` it is brought up to date."""
    return [] if replace_between(DOCUMENT, "triton", text(), write=write) else [DOCUMENT]


def text() -> str:
    """The table, of the report."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    machine, versions, burst = report["machine"], report["versions"], report["burst"]
    note = f"; {report['note']}" if report["note"] else ""
    about = (
        f"`{report['model']}` on {report['instances']} instances, asked over gRPC by clients on the same machine: "
        f"{machine['processor']}, {machine['cpus']} processors, nvidia-pytriton {versions['nvidia-pytriton']}{note}. "
        f"Of {burst['sent']} requests sent at once {burst['answered']} were answered; {burst['refused']} did not fit "
        "into the queue and were refused."
    )
    return "".join([HEADER, *map(_row, report["rows"]), "\n", textwrap.fill(about, 124), "\n"])


def _row(row: dict[str, Any]) -> str:
    sent = row["answered"] + row["refused"] + row["lost"]
    times = " | ".join(f"{row[f'p{share}_ms']:.0f} ms" for share in (50, 90, 99))
    return f"| {row['clients']} | {sent:,} | {row['lost']} | {row['refused']} | {row['per_second']:.0f} | {times} |\n"
