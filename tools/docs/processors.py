"""docs/processors.md: what is the same in every bit on which processor, from docs/processors.json."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from tools.processors.report import table
from tools.reports import replace_file

ROOT = Path(__file__).resolve().parents[2]
REPORT, DOCUMENT = ROOT / "docs" / "processors.json", ROOT / "docs" / "processors.md"

INTRODUCTION = """\
# What is bit-equal where

Written by `python -m tools.docs write` from [processors.json](processors.json), which `tools/verify_arm.sh` makes: it
runs the released models on emulated processors and compares every value with those of an ordinary machine.
`cunet-deploy verify BUNDLE --backend ort:cpu --exact` asks the same of the machine at hand.

## By stage

| stage | on every processor | why |
|---|---|---|
"""

STAGES = (
    ("JPEG and PNG to pixels", "the same bits", "with the same OpenCV"),
    (
        "video files to pixels",
        "the same bits",
        "with the same FFmpeg (PyAV); its inverse transform and its colours are those that round alike everywhere "
        "(`media/readers`)",
    ),
    ("cameras to pixels", "not known", "drivers and OpenCV convert"),
    (
        "shrinking and cropping",
        "the same bits",
        "sums of integers, or of floats that hold them exactly (`preprocess.py`)",
    ),
    (
        "networks of at most 8 bits in ONNX Runtime on the CPU",
        "the same bits",
        "products of integers; on x86 without VNNI exact sums take the place of those that are cut off",
    ),
    ("float networks", "nearly", "sums of floats depend on their order"),
    (
        "networks in OpenVINO or TensorRT",
        "nearly",
        "they round ties otherwise; `cunet-deploy verify` tells how far that moves landmarks. On Arm OpenVINO computes "
        "8-bit networks in float",
    ),
    ("heatmaps to landmarks", "{decoded}", "logarithms in float64, of which float32 is kept"),
)
RECORDED = ("records of pictures", "the same bytes", "rounded to two decimals")
"""A stage that short runs leave out."""

COLUMNS = """\
Pixels are those of drawn faces, resized pictures and crops of a photo that are enlarged, shrunk, turned and partly
outside; those of video are every tenth frame of the demo clip. Heatmap values are those of {models} released models on
{inputs} (of networks with inputs of 320 px as many pixels); every second input of noise holds 0 and 255 alone.
Landmarks are read from these heatmaps; the largest difference is shown. {records}
"""
_TOLD = "face68-s"
"""The model whose inputs are named."""
RECORDS = "Records are those of `infer` for frames of the demo clip that are given as pictures."


def update(*, write: bool) -> list[Path]:
    """docs/processors.md where it is not current; with ``write`` it is brought up to date."""
    return replace_file(DOCUMENT, document(), write=write)


def document() -> str:
    """The text, of the report."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    rows = [row for run in report["runs"] for row in run["rows"]]
    decoded = max(row["largest"] for row in rows if "largest" in row)
    stages = (*STAGES, *([RECORDED] if _has_records(rows) else []))
    return "".join(
        [
            INTRODUCTION,
            "".join(f"| {' | '.join(stage)} |\n" for stage in stages).replace(
                "{decoded}", f"to {decoded:.0e} px" if decoded else "the same bits in what was compared"
            ),
            f"\n## By processor\n\nAgainst {_reference(report)}, emulated by {report['emulator']}.\n\n",
            table(report),
            f"\n{_columns(rows)}",
        ]
    )


def _has_records(rows: list[dict[str, Any]]) -> bool:
    return any(row["unit"] == "bytes of records" for row in rows)


def _columns(rows: list[dict[str, Any]]) -> str:
    """Describe in words what was compared."""
    models = {row["of"] for row in rows if row["unit"] == "heatmap values"}
    inputs = dict.fromkeys(row["inputs"] for row in rows if row["of"] == _TOLD and row["unit"] == "heatmap values")
    text = COLUMNS.replace("{models}", str(len(models))).replace("{inputs}", ", ".join(inputs))
    return textwrap.fill(text.replace("{records}", RECORDS if _has_records(rows) else ""), 120) + "\n"


def _reference(report: dict[str, Any]) -> str:
    reference = report["reference"]
    versions = reference["versions"]
    libraries = f"ONNX Runtime {versions['onnxruntime']}, numpy {versions['numpy']}, OpenCV {versions['opencv']}"
    return f"{reference['processor']} ({', '.join(reference['instruction_sets'])}) with {libraries}"
