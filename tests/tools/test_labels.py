"""The table of ways to treat labels: its rows differ in what they say only, and the page holds what was measured."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from cunet_deploy.config import parse_config
from tools.experiments import labels as labels_tool


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return labels_tool


def test_rows_differ_from_the_first_in_what_they_name_only(script: ModuleType) -> None:
    first = parse_config(script.config_of("base"))
    for name, (_, changes) in script.ROWS.items():
        config = parse_config(script.config_of(name))
        changed = {item.name for item in fields(config) if getattr(config, item.name) != getattr(first, item.name)}
        assert changed == set(changes) | ({"name"} if name != "base" else set())


def test_gains_have_the_sign_that_people_expect(script: ModuleType) -> None:
    def part(name: str, value: float, lost: float) -> dict[str, Any]:
        measured = {"value": value, "ci95_low": value - 1, "ci95_high": value + 1}
        return {
            "people": 20 if name.endswith(":clean") else 30,
            "pck_20_percent": measured,
            "lost_percent_points": {"value": lost, "ci95_low": lost - 0.5, "ci95_high": lost + 1},
        }

    rows = [
        {"name": "base", **{name: part(name, 40.0, 0.0) for name in script.PARTS}},
        {"name": "twice", **{name: part(name, 42.0, -2.0) for name in script.PARTS}},
    ]
    lines = script.table_of({"rows": rows}).splitlines()
    assert lines[-1] == "All: 30 people of Leeds Sports Pose Extended; clean: 20 of them."
    assert "| 40.0 % (39.0 to 41.0) | - |" in lines[2]
    assert "| 42.0 % (41.0 to 43.0) | +2.0 (+1.0 to +2.5) |" in lines[3]


def test_a_run_that_was_killed_before_its_first_state_goes_on(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def train(command: list[str], *, check: bool) -> SimpleNamespace:
        commands.append(command)
        run = Path(command[command.index("-o") + 1])
        run.mkdir(exist_ok=True)
        (run / "config.toml").touch()
        return SimpleNamespace(returncode=137 if len(commands) == 1 else 0)

    monkeypatch.setattr(script.subprocess, "run", train)
    asked = ["train", "base", "--data", str(tmp_path), "--runs", str(tmp_path / "runs")]
    killed, done = (CliRunner().invoke(script.main, asked) for _ in range(2))
    assert (killed.exit_code, killed.stderr) == (1, "error: base: training failed; the message stands above\n")
    assert done.exit_code == 0
    assert ["--resume" in command for command in commands] == [False, True]


def test_the_page_holds_what_was_measured(script: ModuleType) -> None:
    assert script.update(write=False) == []
