"""The document of speed is what the recorded reports say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from tool_scripts import load_tool


def test_the_document_is_current() -> None:
    result = CliRunner().invoke(load_tool("speed_tables").main, ["--check"])
    assert result.exit_code == 0, result.output


def test_a_document_that_is_not_current_is_said_so_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_tool("speed_tables")
    monkeypatch.setattr(script, "DOCUMENT", tmp_path / "speed.md")
    assert CliRunner().invoke(script.main, ["--check"]).exit_code == 1
    assert CliRunner().invoke(script.main, []).exit_code == 0
    assert CliRunner().invoke(script.main, ["--check"]).exit_code == 0


def test_the_body_models_are_there_once_they_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, title = load_tool("speed_tables"), "## Body models on the same crop"
    reports = shutil.copytree(script.REPORTS, tmp_path / "speed")
    monkeypatch.setattr(script, "REPORTS", reports)
    for there in (True, False):
        assert (reports / "pose.json").is_file() == (title in script.document()) == there
        (reports / "pose.json").unlink(missing_ok=True)
