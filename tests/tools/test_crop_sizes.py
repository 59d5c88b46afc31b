"""The table of crop sizes shows gains over its first row, and times."""

from __future__ import annotations

from typing import Any

from tools.experiments import crop_sizes


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "ci95_low": value - 1, "ci95_high": value + 1}


def row(crop: int, value: float, gained: float, bits: int | None) -> dict[str, Any]:
    part = {"people": 9, "pck_20_percent": estimate(value), "gained_percent_points": estimate(gained)}
    coco = {"people#coco_test": {**part, "oks_ap_percent": estimate(value / 4)}}
    parts = {**dict.fromkeys(crop_sizes.PARTS, part), **coco}
    return {"crop": crop, "channels": 96, "bits": bits, "latency": {"network_p50_ms": crop / 64}, "parts": parts}


def test_gains_are_over_the_first_row() -> None:
    rows = [row(128, 60, 0, 8), row(192, 64, 4, None)]
    text = crop_sizes.table_of({"rows": rows, "machine": {"processor": "P"}, "command": "x"})
    gained = "64.0 %, +4.0 (+3.0 to +5.0)"
    assert f"| 192 px | 96 | float, 3.00 ms | {' | '.join([gained] * 4)} | 16.0 % (15.0 to 17.0) |" in text
    assert "| 128 px | 96 | 8 bit, 2.00 ms | 60.0 % | 60.0 %" in text


def test_the_table_of_the_docs_is_current() -> None:
    assert crop_sizes.update(write=False) == []
