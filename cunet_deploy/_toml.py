"""Frozen dataclasses from TOML: types are checked, an unknown key is an error that names the nearest valid one."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from cunet_deploy.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

__all__ = ["check", "parse", "read_toml"]

T = TypeVar("T")


def check(condition: bool, message: str) -> None:
    """Raise a ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it is missing or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML ({error}); see models/*/config.toml for examples") from error


def parse(cls: type[T], table: object, where: str) -> T:
    """A frozen dataclass from nested tables; ``where`` is the table's name in errors."""
    check(isinstance(table, dict), f"{where or 'the file'} must be a table")
    assert isinstance(table, dict)
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1) or sorted(hints)
            raise ConfigError(f"{where or 'top level'}: unknown key {key!r}; did you mean {near[0]!r}?")
    values = {key: _convert(hints[key], item, f"{where} {key}".strip()) for key, item in table.items()}
    required = [
        item.name
        for item in dataclasses.fields(cls)  # type: ignore[arg-type]
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    missing = [key for key in required if key not in values]
    check(not missing, f"{where or 'top level'}: key {', '.join(map(repr, missing))} is missing")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as type ``hint``: a nested table, a choice, a list of strings, or a number or string as it is."""
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, f"[{where}]")  # type: ignore[arg-type]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        check(value in choices, f"{where} must be one of {', '.join(map(repr, choices))}, got {value!r}")
        return value
    if typing.get_origin(hint) is tuple:
        is_list = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        check(is_list, f"{where} must be a list of strings, got {value!r}")
        return tuple(value)
    if typing.get_origin(hint) is dict:
        is_table = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
        check(is_table, f'[{where}] must be a table of strings, such as "down.0.*" = "4", got {value!r}')
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    check(type(value) is hint, f"{where} must be of type {hint.__name__}, got {value!r}")
    return value
