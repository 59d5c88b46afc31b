"""``cunet-deploy doctor``."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from cunet_deploy.cli._options import json_option, overwrite_option
from cunet_deploy.cli._report import json_report, results
from cunet_deploy.doctor import Report, examine
from cunet_deploy.errors import MissingDependencyError

__all__ = ["command"]


@click.command("doctor")
@json_option
@overwrite_option
def command(json_path: Path | None, overwrite: bool) -> None:
    """Show what this machine can run, and the line that installs what is missing.

    \b
    Example:
      cunet-deploy doctor --json machine.json
    """
    with json_report(json_path, overwrite=overwrite) as write:
        report = examine()
        write(report.to_dict())
    _print(report)
    if not report.is_usable:
        missing = next(check for check in report.checks if check.required and not check.found)
        raise MissingDependencyError(f"{missing.name} is missing and nothing runs without it; {missing.advice}")


def _print(report: Report) -> None:
    table = Table(show_header=True)
    for title in ("", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for check in report.checks:
        table.add_row(escape(check.name), escape(check.found) or "-", escape(check.advice))
    results().print(table)
    lines = [f"{name:17} {f'cannot run: {why}' if why else 'can run'}" for name, why in report.backends.items()]
    for line in (*lines, *(f"Jetson: {hint}" for hint in report.hints)):
        click.echo(line)  # whole, so that the commands in it can be copied
