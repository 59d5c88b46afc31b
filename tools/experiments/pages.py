"""docs/tables.md from recorded results, for `reproduce.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cunet_deploy import metrics

__all__ = ["document"]

Rows = Mapping[str, Mapping[str, Any]]
Results = Mapping[str, Mapping[str, Any]]

HEAD = """\
# What the method costs and what it brings

Written by `python -m tools.docs write` from the results under `tools/experiments/tables/results/`, each of which names
the command that made it; nothing here was typed in by hand. Rows that are not recorded are left out and named.

Trained rows start from [base.toml](../tools/experiments/tables/base.toml) (or from the model that a table names) and
change only what rows.toml beside it says: the same photos, the same schedule, the same seed. One seed each: the
intervals are 95 % bootstrap intervals over the test faces and say nothing about another seed. NME is by the outer eye
corners on {objects} faces of the HELEN subset, differences are paired. Networks are small (crops of 128 px) and their
schedules short, so that each trains in minutes on one core: the tables compare rows with each other, not with published
figures.
"""

SECTIONS = {
    "order": (
        "Order K of the dense connections",
        "Coupled U-Nets of 64 channels, N = 4. K = 0 is a stack of U-Nets that share nothing.",
    ),
    "depth": (
        "How many U-Nets: prefixes of one network",
        "`export --unets n` cuts a network behind its n-th U-Net. The first rows come from one training run of N = 4; "
        "the row trained alone shows what its own training would bring.",
    ),
    "refinement": (
        "Iterative refinement against twice the U-Nets",
        "Two passes through two U-Nets with the same convolutions and their own batch statistics, against two U-Nets "
        "and four.",
    ),
    "baselines": (
        "Against the baselines",
        "The hourglass has about three times the parameters of the CU-Net above it and was trained for the same time: "
        "its number of epochs is the CU-Net's, divided by the measured ratio of the time of a step (`measure steps`).",
    ),
    "memory-training": (
        "Training in less memory",
        "The same network and schedule, with and without what saves memory: concatenations and normalizations are "
        "computed again, and what is kept for the backward pass is rounded to 8 bits.",
    ),
    "bits": (
        "Bits",
        "`face68-s`, from its float weights, by quantization-aware training. I is the bits of the inputs of "
        "convolutions, W of weights, G of gradients; the first and last layers have 8-bit weights. Gradient "
        "quantization is an emulation: it shows what such training would reach and is not faster here.",
    ),
}


def document(rows: Rows, results: Results) -> str:
    """The whole page."""
    objects = next((result["objects"] for result in results.values() if "objects" in result), 0)
    parts = [HEAD.format(objects=objects)]
    for key in ("sizes", "latency", "memory", "device_memory", "steps"):
        if key in results:
            parts.append(_measured(results[key]))
    for table, (title, text) in SECTIONS.items():
        members = {name: row for name, row in rows.items() if table in row["tables"]}
        recorded = {name: row for name, row in members.items() if name in results}
        if recorded:
            parts.append(f"## {title}\n\n{text}\n\n{_trained(recorded, results)}")
        absent = [f"`{name}`" for name in members if name not in results]
        if absent:
            parts.append(f"Not recorded: {', '.join(absent)}.\n")
    notes = {_provenance(result): None for result in results.values()}
    parts.append("## Recorded on\n\n" + "".join(f"* {note}\n" for note in notes))
    return "\n".join(parts)


def _measured(result: Mapping[str, Any]) -> str:
    head = f"| {' | '.join(result['columns'])} |\n" + "|---" * len(result["columns"]) + "|\n"
    body = "".join(f"| {' | '.join(str(cell) for cell in row)} |\n" for row in result["rows"])
    return f"## {result['title']}\n\n{result['text']} Command: `{result['command']}`.\n\n{head}{body}"


def _trained(rows: Rows, results: Results) -> str:
    first = next(iter(rows))
    text = f"| | parameters | GMAC | NME | against {rows[first]['label']} | epochs | row |\n" + "|---" * 7 + "|\n"
    return text + "".join(f"| {' | '.join(_cells(name, row, results, first))} |\n" for name, row in rows.items())


def _cells(name: str, row: Mapping[str, Any], results: Results, first: str) -> Iterator[str]:
    result = results[name]
    yield row["label"]
    yield f"{result['parameters'] / 1e6:.3f} M"
    yield f"{result['macs'] / 1e9:.3f}"
    yield metrics.Estimate.of(result["nme_percent"]).text(unit="%")
    if name == first:
        yield "-"
    else:
        ours, theirs = (np.array(results[item]["nme_of_each"]) for item in (name, first))
        change = metrics.paired_relative_difference(ours, theirs).scaled(100)
        yield change.text(1, unit="%", sign=True)
    yield str(len(result["epochs"])) if result.get("epochs") else "-"
    yield f"`{name}`"


def _provenance(result: Mapping[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    return f"{machine['processor']}, {machine['cpus']} processors, " + ", ".join(
        f"{name} {version}" for name, version in versions.items() if name != "cunet_deploy"
    )
