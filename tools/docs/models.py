"""The tables of README.md and of the models' cards, from the models' ``numbers.json``; see models.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cunet_deploy.errors import InputError
from cunet_deploy.metrics import Estimate, pck_threshold
from cunet_deploy.skeletons import get_skeleton
from tools.reports import replace_between

__all__ = ["MARK", "table_of", "update_cards"]

MARK, SHORT_MARK = "released models", "models in short"
WEIGHTS = {"1": "binary", "ternary": "ternary"}
FINDS = {"face": "face points", "body": "body joints"}

HEADER = """\
| model | finds | weights | file | accuracy, float | accuracy, quantized | change | latency, float \
| latency, quantized | latency ratio, quantized to float | latency ratio to the 8-bit twin |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def table_of(all_numbers: list[dict[str, Any]]) -> str:
    """The Markdown table of measured models, with what it was measured on below."""
    if not all_numbers:
        raise InputError(
            "no model has a numbers.json yet; measure one: python -m tools.release.models NAME --float ..."
        )
    text = HEADER + "".join(_row(numbers) for numbers in all_numbers)
    notes = [*_accuracies_of(all_numbers), "95 % intervals, those of changes paired."]
    notes += _times_of(all_numbers)
    return f"{text}\n{' '.join(notes)} Written by `tools/release/models.py`.\n"


def _row(numbers: dict[str, Any]) -> str:
    accuracy, latency = numbers["accuracy"], numbers["latency"]
    cells = [
        *_described(numbers),
        *(f"{_title(numbers)} {_percent(accuracy[kind][_key(numbers)])}" for kind in ("float", "released")),
        _change(accuracy["metric"], accuracy["released_minus_float"]),
        f"{latency['float']['network_p50_ms']:.2f} ms",
        f"{latency['released']['network_p50_ms']:.2f} ms",
        f"{latency['network_ratio_released_to_float']['value']:.2f}",
        f"{latency['network_ratio_released_to_twin']['value']:.2f}" if "twin" in latency else "-",
    ]
    return f"| {' | '.join(cells)} |\n"


def _described(numbers: dict[str, Any]) -> tuple[str, str, str, str]:
    """Name, what is found, weights and size of the file."""
    return (
        f"`{numbers['model']}`",
        f"{len(get_skeleton(numbers['landmarks']))} {FINDS['face' if _of_face(numbers) else 'body']}",
        WEIGHTS.get(numbers["weights"], f"{numbers['weights']} bit"),
        f"{numbers['file']['bytes'] / 1e6:.2f} MB",
    )


def _of_face(numbers: dict[str, Any]) -> bool:
    return bool(numbers["accuracy"]["metric"].startswith("nme"))


def _title(numbers: dict[str, Any]) -> str:
    close = pck_threshold(get_skeleton(numbers["landmarks"]))
    return "NME" if close is None else close.title


def _key(numbers: dict[str, Any]) -> str:
    return f"{numbers['accuracy']['metric']}_percent"


def _percent(estimate: dict[str, float]) -> str:
    return Estimate.of(estimate).text(2 if estimate["value"] < 10 else 1, unit="%")


def _change(metric: str, differences: dict[str, Any]) -> str:
    """Change by quantization: relative of errors, in points of shares."""
    if metric.startswith("nme"):
        change, unit = Estimate.of(differences[f"{metric}_relative_difference_percent"]), "%"
    else:
        change, unit = Estimate.of(differences[f"{metric}_lost_percent_points"]).scaled(-1), "points"
    return change.text(1, unit=unit, sign=True)


def _by_text(all_numbers: list[dict[str, Any]], text_of: Callable[[dict[str, Any]], str]) -> dict[str, str]:
    """Group the names of models by the text that describes them."""
    names: dict[str, list[str]] = {}
    for numbers in all_numbers:
        names.setdefault(text_of(numbers), []).append(f"`{numbers['model']}`")
    return {text: ", ".join(own) for text, own in names.items()}


def _accuracies_of(all_numbers: list[dict[str, Any]]) -> list[str]:
    """Describe what was measured on what, with the names of body models where not all have the same crops."""
    measured = _by_text(all_numbers, _measured)
    if sum(text.startswith("Bodies") for text in measured) < 2:
        return list(measured)
    return [text.replace("Bodies", f"Bodies ({names})", 1) for text, names in measured.items()]


def _measured(numbers: dict[str, Any]) -> str:
    accuracy = numbers["accuracy"]
    normalizer, crops = accuracy["normalizer"].replace("_", " "), f"crops of {numbers['input_pixels']} px"
    if _of_face(numbers):
        return (
            f"Faces: NME by {normalizer} on {accuracy['objects']} faces of the {accuracy['dataset']}, {crops}; "
            "the change is relative to float, and positive where the error is larger."
        )
    return (
        f"Bodies: {_title(numbers)} by {normalizer} on {accuracy['objects']} people of the {accuracy['dataset']}, "
        f"{crops}, without test-time augmentation; the change is in points, and negative where fewer joints are right."
    )


def _times_of(all_numbers: list[dict[str, Any]]) -> list[str]:
    """Describe what was timed and on what, with names where it was not one machine for all."""
    timed = _by_text(all_numbers, _timed)
    if len(timed) == 1:
        return [f"Times are {text}" for text in timed]
    return [f"Times of {names} are {text}" for text, names in timed.items()]


def _timed(numbers: dict[str, Any]) -> str:
    machine = numbers["machine"]
    sets = ", ".join(machine.get("instruction_sets", []))
    return (
        "medians of the network alone, of one thread with batch 1 of ONNX Runtime "
        f"{numbers['versions']['onnxruntime']} on {machine['processor']}{f', {sets}' if sets else ''}; each model, "
        "its float parent and its 8-bit twin were timed in turns."
    )


def _parts_of(numbers: dict[str, Any]) -> str:
    """Rows of a body model: all people and parts of them, with and without augmentation."""
    accuracy, key = numbers["accuracy"], _key(numbers)
    scales = " and ".join(f"{scale:g}" for scale in accuracy["released_flip_test_scales"]["scales"][1:])
    augmented = f"with the flip test | flip test, also of crops {scales} times as large"
    text = f"| part | people | {_title(numbers)} | {augmented} | change from float |\n" + "|---" * 6 + "|\n"
    for name, part in {"all": accuracy, **accuracy.get("parts", {})}.items():
        cells = [
            name.rpartition(":")[2],
            str(part["objects"]),
            *(_percent(part[kind][key]) for kind in ("released", "released_flip_test", "released_flip_test_scales")),
            _change(accuracy["metric"], part["released_minus_float"]),
        ]
        text += f"| {' | '.join(cells)} |\n"
    return text


def short_table_of(all_numbers: list[dict[str, Any]]) -> str:
    """The table for README.md: what a model finds, how well, how large and how fast."""
    text = "| model | finds | weights | file | accuracy | time |\n" + "|---" * 6 + "|\n"
    for numbers in all_numbers:
        estimate = numbers["accuracy"]["released"][_key(numbers)]
        cells = (
            *_described(numbers),
            f"{_title(numbers)} {estimate['value']:.{2 if estimate['value'] < 10 else 1}f} %",
            f"{numbers['latency']['released']['network_p50_ms']:.1f} ms",
        )
        text += f"| {' | '.join(cells)} |\n"
    processors = {numbers["machine"]["processor"] for numbers in all_numbers}
    return (
        f"{text}\nNME: mean landmark error divided by the distance between the outer eye corners (lower is better). "
        "PCK@0.2: share of\njoints within 0.2 torso lengths of the label (higher is better). Times are of the network "
        "alone, without the detector,\non one thread"
        f"{' of ' + processors.pop() if len(processors) == 1 else ', not all on one machine'}.\n"
    )


def update_cards(models: Path, *, write: bool) -> list[Path]:
    """The documents that are not current: README.md, docs/models.md with all models and the card of each with its own.

    With ``write`` they are brought up to date, and none is left.
    """
    tables = {file: json.loads(file.read_text(encoding="utf-8")) for file in models.glob("*/numbers.json")}
    measured = {file.parent: numbers for file, numbers in tables.items() if "task" not in numbers}  # no detectors
    folders = sorted(measured, key=lambda folder: _place(measured[folder]))
    all_numbers = [measured[folder] for folder in folders]
    texts = {
        (models.parent / "README.md", SHORT_MARK): short_table_of(all_numbers),
        (models.parent / "docs" / "models.md", MARK): table_of(all_numbers),
    }
    for folder in folders:
        parts = "" if _of_face(measured[folder]) else f"\n{_parts_of(measured[folder])}"
        texts[folder / "README.md", MARK] = table_of([measured[folder]]) + parts
    return [path for (path, mark), text in texts.items() if not replace_between(path, mark, text, write=write)]


def _place(numbers: dict[str, Any]) -> tuple[bool, int, str, int]:
    """Sort key of a model: faces first, families by the size of their float parent, in each the largest file first."""
    size = numbers["file"]
    return not _of_face(numbers), size["float_bytes"], numbers["parent"], -size["bytes"]
