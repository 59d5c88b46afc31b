"""Reports state the command that made them so that a shell takes it as it was given."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import reports
from tools.reports import signed


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("media/asl_*.mkv", "'media/asl_*.mkv'"),
        ("--title", "--title"),
        ("LSPET test part", "'LSPET test part'"),
        ("lspet#test", "lspet#test"),
        ("/elsewhere/data/people#mpii_test", "people#mpii_test"),
    ],
)
def test_what_a_shell_would_change_is_quoted(given: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["measure.py", given])
    assert signed({})["command"] == f"python -m measure {shown}"


def test_a_package_is_run_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path(reports.__file__).parent / "peers" / "__main__.py"), "faces"])
    assert signed({})["command"] == "python -m tools.peers faces"
