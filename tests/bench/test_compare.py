from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cunet_deploy.bench.compare import Baseline, number_rows
from cunet_deploy.bench.plot import Bar, draw_bars
from cunet_deploy.errors import ArtifactError, InputError

Row = tuple[str, float, float]
"""Model, milliseconds, and half the width of the intervals as a share."""


def spread(value: float, noise: float) -> dict[str, float]:
    return {"value": value, "ci95_low": value * (1 - noise), "ci95_high": value * (1 + noise)}


def report(*rows: Row, rounds: int = 30) -> dict[str, Any]:
    models = [
        {
            "model": model,
            "backend_name": "ort:cpu",
            "threads": 1,
            "batch": 1,
            "total_median_ms": spread(ms, noise),
            "total_ratio_to_first": spread(ms / rows[0][1], noise if index else 0),
        }
        for index, (model, ms, noise) in enumerate(rows)
    ]
    machine, versions = {"processor": "A", "cpus": 2}, {"onnxruntime": "1"}
    given = {"input": "drawn", "detector": "full"}
    return {"rounds": rounds, "models": models, "machine": machine, "versions": versions, **given}


@pytest.fixture
def baseline(tmp_path: Path) -> Callable[[dict[str, Any]], Baseline]:
    def read(table: dict[str, Any]) -> Baseline:
        path = tmp_path / "before.json"
        path.write_text(json.dumps(table))
        return Baseline.read(path)

    return read


Read = Callable[[dict[str, Any]], Baseline]


def test_a_slower_machine_is_no_regression_where_the_first_row_is_slower_too(baseline: Read) -> None:
    before = baseline(report(("a", 10, 0.01), ("b", 5, 0.01)))
    found = before.compare(report(("a", 30, 0.01), ("b", 15, 0.01)), 0.05)
    (change,) = found.changes
    assert change.relative
    assert change.factor.value == pytest.approx(1)
    assert not found.regressions


def test_a_row_that_got_slower_than_the_first_is_a_regression(baseline: Read) -> None:
    found = baseline(report(("a", 10, 0.01), ("b", 5, 0.01))).compare(report(("a", 10, 0.01), ("b", 6, 0.01)), 0.05)
    (change,) = found.regressions
    assert change.line().startswith("b, ort:cpu, 1 thread(s), batch 1: time as a multiple of the first row is 1.200 (")
    assert found.to_dict()["rows"][0]["regression"]


@pytest.mark.parametrize(
    ("old_noise", "new_noise", "tolerance", "regression"),
    [
        pytest.param(0.01, 0.01, 0.05, True, id="clear"),
        pytest.param(0.15, 0.01, 0.05, False, id="noise before"),
        pytest.param(0.01, 0.15, 0.05, False, id="noise now"),
        pytest.param(0.01, 0.01, 0.2, False, id="tolerated"),
    ],
)
def test_a_single_row_is_judged_by_its_time_and_the_noise_of_both(
    baseline: Read, old_noise: float, new_noise: float, tolerance: float, regression: bool
) -> None:
    found = baseline(report(("a", 10, old_noise))).compare(report(("a", 11.5, new_noise)), tolerance)
    assert not found.changes[0].relative
    assert found.changes[0].factor.value == pytest.approx(1.15)
    assert bool(found.regressions) == regression


def test_both_intervals_add_up_as_squares(baseline: Read) -> None:
    found = baseline(report(("a", 10, 0.03))).compare(report(("a", 10, 0.04)), 0)
    factor = found.changes[0].factor
    assert factor.low == pytest.approx(1 - 0.05, abs=0.003)
    assert factor.high == pytest.approx(1 + 0.05, abs=0.003)


def test_times_are_compared_where_the_first_rows_differ(baseline: Read) -> None:
    found = baseline(report(("a", 10, 0), ("b", 5, 0))).compare(report(("b", 6, 0), ("a", 10, 0)), 0.05)
    assert [(change.key[0], change.relative) for change in found.changes] == [("b", False), ("a", False)]
    assert [change.key[0] for change in found.regressions] == ["b"]


def test_another_machine_other_versions_and_rows_of_one_run_only_are_said(baseline: Read) -> None:
    new = report(("a", 10, 0), ("c", 5, 0))
    new["machine"]["processor"], new["versions"]["onnxruntime"] = "B", "2"
    notes = " | ".join(baseline(report(("a", 10, 0), ("b", 5, 0))).compare(new, 0.05).notes)
    assert "processor A, now B" in notes
    assert "onnxruntime 1, now 2" in notes
    assert "1 of 2 rows are not in" in notes
    assert "the first row, a," in notes


def test_equal_rows_are_told_apart_by_their_place() -> None:
    key = ("a", "ort:cpu", 1, 1)
    assert number_rows([key, ("b", "ort:cpu", 1, 1), key]) == [(*key, 0), ("b", "ort:cpu", 1, 1, 0), (*key, 1)]


def test_what_cannot_be_compared_is_refused_before_it_is_measured(baseline: Read) -> None:
    before = baseline(report(("a", 10, 0)))
    keys = number_rows([("a", "ort:cpu", 1, 1)])
    before.check(keys, ("drawn", "full"), 5)
    with pytest.raises(InputError, match="needs 5 rounds"):
        before.check(keys, ("drawn", "full"), 4)
    with pytest.raises(InputError, match="use the same"):
        before.check(keys, ("clip.mp4", "full"), 5)
    with pytest.raises(InputError, match="it has a ort:cpu threads 1 batch 1"):
        before.check(number_rows([("a", "ort:cpu", 2, 1)]), ("drawn", "full"), 5)
    with pytest.raises(InputError, match="too few"):
        baseline(report(("a", 10, 0), rounds=4))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "fast", None])
def test_a_report_with_an_impossible_time_is_damaged(baseline: Read, value: object) -> None:
    table = report(("a", 10, 0))
    table["models"][0]["total_median_ms"]["ci95_low"] = value
    with pytest.raises(ArtifactError, match="no report of bench"):
        baseline(table)


def test_a_bar_is_as_long_as_its_stages_and_each_has_its_colour() -> None:
    picture = draw_bars("title", [Bar("a", {"crop": 1, "network": 4}), Bar("b", {"crop": 2, "network": 8})])
    lengths = []
    for colour in ((0, 159, 230), (233, 180, 86)):
        rows, counts = np.unique(np.nonzero((picture == colour).all(axis=2))[0], return_counts=True)
        bars = [int(counts[(rows >= top) & (rows < top + 34)].max()) for top in (130, 208)]  # rows without letters
        lengths.append(bars)
    (crop_a, crop_b), (network_a, network_b) = lengths
    assert crop_b == pytest.approx(2 * crop_a, abs=3)
    assert network_b == pytest.approx(2 * network_a, abs=3)
    assert network_a == pytest.approx(4 * crop_a, abs=6)


@pytest.mark.parametrize(
    "bars", [[Bar("a", {"crop": 0.0})], [Bar("é" * 300, {"crop": 1e-5, "x": 9e5}, "n" * 500)] * 20]
)
def test_any_numbers_and_names_can_be_drawn(bars: list[Bar]) -> None:
    picture = draw_bars("t" * 400, bars)
    assert picture.shape[1] == 1600
    assert (picture != 255).any()
