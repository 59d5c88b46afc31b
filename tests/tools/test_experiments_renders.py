from __future__ import annotations

from pathlib import Path

import pytest

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


def test_each_set_is_rendered_and_learned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def call(*arguments: object) -> None:
        calls.append(arguments)
        if arguments[0] == "train":
            (tmp_path / "run-hats").mkdir()

    monkeypatch.setattr(renders, "_call", call)
    for _ in range(2):
        renders._trained("hats", tmp_path, 10, renders.CONFIG, 2)
    assert [arguments[0] for arguments in calls] == ["synth", "train", "synth"]
    assert calls[0][-2:] == ("--without", "hats")


def test_speed_is_measured(tmp_path: Path) -> None:
    from cunet_deploy.errors import CunetError

    try:
        report = renders.measure_speed(10, 64)
    except CunetError as error:
        pytest.skip(str(error))
    assert report["renders_per_cpu_second"] > 0
