"""The table of the generalization gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tools.experiments import generalization


def accuracy(value: float) -> dict[str, Any]:
    return {"people": 9, "pck_20_percent": {"value": value, "ci95_low": value - 1, "ci95_high": value + 1}}


def test_a_source_has_a_row_and_a_model_two_columns() -> None:
    rows = [
        {"model": model, "source": source, "learned": accuracy(high), "others": accuracy(low)}
        for model, high, low in (("s", 60, 50), ("m", 70, 55))
        for source in ("MPII", "COCO")
    ]
    text = generalization.table_of({"rows": rows, "command": "x"})
    assert "| people of | how many | `s`: learned from | others | `m`: learned from | others |" in text
    expected = "60.0 % (59.0 to 61.0) | 50.0 % (49.0 to 51.0) | 70.0 % (69.0 to 71.0) | 55.0 % (54.0 to 56.0) |"
    assert [line for line in text.splitlines() if line.startswith("| COCO")] == [f"| COCO | 9 and 9 | {expected}"]


def test_detectors_have_a_table_of_recall() -> None:
    learned = {"people": 9, "recall_percent": {"value": 60, "ci95_low": 59, "ci95_high": 61}}
    others = {"people": 4, "recall_percent": {"value": 50, "ci95_low": 40, "ci95_high": 58}}
    rows = [{"model": "p", "source": "MPII", "learned": learned, "others": others}]
    text = generalization.boxes_table_of({"rows": rows, "command": "x"})
    assert "| MPII | 9 and 4 | 60.0 % (59.0 to 61.0) | 50.0 % (40.0 to 58.0) |" in text
    assert "Recall" in text


def test_detectors_and_models_of_landmarks_are_not_compared(tmp_path: Path) -> None:
    models = ["models/person-detect-s", "models/pose14-s"]
    result = CliRunner().invoke(generalization.main, [*models, "--data", str(tmp_path)])
    assert result.exit_code != 0
    assert "give those of one kind" in result.output


def test_the_table_of_the_docs_is_current() -> None:
    assert generalization.update(write=False) == []
