"""``export --calibrate-scores``, and ``evaluate --reliability`` of what it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from drawn import tiny_config, write_faces
from networks import random_checkpoint

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.metrics import ScoreCurve
from cunet_deploy.sessions import open_session


def test_scores_are_calibrated_where_that_is_asked_for(tmp_path: Path) -> None:
    save_checkpoint(random_checkpoint(tiny_config()), tmp_path / "float.pt")
    faces = write_faces(tmp_path / "faces", 9)
    for name, options in (("plain", ()), ("curved", ("--calibrate-scores", str(faces)))):
        arguments = ["export", str(tmp_path / "float.pt"), "--bits", "32", "-o", str(tmp_path / name), *options]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
    assert "scores calibrated on 612 landmarks of 9 objects" in result.stdout
    plain, curved = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("plain", "curved"))
    assert "score_curve" not in plain
    assert curved.keys() - plain.keys() == {"score_curve"}
    assert curved["score_curve"]["within"] == 0.08
    session = open_session(tmp_path / "curved")
    assert session.manifest.score_curve is not None
    assert session.manifest.score_curve.landmarks == 612
    session.close()

    report = tmp_path / "report.json"
    arguments = ["evaluate", str(tmp_path / "curved"), str(faces), "--reliability", "--json", str(report)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "landmarks by score, and how many lie within 0.08" in result.stdout
    assert result.stdout.count("calibration error of scores") == 2
    table = json.loads(report.read_text())
    assert sum(row["landmarks"] for row in table["reliability"]) == 612
    # on what it was fitted on, the curve leaves next to nothing
    assert table["calibration_error_percent"]["value"] < 5


def test_the_score_of_visible_landmarks_is_in_the_units_of_the_scores() -> None:
    checkpoint = replace(random_checkpoint(tiny_config()), scores=ScoreCalibration(visible_score=0.5))
    assert make_manifest(checkpoint).visible_score == 0.5
    curve = ScoreCurve((0.0, 1.0), (0.0, 0.8), "outer_eye", 0.08, 1000)
    curved = replace(checkpoint, scores=replace(checkpoint.scores, score_curve=curve))
    assert make_manifest(curved).visible_score == pytest.approx(0.4)
