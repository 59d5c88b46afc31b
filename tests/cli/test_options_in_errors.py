"""Errors of the library as the command line tells them."""

from __future__ import annotations

import re
from pathlib import Path

import click

from cunet_deploy.cli import COMMANDS, cli
from cunet_deploy.cli._errors import describe
from cunet_deploy.errors import CunetError, InputError

PACKAGE = Path(__file__).resolve().parents[2] / "cunet_deploy"
FROM_A_REGISTRY = re.compile(r"pip install [^\"'\n]*\bcunet-deploy\b")
"""The package is in no registry, where anybody may take its name; it is installed from a clone."""
NAMED = re.compile(r'\boption="(\w+)"')


def test_the_option_that_helps_is_named_after_the_message() -> None:
    assert (
        describe(InputError("out.mp4: exists already", option="overwrite")) == "out.mp4: exists already (--overwrite)"
    )
    assert describe(CunetError("a row is wrong", option="skip_bad")) == "a row is wrong (--skip-bad)"
    assert describe(CunetError("failed")) == "failed"


def test_every_option_that_an_error_names_exists() -> None:
    context = click.Context(cli)
    commands = [cli.get_command(context, name) for name in COMMANDS]
    options = {option for command in commands if command for part in command.params for option in part.opts}
    named = {name for path in PACKAGE.rglob("*.py") for name in NAMED.findall(path.read_text(encoding="utf-8"))}
    assert named
    assert {f"--{name.replace('_', '-')}" for name in named} <= options


def test_nothing_asks_a_registry_for_a_package_of_this_name() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if FROM_A_REGISTRY.search(path.read_text(encoding="utf-8"))]
    assert files == []
