"""Scores of a finished checkpoint are measured as training measures them, and nothing else of it changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from click.testing import CliRunner
from drawn import tiny_config, write_faces
from networks import random_checkpoint

from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.checkpoint.storage import load_checkpoint, save_checkpoint
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.sessions import open_session
from cunet_deploy.train.tasks import load_task
from tools.experiments.rows import to_toml
from tools.release import scores


def test_scores_are_those_of_the_validation_split(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", 8)
    config = tiny_config(data={"train": ["faces"], "validation_fraction": 0.5})
    (tmp_path / "config.toml").write_text(to_toml(config.to_dict()))
    before = replace(random_checkpoint(config), scores=ScoreCalibration(0.77))
    save_checkpoint(before, tmp_path / "float.pt")
    arguments = [str(tmp_path / "config.toml"), str(tmp_path / "float.pt"), "--data", str(tmp_path)]
    result = CliRunner().invoke(scores.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    after = load_checkpoint(tmp_path / "float.pt")
    exported = export_checkpoint(before, tmp_path / "bundle").path / "model.onnx"
    expected = load_task(config, tmp_path).calibrate_scores(open_session(exported, threads=1))
    assert after.scores == expected
    assert f"min_score 0.77 -> {expected.min_score}" in result.output
    assert all(torch.equal(value, before.state[name]) for name, value in after.state.items())


def test_a_checkpoint_of_other_landmarks_is_refused(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", 2)
    (tmp_path / "config.toml").write_text(to_toml(tiny_config(data={"train": ["faces"]}).to_dict()))
    save_checkpoint(random_checkpoint(replace(tiny_config(), skeleton="lsp14")), tmp_path / "float.pt")
    arguments = [str(tmp_path / "config.toml"), str(tmp_path / "float.pt"), "--data", str(tmp_path)]
    result = CliRunner().invoke(scores.main, arguments)
    assert result.exit_code == 2
    assert "finds other landmarks" in result.output
