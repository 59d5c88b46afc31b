"""What README.md and the cards say of detectors."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tool_scripts import load_tool


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_tool("measure_detector")


def numbers(**more: Any) -> dict[str, Any]:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "ci95_low": value - 1, "ci95_high": value + 1}

    row = {
        **{f"{key}_percent": estimate(90.0) for key in ("recall", "precision", "ap")},
        "photos": 7,
        "boxes": 9,
        "least_label_score": 0.8,
        "least_side_px": 24.0,
        "min_score": 0.5,
        "overlap": 0.5,
    }
    look = {"look_p50_ms": 4.0, "look_p95_ms": 5.0, "ratio_of_ours_to_it": estimate(1.0)}
    return {
        "model": "some-detect",
        "task": "boxes",
        "file": {"bytes": 290_000},
        "accuracy": {"dataset": "x#test", "float": row, "released": row, "parts": {"x#test": row}},
        "latency": {"threads": 1, "some-detect": look},
        "machine": {"processor": "P"},
        "versions": {"onnxruntime": "1"},
        **more,
    }


def test_people_are_said_to_be_people(script: ModuleType) -> None:
    assert "finds the faces: 90.0 %" in script.sentence_of(numbers())
    text = script.sentence_of(numbers(objects="people"))
    assert "finds the people: 90.0 % (89.0 to 91.0) of 9 people" in text
    assert "labelled joints" in text
    assert script.table_of(numbers(objects="people")).startswith("| | photos | people | recall |")


def test_a_data_set_has_the_same_name_everywhere(script: ModuleType, tmp_path: Path) -> None:
    assert script.name_of(tmp_path / "lspet#test:clean") == "lspet#test:clean"
    assert script.name_of(Path("/some/where/helen/testset")) == "helen/testset"
