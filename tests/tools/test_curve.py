"""The note below the picture of error against latency: what it was measured on, and what has changed since."""

from __future__ import annotations

from typing import Any

from tools.experiments import curve


def row(name: str, error: float) -> dict[str, Any]:
    return {"name": name, curve.ERROR: {"value": error, "ci95_low": error - 0.1, "ci95_high": error + 0.1}}


def test_models_that_changed_since_the_picture_are_named() -> None:
    report = {"objects": 9, "rounds": 7, "machine": {"processor": "P"}}
    rows = [row("old", 3.28), row("same", 3.507), row("narrow", 4.2)]
    text = curve.note({**report, "models": rows}, {"old": 3.31, "same": 3.5074, "other": 1.0}).replace("\n", " ")
    assert text.startswith(
        "On 9 faces, with 95 % intervals, and on one thread of P, 7 turns each. It shows `old` before"
    )
    assert "same" not in text
    assert "narrow" not in text
    assert "It shows" not in curve.note({**report, "models": rows}, {"old": 3.28})


def test_the_note_of_the_docs_is_current() -> None:
    assert curve.update(write=False) == []
