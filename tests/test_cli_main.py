"""The command line as a whole: exit codes, one-line errors, help."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cunet_deploy import __version__, errors
from cunet_deploy.cli import COMMANDS, cli
from cunet_deploy.cli._options import console, json_option, overwrite_option, progress, threads_option

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``cunet-deploy [OPTIONS] try``, where ``try`` is a command that does what the test says."""

    def invoke(body: Callable[[], object], *options: str) -> Result:
        module = types.ModuleType("command_of_a_test")
        vars(module)["command"] = click.command("try")(body)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, "try", (f"{module.__name__}:command", "Try."))
        return CliRunner().invoke(cli, [*options, "try"], prog_name="cunet-deploy")

    return invoke


def _raises(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def test_success_is_0(run: Run) -> None:
    result = run(lambda: click.echo("42"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "42\n", "")


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_of_the_tree_is_one_line_and_its_exit_code(run: Run, name: str) -> None:
    error = getattr(errors, name)
    result = run(_raises(error("clip.mp4: is broken; make a new one")))
    assert result.exit_code == error.exit_code
    assert result.stderr == "cunet-deploy: error: clip.mp4: is broken; make a new one\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "cunet-deploy: interrupted\n"),
        (KeyboardInterrupt("4 of 9 are done"), 130, "cunet-deploy: interrupted: 4 of 9 are done\n"),
        (MemoryError(), 1, "cunet-deploy: error: out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "out.mp4"), 1, "error: out.mp4: No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), 1, "cunet-deploy: error: Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", "a.jpg"), 1, "error: a.jpg: Permission denied"),
        (RuntimeError("first\n  second"), 1, "error: unexpected RuntimeError: first second (`cunet-deploy --debug"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 5, "pip install 'cunet-deploy[train]'"),
        (
            ModuleNotFoundError("No module named 'x'", name="x"),
            1,
            "unexpected ModuleNotFoundError: No module named 'x'",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_any_other_error_is_one_line_too(run: Run, error: BaseException, code: int, line: str) -> None:
    result = run(_raises(error))
    assert result.exit_code == code
    assert line in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_ends_a_command_as_ctrl_c_does(run: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    result = run(lambda: signal.raise_signal(signal.SIGTERM))
    assert (result.exit_code, result.stderr) == (130, "cunet-deploy: interrupted\n")
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("error", [errors.InputError("no good"), RuntimeError("no good")])
def test_debug_shows_the_traceback_before_the_line(run: Run, error: Exception) -> None:
    result = run(_raises(error), "--debug")
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("cunet-deploy: error: ")


def test_a_command_may_end_with_an_exit_code_of_its_own(run: Run) -> None:
    assert run(lambda: click.get_current_context().exit(4)).exit_code == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["infr"], "No such command 'infr'; did you mean 'infer'?"),
        (["xyzzy"], "No such command 'xyzzy'; choose from train, calibrate"),
        (["--no-such-option"], "No such option"),
        (["infer", "--no-such-option"], "No such option"),
        (["infer"], "Missing argument"),
        (["bench", "model.onnx", "--json", "new/"], "new/: is a folder; name a file in it"),
        (["inspect", "x" * 300], f"{'x' * 300}: the name is too long for this file system"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_right(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, arguments, prog_name="cunet-deploy")
    assert result.exit_code == 2
    assert message in result.stderr


def test_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(cli, ["--version"], prog_name="cunet-deploy")
    assert result.stdout == f"cunet-deploy {__version__}\n"


def test_help_lists_every_command_with_its_line() -> None:
    result = CliRunner().invoke(cli, ["--help"], prog_name="cunet-deploy")
    assert result.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in result.stdout
        assert line in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_an_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"], prog_name="cunet-deploy")
    assert result.exit_code == 0, result.output
    assert "Example" in result.stdout
    assert f"cunet-deploy {name}" in result.stdout.partition("Example")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_explained(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    unexplained = [p.name for p in command.params if isinstance(p, click.Option) and not p.hidden and not p.help]
    assert unexplained == []


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], ["WARNING", "ERROR"]),
        (["-q"], ["ERROR"]),
        (["-v"], ["INFO", "WARNING", "ERROR"]),
        (["-vv"], ["DEBUG", "INFO", "WARNING", "ERROR"]),
    ],
)
def test_verbosity_decides_what_is_logged_to_stderr(run: Run, options: list[str], shown: list[str]) -> None:
    def body() -> None:
        logger = logging.getLogger("cunet_deploy.anywhere")
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logger.log(level, "message")

    result = run(body, *options)
    assert result.stderr.splitlines() == [f"cunet-deploy: {level}: message" for level in shown]
    assert result.stdout == ""


def test_a_command_leaves_logging_as_it_was(run: Run) -> None:
    logger = logging.getLogger("cunet_deploy")
    before = logger.level, list(logger.handlers)
    run(lambda: None, "-q")
    assert (logger.level, list(logger.handlers)) == before


def test_a_reader_that_goes_away_is_not_an_error_message() -> None:
    code = "from cunet_deploy.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_shared_options_have_the_names_that_commands_expect() -> None:
    seen: dict[str, object] = {}

    @click.command()
    @overwrite_option
    @json_option
    @threads_option
    def command(**values: object) -> None:
        seen.update(values)

    assert CliRunner().invoke(command, ["--overwrite", "--json", "a.json", "--threads", "2"]).exit_code == 0
    assert seen == {"overwrite": True, "json_path": Path("a.json"), "threads": 2}
    assert CliRunner().invoke(command, []).exit_code == 0
    assert seen == {"overwrite": False, "json_path": None, "threads": None}
    assert CliRunner().invoke(command, ["--threads", "0"]).exit_code == 2


def test_messages_for_people_go_to_stderr_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    line = f"/data/[bold]clip[/bold]/{'x' * 200}.mp4: 3 frames"
    console().print(line)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", line + "\n")


def test_no_progress_bar_is_drawn_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("{task.fields[fps]:.0f} fps") as bar:
        task = bar.add_task("frames", total=2, fps=0.0)
        bar.advance(task)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def _numbers(command: click.Command) -> list[click.Parameter]:
    inner = [_numbers(each) for each in getattr(command, "commands", {}).values()]
    own = [parameter for parameter in command.params if isinstance(parameter.type, click.FloatRange)]
    return own + [parameter for parameters in inner for parameter in parameters]


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_takes_a_number_that_is_none(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    for parameter in _numbers(command):
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(click.BadParameter):
                parameter.type.convert(text, parameter, context)
