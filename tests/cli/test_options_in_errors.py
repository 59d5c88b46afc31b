"""Errors of the library as the command line tells them."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from drawn import write_faces
from networks import quantized_checkpoint

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli import COMMANDS, cli
from cunet_deploy.cli._errors import describe
from cunet_deploy.errors import CunetError, InputError

PACKAGE = Path(__file__).resolve().parents[2] / "cunet_deploy"
FROM_A_REGISTRY = re.compile(r"pip install [^\"'\n]*\bcunet-deploy\b")
"""The package is in no registry, where anybody may take its name; it is installed from a clone."""
NAMED = re.compile(r'\boption="(\w+)"')


def parameters() -> list[click.Parameter]:
    """Those of all commands."""
    found, waiting = list[click.Parameter](), [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    while waiting:
        command = waiting.pop()
        assert command is not None
        found += command.params
        if isinstance(command, click.Group):
            waiting += command.commands.values()
    return found


def test_the_option_that_helps_is_named_after_the_message() -> None:
    assert (
        describe(InputError("out.mp4: exists already", option="overwrite")) == "out.mp4: exists already (--overwrite)"
    )
    assert describe(CunetError("a row is wrong", option="skip_bad")) == "a row is wrong (--skip-bad)"
    assert describe(CunetError("failed")) == "failed"


@pytest.mark.parametrize(
    ("command", "named"), [("evaluate FILE DATA", True), ("export FILE --calibrate-scores DATA", False)]
)
def test_an_option_that_the_command_lacks_is_not_named(command: str, named: bool, tmp_path: Path) -> None:
    save_checkpoint(quantized_checkpoint(), tmp_path / "quantized.pt")
    (write_faces(tmp_path / "faces", 1) / "face000_1.pts").write_text("")
    given = {"FILE": tmp_path / "quantized.pt", "DATA": tmp_path / "faces"}
    arguments = [str(given.get(word, word)) for word in command.split()]
    refused = CliRunner().invoke(cli, [*arguments, *(["-o", str(tmp_path / "out")] if not named else [])])
    assert refused.exit_code == 2
    assert "mend the file, or skip it" in refused.stderr
    assert ("--skip-bad" in refused.stderr) is named


def test_every_option_that_an_error_names_exists() -> None:
    options = {option for part in parameters() for option in part.opts}
    named = {name for path in PACKAGE.rglob("*.py") for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert named
    assert {f"--{name.replace('_', '-')}" for name in named} <= options


def test_nothing_asks_a_registry_for_a_package_of_this_name() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if FROM_A_REGISTRY.search(path.read_text(encoding="utf-8"))]
    assert files == []


def test_no_path_is_an_empty_text() -> None:
    """It would be the current folder."""
    paths = [part for part in parameters() if isinstance(part.type, click.Path)]
    assert len(paths) > 40
    for part in paths:
        with pytest.raises(click.BadParameter, match="an empty text is no path; give one"):
            part.type.convert("", part, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", ""),
        ("verify", ""),
        ("evaluate", "face68-s", ""),
        ("evaluate", "", "photos"),
        ("bench", ""),
        ("bench", "face68-s", "--input", ""),
        ("web", "", "-o", "site"),
        ("web", "face68-s", "--detector", "", "-o", "site"),
        ("infer", "photo.jpg", "-o", ""),
        ("bulk", "photo.jpg", "-o", ""),
        ("bench", "face68-s", "--threads", "1,1025"),
    ],
)
def test_an_empty_text_is_wrong_usage(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"here")
    (tmp_path / "photos").mkdir()
    result = CliRunner().invoke(cli, arguments, prog_name="cunet-deploy")
    assert result.exit_code == 2
    assert "empty text" in result.stderr or "not a number from 1 to 1024" in result.stderr
