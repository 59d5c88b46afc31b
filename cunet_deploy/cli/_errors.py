"""Errors as the command line tells them."""

from __future__ import annotations

from cunet_deploy.errors import CunetError

__all__ = ["describe"]


def describe(error: CunetError) -> str:
    """The message of an error, and the option that helps."""
    return f"{error} (--{error.option.replace('_', '-')})" if error.option else str(error)
