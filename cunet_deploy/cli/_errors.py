"""Errors as the command line tells them."""

from __future__ import annotations

from collections.abc import Collection

from cunet_deploy.errors import CunetError

__all__ = ["describe"]


def describe(error: CunetError, options: Collection[str] | None = None) -> str:
    """The message of an error, and the option that helps, if it is one of those of the command (``None``: it is)."""
    option = f"--{error.option.replace('_', '-')}"
    return f"{error} ({option})" if error.option and (options is None or option in options) else str(error)
