"""Learning curves come from the metrics of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn import tiny_config

from cunet_deploy.errors import InputError
from tools.experiments import learning_curve
from tools.experiments.rows import to_toml


def write_run(folder: Path, key: str) -> Path:
    folder.mkdir()
    (folder / "config.toml").write_text(to_toml(tiny_config().to_dict()))
    lines = [f'{{"phase": "float", "epoch": {epoch}, "loss": 1.0, "{key}": {40 + epoch}.04}}' for epoch in range(1, 9)]
    lines.insert(1, '{"phase": "float", "epoch": 2, "loss": 1.0}')
    lines.append(f'{{"phase": "quantized", "epoch": 1, "{key}": 99}}')
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def test_a_row_has_at_most_seven_points_and_the_last(tmp_path: Path) -> None:
    row = learning_curve.row_of(write_run(tmp_path / "a", "pck_20_percent"))
    text = learning_curve.table_of({"rows": [row], "command": "x"})
    expected = "1: 41.0 %, 3: 43.0 %, 5: 45.0 %, 7: 47.0 %, 8: 48.0 %"
    config = tiny_config()
    shown = f"{config.model.channels} channels | {config.crop.size} px | {config.train.epochs}"
    assert f"| {shown} | {expected} |" in text


def test_a_run_of_faces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no pck_20_percent; expected the training run of a body model"):
        learning_curve.row_of(write_run(tmp_path / "a", "nme_percent"))


def test_the_table_of_the_docs_is_current() -> None:
    assert learning_curve.update(write=False) == []
