"""docs/speed.md, from the reports in docs/speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.peers import bodies, faces, paper
from tools.reports import replace_file

ROOT = Path(__file__).resolve().parents[2]
REPORTS, DOCUMENT = ROOT / "docs" / "speed", ROOT / "docs" / "speed.md"

INTRODUCTION = """\
# How fast it is, beside others

Written by `python -m tools.docs write` from the reports in [docs/speed](speed), each of which holds the command that
made it, machine and versions. In each table all take turns in one process, a few calls each, so that the ratios hold
even where the clock of the machine changes. Everything ran on CPUs; nothing here was timed on a GPU.
"""

PEERS = {
    "peers": (
        "Face models on the same crop and the same faces",
        "One thread, batch 1; NME on {objects} faces ({dataset}).",
    ),
    "frameworks": (
        "face68-m in other frameworks, and large networks",
        "One thread, batch 1; the large ones have random weights.",
    ),
}

POSE = """\
One thread, batch 1; PCK@0.2 of the torso on people in photos of the data sets whose other photos ours learned from:
gymnasts and climbers of Leeds Sports Pose Extended, fashion photos, and MPII. MediaPipe's network is made for people
who stand upright in its crop: its first line is in a crop like ours, which is not turned, the further ones are in crops
that are."""


def update(*, write: bool) -> list[Path]:
    """docs/speed.md where it is not current; with ``write`` it is brought up to date."""
    return replace_file(DOCUMENT, document(), write=write)


def document() -> str:
    """The text, of the reports that there are."""
    parts = [INTRODUCTION]
    for name, (title, text) in PEERS.items():
        report = _read(name)
        of: dict[str, Any] = next((row["accuracy"] for row in report["peers"] if row["accuracy"]), {})
        parts.append(f"\n## {title}\n\n{text.format(**of)} {_origin(report)}\n\n{faces.table(report['peers'])}")
    if (REPORTS / "pose.json").is_file():
        report = _read("pose")
        parts.append(f"\n## Body models on the same crop and the same people\n\n{POSE} {_origin(report)}\n\n")
        parts.append(bodies.table(report["peers"]))
    for threads in (1, 2):
        report = _read(f"paper-{threads}")
        plural = "thread" if threads == 1 else "threads"
        text = "CU-Net 2/128 with 68 landmarks at 256 px, random weights, against other quantizers."
        table = paper.table(report["networks"], report["pairs"])
        parts.append(f"\n## The paper's size, {threads} {plural}\n\n{text} {_origin(report)}\n\n{table}")
    return "".join(parts)


def _read(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))
    return report


def _origin(report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = "; ".join(report.get("missing", []))
    left_out = f" Left out: {missing}." if missing else ""
    return f"On {machine['processor']}; {known}. `{report['command']}`.{left_out}"
