"""A run on renders learns which landmarks are visible, and its model says from which score on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drawn import tiny_config, write_faces

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.manifest import Manifest
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.tasks import load_task


def write_data(root: Path, *, contour_visible: bool) -> Path:
    """Faces of which the contour is visible, or all the rest."""
    folder = write_faces(root / "faces", 24, 7)
    states = [2 * contour_visible] * 17 + [2 * (not contour_visible)] * 51
    lines = [json.dumps({"image": f"faces/{path.name}", "visibility": states}) for path in sorted(folder.glob("*.png"))]
    (root / "faces.jsonl").write_text("\n".join(lines))
    return root


def train(data: Path, run: Path, hidden_peak: float, epochs: int) -> Path:
    config = tiny_config(
        heatmap={"hidden_peak": hidden_peak},
        train={"epochs": epochs, "learning_rate": 5e-3, "ema_decay": 0.9, "validate_every": epochs},
        augment={"erase": 0.0, "negative": 0.0},
        model={"channels": 16, "growth": 8},
        crop={"size": 64},
        quant={"epochs": 1},
    )
    folder = RunFolder(run)
    folder.prepare("", resume=False)
    return Trainer(config, load_task(config, data), folder, lambda _: None).run()


@pytest.mark.parametrize("contour_visible", [True, False])
def test_a_run_with_lower_peaks_for_hidden_landmarks_tells_them_apart(tmp_path: Path, contour_visible: bool) -> None:
    path = train(write_data(tmp_path, contour_visible=contour_visible), tmp_path / "run", 0.3, epochs=5)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["visibility_auc_percent"] > 80  # of nothing learnt: 50
    checkpoint = load_checkpoint(path)
    assert checkpoint.scores.visible_score is not None
    assert 0 < checkpoint.scores.visible_score < 1
    export_checkpoint(checkpoint, tmp_path / "bundle")
    written = (tmp_path / "bundle" / "manifest.json").read_text()
    assert Manifest.from_json(written, "manifest").visible_score == checkpoint.scores.visible_score


def test_a_run_without_says_nothing_about_it(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(train(write_data(tmp_path, contour_visible=True), tmp_path / "run", 1.0, epochs=1))
    assert checkpoint.scores.visible_score is None
    assert "visible_score" not in make_manifest(checkpoint).to_dict()
    rows = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "visibility" not in rows
    assert np.isfinite(json.loads(rows.splitlines()[-1])["nme_percent"])
