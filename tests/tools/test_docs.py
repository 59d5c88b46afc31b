"""Texts from recorded measurements agree with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.docs import __main__ as docs
from tools.docs import speed


def test_every_generated_document_is_current() -> None:
    assert docs.stale_documents() == []


def test_a_document_that_is_not_current_is_said_so_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "DOCUMENT", tmp_path / "speed.md")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "GENERATED", (speed.update,))
    result = CliRunner().invoke(docs.main, ["check"])
    assert (result.exit_code, "not current: speed.md; run" in result.output) == (1, True)
    assert CliRunner().invoke(docs.main, ["write"]).exit_code == 0
    assert CliRunner().invoke(docs.main, ["check"]).exit_code == 0


def test_the_body_models_are_there_once_they_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    title = "## Body models on the same crop"
    reports = shutil.copytree(speed.REPORTS, tmp_path / "speed")
    monkeypatch.setattr(speed, "REPORTS", reports)
    for there in (True, False):
        assert (reports / "pose.json").is_file() == (title in speed.document()) == there
        (reports / "pose.json").unlink(missing_ok=True)
