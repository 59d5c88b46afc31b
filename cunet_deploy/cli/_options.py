"""Parts that several commands share: options, the console for messages, progress bars."""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cunet_deploy.detection.table import detector_forms, detector_help
from cunet_deploy.errors import InputError
from cunet_deploy.licences import CHOICES
from cunet_deploy.sessions.registry import AUTO, BACKENDS, backend_choices, default_backend

__all__ = [
    "MAX_THREADS",
    "AnyPath",
    "BackendNames",
    "FilePath",
    "FloatRange",
    "backend_options",
    "check_picture_name",
    "console",
    "default_backends",
    "detector_option",
    "device_option",
    "json_option",
    "licence_option",
    "method_option",
    "output_option",
    "overwrite_option",
    "parse_bytes",
    "progress",
    "resolve_backend",
    "resume_options",
    "say_skipped",
    "threads_option",
]

_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}

F = TypeVar("F", bound=Callable[..., Any])

MAX_THREADS = 1024
"""Largest value of ``--threads``: tens of thousands take minutes to start, or never do."""


class AnyPath(click.Path):
    """Path of a file or folder, as a `Path` unless said otherwise.

    An empty text, as an unset variable of a shell gives, is refused: it would be the current folder.
    """

    def __init__(
        self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = True, path_type: type[Any] = Path
    ) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail('an empty text is no path; give one, or "." for the current folder', param, ctx)
        return super().convert(value, param, ctx)


class FilePath(AnyPath):
    """Path of a file to write: ``new/`` is a folder, whether it exists or not."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).endswith(("/", os.sep)):
            self.fail(f"{value}: is a folder; name a file in it", param, ctx)
        return super().convert(value, param, ctx)


class FloatRange(click.FloatRange):
    """A number in a range, without NaN, which is in every range of click's, and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class BackendNames(click.ParamType[Any]):
    """One of the backends, or several of them divided by commas; see `cunet_deploy.sessions.registry`."""

    name = "backend"

    def __init__(self, *, several: bool) -> None:
        self._several = several

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "|".join(backend_choices()) + ",..." * self._several

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        names = [part.strip() for part in str(value).split(",")] if self._several else [str(value)]
        for name in names:
            if name not in backend_choices():
                self.fail(f"unknown backend {name!r}; choose from {', '.join(backend_choices())}", param, ctx)
        return names if self._several else names[0]


def default_backends() -> str:
    """Name the default backend of each file type, for help texts."""
    suffixes = dict.fromkeys(backend.suffix for backend in BACKENDS.values())
    return ", ".join(f"{default_backend(suffix).name} for {suffix} files" for suffix in suffixes)


def backend_options(function: F) -> F:
    """``--backend NAME`` and ``--trust``: the parameters are ``backend``, a name or ``None``, and ``trust``."""
    backend = click.option(
        "--backend",
        type=BackendNames(several=False),
        help=f"What runs the network; {AUTO} takes the fastest on this machine, measured once.  [default: "
        f"{default_backends()}]",
    )
    trust = click.option("--trust", is_flag=True, help="Load an engine whose checksum differs: it is native code.")
    return backend(trust(function))


class _DetectorForm(click.ParamType[str]):
    """Argument of `cunet_deploy.detection.open.open_detector`; it is opened with the network and checked there."""

    name = "detector"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return detector_forms()


def detector_option(function: F) -> F:
    """``--detector``: the parameter is ``detector``, a text or ``None`` for what the model names."""
    return click.option(
        "--detector",
        type=_DetectorForm(),
        help=f"Where to look: {detector_help()}.  [default: what the model names, else face-detect-s for faces, "
        "person-detect-s for people, full for the rest]",
    )(function)


def licence_option(function: F) -> F:
    """``--licence``: the parameter is ``licence``, one of `CHOICES`, or ``None`` for what the environment says."""
    return click.option(
        "--licence",
        type=click.Choice(CHOICES),
        help="open: refuse weights that may not be used for every purpose.  [default: CUNET_LICENCE, or any]",
    )(function)


def resolve_backend(model: str | Path, backend: str | None, threads: int | None) -> str | None:
    """The backend that ``--backend`` asks for; ``auto`` is measured or recalled, and said on stderr."""
    if backend != AUTO:
        return backend
    from cunet_deploy.sessions import choose_backend  # loads numpy, which the help of a command does not need

    choice = choose_backend(model, threads=threads)
    if logging.getLogger("cunet_deploy").isEnabledFor(logging.WARNING):
        click.echo(f"cunet-deploy: {choice.line()}", err=True)
    return choice.backend


def parse_bytes(option: str, text: str) -> int:
    """Parse a size such as ``400000``, ``400kB``, ``0.40MB`` or ``2GiB``, in bytes: kB of 1000, KiB of 1024.

    Raises:
        InputError: it is written otherwise.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)", text.strip())
    if match is None or match[2].lower() not in _UNITS:
        units = "kB, MB, GB, KiB, MiB or GiB"
        raise InputError(f"{option} {text}: expected bytes, or a number with {units}, such as 0.40MB or 2GiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def method_option(function: F) -> F:
    """``--method NAME``: how calibration chooses ranges; the parameter is ``method``, a name or ``None``."""
    return click.option(
        "--method",
        type=click.Choice(["min-max", "percentile", "entropy", "mse"]),
        help="Choice of ranges: all values, all but the rarest, least loss of information (as TensorRT does), or "
        "least squared error.  [default: min-max]",
    )(function)


def output_option(
    metavar: str, text: str, *, name: str = "out", folder: bool = True, required: bool = False
) -> Callable[[F], F]:
    """``-o PATH``, the same in every command; the parameter is a `Path`, or ``None`` where it may be left out.

    Args:
        metavar: what stands for the path in the help.
        text: the help.
        name: of the parameter.
        folder: whether it may be a folder.
        required: whether it must be given.
    """
    return click.option(
        "-o",
        "--output",
        "--out",  # its name in earlier versions
        name,
        metavar=metavar,
        required=required,
        type=AnyPath() if folder else FilePath(),
        help=text,
    )


def check_picture_name(path: Path) -> None:
    """Refuse a name that says no kind of picture that can be written.

    Raises:
        InputError: its suffix is another one.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{path}: is no picture's name; expected .png or .jpg")


def overwrite_option(function: F) -> F:
    """``--overwrite``: replace output files that exist."""
    return click.option("--overwrite", is_flag=True, help="Replace output files that exist.")(function)


def resume_options(text: str) -> Callable[[F], F]:
    """``--resume`` and ``--overwrite`` of a command that has both; given together, each does its part.

    Args:
        text: the help of ``--resume``.
    """

    def both(function: F) -> F:
        replace = "Replace output files that exist; with --resume, only those that were made with other options."
        overwrite = click.option("--overwrite", is_flag=True, help=replace)
        return click.option("--resume", is_flag=True, help=text)(overwrite(function))

    return both


def device_option(default: str | None = "auto") -> Callable[[F], F]:
    """``--device NAME``: where PyTorch runs; the parameter is ``device``, as `choose_device` takes it.

    Args:
        default: ``None`` where only some models run in PyTorch; those then take "auto".
    """
    return click.option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N|mps",
        default=default,
        help=f"Where {'PyTorch' if default else 'a checkpoint'} runs; auto takes a GPU that works.  [default: auto]",
    )


def json_option(function: F) -> F:
    """``--json FILE``: what the table shows, for programs; the parameter is ``json_path``, a `Path` or ``None``."""
    return click.option(
        "--json",
        "json_path",
        metavar="FILE",
        type=FilePath(),
        help="Write the numbers as JSON, units in the keys.",
    )(function)


def threads_option(function: F) -> F:
    """``--threads N``: the parameter is ``threads``, an integer from 1, or ``None`` to let the library choose."""
    return click.option(
        "--threads",
        metavar="N",
        type=click.IntRange(1, MAX_THREADS),
        help="CPU threads of the network.  [default: what the library chooses]",
    )(function)


def console() -> Console:
    """A console on stderr, for messages to people; results go to stdout.

    It prints text as it is: brackets in a path are no markup, and long lines are not broken.
    """
    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def say_skipped(messages: Iterable[str]) -> None:
    """Name what ``--skip-bad`` left out, a line each."""
    for message in messages:
        click.echo(f"skipped: {message}", err=True)


def progress(*columns: str | ProgressColumn) -> Progress:
    """A progress bar on stderr: description, bar, count, elapsed and remaining time, then ``columns``.

    It shows nothing when stderr is not a terminal or under ``--quiet``. Use it as a context manager; a column such as
    ``"{task.fields[fps]:.0f} fps"`` shows a field of the task.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *columns,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty() or not logging.getLogger("cunet_deploy").isEnabledFor(logging.WARNING),
    )
