from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from opengl import need_renders

from cunet_deploy._files import write_text_atomic
from cunet_deploy.cli import cli


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--yaw", "120"], "yaw is 120; expected 0 to 90 degrees"),
        (["--distance", "near"], "--distance is 'near'; expected two numbers with a colon between"),
        (["--without", "glases"], "did you mean 'glasses'?"),
        (["--backgrounds", "/no/such/folder"], "is not a folder"),
        (["--style", "sepia"], "sepia"),
        (["-n", "0"], "0 is not in the range"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, list) else None,
)
def test_wrong_options_are_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = ["synth", "faces", "-n", "1", "-o", str(tmp_path / "out"), *arguments]
    result = CliRunner().invoke(cli, command, prog_name="cunet-deploy")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "anny" else real(name, *more))
    command = ["synth", "faces", "-n", "1", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, command, prog_name="cunet-deploy")
    assert result.exit_code == 5
    assert "pip install 'cunet-deploy[synth]'" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_much_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def render(job: object, count: int, folder: Path, **more: object) -> int:
        for block, lines in enumerate((20, 20)):
            write_text_atomic(folder / "blocks" / f"{block:05d}.jsonl", "{}\n" * lines, overwrite=False)
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr("cunet_deploy.synthesis.dataset.write_renders", render)
    command = ["synth", "faces", "-n", "60", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, command, prog_name="cunet-deploy")
    assert result.exit_code == 130
    assert result.stderr == (
        f"cunet-deploy: interrupted: 40 of 60 faces are in {tmp_path / 'out'}; the same command goes on from there\n"
    )


def test_a_sheet_is_a_picture_of_faces(tmp_path: Path) -> None:
    need_renders()
    path = tmp_path / "sheet.png"
    command = ["synth", "sheet", "-n", "2", "--columns", "2", "--size", "64", "-o", str(path)]
    result = CliRunner().invoke(cli, command, prog_name="cunet-deploy")
    assert result.exit_code == 0, result.stderr
    assert np.asarray(cv2.imread(str(path))).shape == (64, 128, 3)
    refused = CliRunner().invoke(cli, [*command[:-1], str(tmp_path / "sheet.txt")], prog_name="cunet-deploy")
    assert (refused.exit_code, "expected .png or .jpg" in refused.stderr) == (2, True)


def test_the_help_names_every_group() -> None:
    from cunet_deploy.synthesis.options import GROUPS

    text = "".join(CliRunner().invoke(cli, ["synth", "faces", "--help"]).output.split())
    assert all(group in text for group in GROUPS)
