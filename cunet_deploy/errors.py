"""The error tree. Every error this package raises on purpose is one of these, and each branch has an exit code.

    CunetError                       1   failed at run time
    ├── InputError                   2   wrong usage or bad input: a file, an image, an argument
    │   └── ConfigError              2   a configuration file or value
    ├── ArtifactError                3   an artifact that does not fit this machine or this version
    ├── VerificationError            4   a verification or accuracy gate failed
    ├── MissingDependencyError       5   an optional library is missing; the message is the install line
    └── UntrustedError               6   an artifact that could run code was refused

Messages say in one line what was wrong, what was expected and what to do next, in words that suit callers of any kind;
the command line adds the option that helps.
"""

from __future__ import annotations

import re

__all__ = [
    "ArtifactError",
    "ConfigError",
    "CunetError",
    "InputError",
    "MissingDependencyError",
    "UntrustedError",
    "VerificationError",
]


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that would break a message into lines or control a terminal. Names from files may hold it."""


class CunetError(Exception):
    """Something failed while running. Base of every error of this package."""

    exit_code = 1

    def __init__(self, message: str = "", *, option: str = "") -> None:
        """Keep the message as one line: control characters in it are written as escapes.

        Args:
            message: what was wrong, what was expected and what to do next.
            option: the parameter that helps, where it has the name of an option; the command line tells that option.
        """
        super().__init__(_CONTROL.sub(lambda found: repr(found[0])[1:-1], str(message)))
        self.option = option


class InputError(CunetError, ValueError):
    """An argument, file or image is not what was expected."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class ArtifactError(CunetError):
    """A model file cannot be used here: it was made for another version or machine, or is damaged."""

    exit_code = 3


class VerificationError(CunetError):
    """Outputs differ more than allowed, or an accuracy gate failed."""

    exit_code = 4


class MissingDependencyError(CunetError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""

    exit_code = 5


class UntrustedError(CunetError):
    """An artifact was refused because loading it could run code of its maker."""

    exit_code = 6
