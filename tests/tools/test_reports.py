"""Reports state the command that made them so that a shell takes it as it was given."""

from __future__ import annotations

import sys

import pytest

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
