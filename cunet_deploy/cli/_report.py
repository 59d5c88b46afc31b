"""Output of measuring commands: a table on stdout, the same as JSON in a file."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from cunet_deploy._files import atomic_path

__all__ = ["advancing", "json_report", "results"]

_WIDTH_OF_A_FILE = 160


def results() -> Console:
    """A console on stdout; as wide as the terminal, and wide enough for every table where stdout is none."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, highlight=False)


@contextlib.contextmanager
def advancing(bar: Progress, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show ``bar`` with one task, and give the function that moves it on."""
    with bar:
        task = bar.add_task(title, total=total)

        def advance(steps: int) -> None:
            bar.advance(task, steps)

        yield advance


@contextlib.contextmanager
def json_report(path: Path | None, *, overwrite: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that writes a report to ``path``; it does nothing when there is none.

    That the file may be written is found out here, before the measurement and not after it.

    Raises:
        InputError: the file exists and ``overwrite`` is false.
        CunetError: it cannot be written.
    """
    if path is None:
        yield lambda report: None
        return
    with atomic_path(path, overwrite=overwrite) as temporary:
        yield lambda report: _write(temporary, report)


def _write(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
