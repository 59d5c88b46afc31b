from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from opengl import need_renders

from cunet_deploy.config import load_config
from cunet_deploy.errors import InputError
from tools.experiments import renders


def test_the_configuration_is_valid_and_learns_renders_alone() -> None:
    config = load_config(renders.CONFIG)
    assert config.data.train == ("faces",)


def test_a_group_that_helps_comes_first() -> None:
    full = [0.05, 0.06, 0.07, 0.04] * 20
    errors = {"all": full, "hats": [e + 0.0001 for e in full], "hands": [e + 0.01 for e in full]}
    lines = renders.table(renders.compare(errors)).splitlines()
    assert lines[2].startswith("| nothing | 5.50 |")
    assert lines[3] == "| hands | 6.50 | 1.00 (1.00 to 1.00) |"
    assert lines[4] == "| hats | 5.51 | 0.01 (0.01 to 0.01) |"


def test_networks_on_other_faces_are_not_compared() -> None:
    with pytest.raises(InputError, match="the same faces"):
        renders.compare({"all": [0.1, 0.2], "hats": [0.1]})


def test_the_table_says_on_how_many_faces_of_what_and_of_how_many_renders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {"all": [0.05, 0.06], "hats": [0.06, 0.07]}
    monkeypatch.setattr(renders, "_trained", lambda name, *rest: Path(name))
    monkeypatch.setattr(renders, "_errors", lambda checkpoint, photos: errors[checkpoint.name])
    options = ["--photos", str(tmp_path / "afw"), "--runs", str(tmp_path), "-n", "10", "--group", "hats"]
    result = CliRunner().invoke(renders.main, ["ablation", *options, "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("\n\nOn 2 faces of afw, one network of 10 renders a row.\n")
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["photos"], report["measured_faces"], report["faces"]) == ("afw", 2, 10)


def test_what_is_there_is_left_to_commands_that_compare_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []

    def call(*arguments: object) -> None:
        calls.append(arguments)
        if arguments[0] == "train":
            run = Path(str(arguments[arguments.index("-o") + 1]))
            run.mkdir(exist_ok=True)
            (run / "config.toml").touch()

    monkeypatch.setattr(renders, "_call", call)
    made = [renders._trained("hats", tmp_path, count, renders.CONFIG, 2) for count in (10, 10, 20)]
    assert [arguments[0] for arguments in calls] == ["synth", "train"] * 3
    assert calls[0][-2:] == ("--without", "hats")
    assert ["--resume" in arguments for arguments in calls[1::2]] == [False, True, False]
    assert made[0] == made[1] != made[2], "another number of faces is another set"


def test_speed_is_measured() -> None:
    need_renders()
    report = renders.measure_speed(10, 64)
    assert report["renders_per_cpu_second"] > 0
