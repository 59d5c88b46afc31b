"""The ``cunet-deploy`` command. Each subcommand is a module of this package, loaded when it is used.

Results go to stdout; progress, logs and errors to stderr. An error is one line and an exit code:

    0  ok                                       4  a verification or accuracy gate failed
    1  failed at run time                       5  an optional dependency is missing
    2  wrong usage or bad input                 6  an untrusted artifact was refused
    3  the artifact does not fit this machine   130  interrupted, by Ctrl-C or SIGTERM
"""

from __future__ import annotations

import codecs
import difflib
import errno
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from cunet_deploy import __version__
from cunet_deploy.cli._errors import describe
from cunet_deploy.cli._interrupts import sigterm_interrupts
from cunet_deploy.errors import CunetError

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("cunet_deploy.cli.train:command", "Train a model from labelled photos."),
    "calibrate": ("cunet_deploy.cli.calibrate:command", "Record activation ranges of a float checkpoint."),
    "convert": ("cunet_deploy.cli.convert:command", "Convert a checkpoint of the method's authors."),
    "sensitivity": ("cunet_deploy.cli.sensitivity:command", "Measure which layers tolerate fewer bits."),
    "export": ("cunet_deploy.cli.export:command", "Turn a checkpoint into a bundle for devices."),
    "build": ("cunet_deploy.cli.build:command", "Build a TensorRT engine from a bundle."),
    "infer": ("cunet_deploy.cli.infer:command", "Find landmarks in images and videos."),
    "bulk": ("cunet_deploy.cli.bulk:command", "Find landmarks in thousands of files, on one machine or many."),
    "evaluate": ("cunet_deploy.cli.evaluate:command", "Measure the accuracy of a model on labelled photos."),
    "verify": ("cunet_deploy.cli.verify:command", "Check that a bundle computes what its checkpoint does."),
    "bench": ("cunet_deploy.cli.bench:command", "Measure latency and memory on this machine."),
    "inspect": ("cunet_deploy.cli.inspect:command", "Analyse an ONNX model: bytes, bits, and int8 in TensorRT."),
    "label": ("cunet_deploy.cli.label:command", "Label photos and clips with trained networks."),
    "synth": ("cunet_deploy.cli.synth:command", "Render labelled pictures from assets that anyone may use."),
    "web": ("cunet_deploy.cli.web:command", "Write a page that runs a model in the browser."),
    "doctor": ("cunet_deploy.cli.doctor:command", "Show what this machine can run, and what is missing."),
    "models": ("cunet_deploy.cli.models:command", "List the models that come with the package."),
}
"""Subcommands in the order of the help: where each is, as ``module:attribute``, and its line in the list."""

_EXTRAS = {
    "OpenEXR": "synth",
    "matplotlib": "train",
    "moderngl": "synth",
    "onnx": "train",
    "pyarrow": "ray",
    "torch": "train",
}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class _LazyGroup(click.Group):
    """Subcommands are imported when they run, and their errors become one line with an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(COMMANDS)}"
            raise click.UsageError(f"No such command {name!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click's own would import every command for its help line
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with sigterm_interrupts():
                return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            if _is_for_click(error):
                raise
            if ctx.params.get("debug"):
                click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
            message, exit_code = _describe(error, self._options(ctx))
            click.echo("cunet-deploy: " + " ".join(line.strip() for line in message.splitlines()), err=True)
            raise click.exceptions.Exit(exit_code) from error

    def _options(self, ctx: click.Context) -> set[str]:
        """Options of the command that runs, and of those below it."""
        running = self.get_command(ctx, ctx.invoked_subcommand or "")
        waiting, found = [] if running is None else [running], set[str]()
        while waiting:
            command = waiting.pop()
            found.update(name for part in command.params for name in part.opts)
            if isinstance(command, click.Group):
                waiting += command.commands.values()
        return found


def _is_for_click(error: BaseException) -> bool:
    """Return whether click shows this one, or ends quietly with it: wrong usage, an exit, a closed pipe."""
    return isinstance(error, (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError))


def _describe(error: BaseException, options: Collection[str]) -> tuple[str, int]:
    """Message and exit code of an error of a command with some options."""
    if isinstance(error, CunetError):
        return f"error: {describe(error, options)}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted: {error}" if str(error) else "interrupted", 130
    if isinstance(error, MemoryError):
        return "error: out of memory; use smaller inputs or batches, or a machine with more", 1
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        return f"error: {error.name} is not installed; run: pip install 'cunet-deploy[{_EXTRAS[error.name]}]'", 5
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"error: {error.filename}: the name is too long for this file system; give a shorter one", 2
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"error: {where}{error.strerror}", 1
    what = f"error: unexpected {type(error).__name__}: {error}"
    return f"{what} (`cunet-deploy --debug COMMAND ...` shows the traceback)", 1


class _StderrHandler(logging.Handler):
    """Writes to what ``sys.stderr`` is at that moment: a progress bar replaces it to stay below the messages."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            click.echo(self.format(record), file=sys.stderr)
        except OSError:  # nobody reads stderr any more
            self.handleError(record)


@contextmanager
def _logging(verbosity: int) -> Iterator[None]:
    """Show this package's messages: errors at -1, warnings at 0, information at 1, everything from 2 on.

    What was set before comes back in the end: the program that calls a command has its own idea of it.
    """
    logger = logging.getLogger("cunet_deploy")
    before = logger.level
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("cunet-deploy: %(levelname)s: %(message)s"))
    logger.addHandler(handler)
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    logger.setLevel(levels.get(max(verbosity, -1), logging.DEBUG))
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", count=True, help="Log each step; twice for more detail.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars, and log errors only.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="cunet-deploy", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, verbose: int, quiet: bool, debug: bool) -> None:
    """Find landmarks with small quantized networks, and train and export such networks.

    \b
    Example:
      cunet-deploy infer portrait.jpg -o out.jpg
    """
    context.with_resource(_logging(-1 if quiet else verbose))


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escape letters that a terminal's code page lacks, and bytes of file names that are no text.

    The latter look as in result files, see `shown_name`.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(
        f"\\x{ord(letter) - 0xDC00:02x}"
        if "\udc80" <= letter <= "\udcff"
        else letter.encode("ascii", "backslashreplace").decode("ascii")
        for letter in letters
    ), error.end


def _open_closed_streams() -> None:
    """Put the null device where a standard stream is closed: the next file would take its number, and its output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  open until the end
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def main() -> None:
    """Run the command line and exit."""
    _open_closed_streams()
    codecs.register_error("cunet-escape", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cunet-escape")
    # both are read when OpenCV is loaded; its remarks would stand among our lines, and break progress bars
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    cli(prog_name="cunet-deploy")
