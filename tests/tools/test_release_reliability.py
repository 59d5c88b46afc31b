"""Reliability diagrams of released body models."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from cunet_deploy.metrics import bootstrap_calibration_error, reliability
from tools.release import reliability as script

pytest.importorskip("matplotlib")


def measured(name: str = "people#test") -> dict[str, Any]:
    """40 people with 14 joints; scores say the truth, and the second half of the joints is not labelled."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.3, 1, (40, 14))
    correct = (rng.uniform(size=scores.shape) < scores).astype(np.float64)
    correct[:, 7:] = np.nan
    error = SimpleNamespace(estimate=bootstrap_calibration_error(scores, correct).scaled(100))
    evaluation: Any = SimpleNamespace(
        examples=[None] * 40,
        limit=0.2,
        normalizer="torso",
        reliability=lambda: reliability(scores, correct),
        calibration_error=lambda: error,
    )
    return script.row_of(name, evaluation)


def test_ranges_hold_the_labelled_joints_and_empty_ones_are_left_out() -> None:
    row = measured()
    assert row["joints"] == sum(part["joints"] for part in row["ranges"]) == 280
    assert len(row["ranges"]) == 7
    assert all(abs(part["score"] - part["correct"]) < 0.25 for part in row["ranges"])


def test_the_picture_and_the_text_show_every_data_set() -> None:
    rows = [measured(), measured("lspet#test")]
    picture = cv2.imdecode(np.frombuffer(script.draw(rows), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert min(picture.shape[:2]) > 300
    assert script.draw(rows) != script.draw(rows[:1])
    text = script.text_of({"data": rows, "command": "python -m tools.release.reliability"})
    assert "| 40 of people#test | 280 |" in text
    assert "| 40 of lspet#test | 280 |" in text


def test_what_the_cards_quote_is_current() -> None:
    assert script.update_cards(Path(script.ROOT) / "models", write=False) == []
