"""Bring what `tools/verify_arm.sh` found together, and print it.

    python -m tools.processors.report build/processors/results
    python -m tools.processors.report build/processors/results --json docs/processors.json

``python -m tools.docs write`` makes docs/processors.md of the second. When a few models have changed, run
``MODELS=NAME,NAME tools/verify_arm.sh``, and add ``--keep docs/processors.json``: it keeps what is recorded there of
the other models, where their files and the versions of the libraries are still the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cunet_deploy.errors import InputError, VerificationError
from tools.processors.check import model_digest, released
from tools.reports import errors_in_a_line, signed, write_report

__all__ = ["collect", "table"]

REFERENCE = "this machine"
GROUPS = {
    "crop pixels": ("pixels",),
    "pixels of video": ("pixels of video",),
    "heatmap values": ("heatmap values",),
    "landmarks, px": ("coordinates",),
    "bytes of records": ("bytes of records",),
}
"""Columns of the table, and the units that each counts."""


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--keep", type=click.Path(path_type=Path), help="Keep rows of this report, of models not in RESULTS.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all of it here.")
@errors_in_a_line
def main(results: Path, keep: Path | None, json_path: Path | None) -> None:
    """Print the reports in the folder RESULTS as one table; exit code 4 where a value differs."""
    report = collect(results)
    if keep is not None:
        report = merge(report, json.loads(keep.read_text(encoding="utf-8")))
    click.echo(table(report), nl=False)
    write_report(json_path, signed(report))
    wrong = [run["name"] for run in report["runs"] if any(row["differing"] for row in run["rows"])]
    if wrong:
        raise VerificationError(f"values differ on {', '.join(wrong)}")


def collect(results: Path) -> dict[str, Any]:
    """The reports of a folder: the machine that wrote the reference, and the processors compared with it.

    Raises:
        InputError: there is no reference, or nothing to compare with it.
    """
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(results.glob("*.json"))]
    reference = [run for run in found if run["name"] == REFERENCE]
    runs = [run for run in found if run["name"] != REFERENCE]
    if not (reference and runs):
        raise InputError(f"{results}: holds no reports of {REFERENCE} and of others; run: tools/verify_arm.sh")
    emulator = results / "qemu.txt"
    text = emulator.read_text(encoding="utf-8").strip() if emulator.is_file() else ""
    told = {key: reference[0][key] for key in ("processor", "instruction_sets", "versions")}
    return {"emulator": text, "reference": told, "runs": sorted(runs, key=_place)}


def merge(report: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Add the rows of models that a report lacks from an earlier one.

    Raises:
        InputError: a released model is in neither, or the earlier one is of another file of it, of other processors,
            or of other versions.
    """
    about = [(run["name"], run["versions"], run["short"]) for run in report["runs"]]
    if about != [(run["name"], run["versions"], run["short"]) for run in earlier["runs"]]:
        raise InputError("the earlier report is of other processors or versions; check all models again")
    models = released()
    merged = []
    for run, before in zip(report["runs"], earlier["runs"], strict=True):
        new = {row["of"] for row in run["rows"]}
        kept = [row for row in before["rows"] if row["of"] in models and row["of"] not in new]
        stale = sorted({row["of"] for row in kept if row.get("sha256") != model_digest(row["of"])})
        stale += sorted(set(models) - new - {row["of"] for row in kept})
        if stale:
            raise InputError(f"{', '.join(stale)}: changed since the earlier report; check these models, too")
        merged.append({**run, "rows": sorted([*run["rows"], *kept], key=lambda row: _stage(row["of"], models))})
    return {**report, "runs": merged}


def _stage(of: str, models: list[str]) -> tuple[int, str]:
    """Place of a row: what comes before the models, the models by name, and what comes behind them."""
    return (1, of) if of in models else (2 if of == "infer" else 0, "")


def _place(run: dict[str, Any]) -> tuple[bool, bool, str]:
    """Arm first, the versions of the reference before the oldest ones."""
    return "asimd" not in run["instruction_sets"], "," in run["name"], run["name"]


def table(report: dict[str, Any]) -> str:
    """A Markdown table: what differs from the reference, by processor."""
    text = "| processor | instruction sets | ONNX Runtime | numpy | OpenCV |" + "".join(f" {name} |" for name in GROUPS)
    text += "\n" + "|---" * (5 + len(GROUPS)) + "|\n"
    for run in report["runs"]:
        versions = run["versions"]
        cells = [f"`{run['name']}`", ", ".join(run["instruction_sets"]) or "-"]
        cells += [versions[name] for name in ("onnxruntime", "numpy", "opencv")]
        cells += [_cell([row for row in run["rows"] if row["unit"] in units]) for units in GROUPS.values()]
        text += f"| {' | '.join(cells)} |\n"
    return text


def _cell(rows: list[dict[str, Any]]) -> str:
    """Number of differing values, or the distance of those that need not be the same in every bit."""
    if not rows:
        return "-"
    if "largest" in rows[0]:
        return f"{max(row['largest'] for row in rows):.0e}"
    differing, values = (sum(row[key] for row in rows) for key in ("differing", "values"))
    return f"{differing} of {values:,} differ"


if __name__ == "__main__":
    main()
