"""The one way in for JSON, TOML and CSV of others: decoded into types, checked on the way, one line of error.

A frozen dataclass describes what a file holds. Its annotations are the checks: types, choices, and bounds as
``Annotated[int, Meta(ge=1, le=8)]``; `check_fields` holds values to the same bounds that are given in code. JSON may
have more keys than are known, as later versions write them; TOML is written by hand, so there an unknown key is an
error that names the table where it belongs, or the nearest valid one. Numbers are finite.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import difflib
import functools
import io
import math
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import msgspec
from msgspec import Meta

from cunet_deploy.errors import ConfigError, CunetError, InputError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

__all__ = [
    "AtLeastZero",
    "Count",
    "Positive",
    "Share",
    "check",
    "check_fields",
    "convert",
    "decode_json",
    "decode_text",
    "parse_toml",
    "read_table",
    "read_text",
    "read_toml",
]

T = TypeVar("T")

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1, le=10**6)]
AtLeastZero = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]

_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$?(?P<path>.*)`)?", re.DOTALL)
"""An error of msgspec: what is wrong and, as a JSON path, where."""


def check(condition: bool, message: str) -> None:
    """Raise a ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def decode_text(content: bytes, errors: str = "strict") -> str:
    """Text from UTF-8 with or without a byte order mark, or from UTF-16 with one, as Windows programs write it.

    Args:
        content: of a file.
        errors: what becomes of bytes that are no UTF-8, as `bytes.decode` takes it.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig", errors)


def read_table(text: str) -> csv.DictReader[str]:
    """The rows of a CSV table with a header; columns are divided by commas, semicolons or tabs, as Excel does."""
    header = text.lstrip().partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    return rows


def read_text(path: str | Path, expected: str, error: type[InputError] = ConfigError) -> str:
    """The text of a file, see `decode_text`; its lines end with a line feed.

    Raises:
        InputError: ``error``, if it cannot be read or is no text; the message says what was expected.
    """
    try:
        return io.StringIO(decode_text(Path(path).read_bytes()), newline=None).getvalue()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); expected {expected}") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not a text file; expected {expected}") from problem


def decode_json(data: str | bytes, kind: type[T]) -> T:
    """A value of a type from JSON; unknown keys are left out.

    Raises:
        InputError: it is not JSON, or something in it is missing, of another type or out of range. The message says
            what and where, not in which file.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InputError(_reason(error)) from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it is missing or is not TOML.
    """
    return parse_toml(read_text(path, "a TOML file"), path)


def parse_toml(text: str, source: str | Path) -> dict[str, Any]:
    """The tables of a TOML file from its text; ``source`` is named in errors.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: no TOML, or a number of more digits than Python reads
        raise ConfigError(f"{source}: is not TOML ({error}); see models/*/config.toml for examples") from error


def convert(table: object, kind: type[T], where: str = "") -> T:
    """A frozen dataclass from the nested tables of a TOML file.

    Args:
        table: as `read_toml` gives it.
        kind: the dataclass.
        where: the name of the table in errors.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of another type, out of range or not finite.
    """
    _check_keys(kind, table, where, kind)
    try:
        return msgspec.convert(table, kind)
    except (msgspec.DecodeError, RecursionError) as error:
        if isinstance(error.__cause__, CunetError):
            raise ConfigError(str(error.__cause__)) from error
        path = _steps(str(error))
        hint, value = _at(kind, table, path)
        raise ConfigError(f"{_label(kind, path, where)} must be {_expected(hint, value)}, got {value!r}") from error


def check_fields(record: Any, where: str, error: type[InputError] = ConfigError) -> None:
    """Hold the fields of a dataclass to the bounds in their annotations.

    Args:
        record: the instance.
        where: what stands before a field's name in an error.
        error: what is raised.
    """
    kind: Any = type(record)
    for name, hint in _bounded(kind).items():
        value = getattr(record, name)
        try:
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError
            msgspec.convert(value, hint)
        except ValueError:
            raise error(f"{where} {name} must be {_expected(hint, value)}, got {value!r}") from None


def _reason(error: Exception) -> str:
    """Reason of an error, in one line."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error.__cause__, CunetError):
        return str(error.__cause__)
    found = _PLACE.fullmatch(str(error))
    assert found is not None
    what = found["what"].replace("`", "")
    place = (found["path"] or "").removeprefix(".")
    what = what if what.startswith("JSON") else f"{what[:1].lower()}{what[1:]}"
    return f"{place}: {what}" if place else what


def _steps(message: str) -> list[str]:
    """``Expected ... - at `$.data.sources[1].path``` to data, sources, 1, path."""
    found = _PLACE.fullmatch(message)
    path = "" if found is None else found["path"] or ""
    return [name or index for name, index in re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", path)]


def _at(kind: Any, table: Any, path: list[str]) -> tuple[Any, Any]:
    """The annotation and the value at a path, as far as annotations lead along it."""
    hint = kind
    for step in path:
        known = _hints(hint) if dataclasses.is_dataclass(_plain(hint)) else {}
        if step in known:
            hint, table = known[step], table[step]
        elif step.isdigit() and _item(hint) is not None:
            hint, table = _item(hint), table[int(step)]
        else:
            break
    return hint, table


def _label(kind: Any, path: list[str], where: str) -> str:
    """Name of the value at a path in errors: ``[train] epochs``."""
    label, names = where, [step for step in path if step != "..."]
    if names and not where and _is_table(_hints(kind).get(names[0])):
        label, names = f"[{names[0]}]", names[1:]
    rest = "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in names).removeprefix(".")
    return f"{label} {rest}".strip() or "the file"


def _is_table(hint: Any) -> bool:
    """Return whether a field is written as a table of its own."""
    return dataclasses.is_dataclass(_plain(hint)) or typing.get_origin(_plain(hint)) is dict


def _check_keys(hint: Any, value: Any, where: str, root: Any) -> None:
    """Refuse unknown and missing keys, and numbers that are not finite, in a table of ``root`` and those below it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, got {value!r}")
    kind = _plain(hint)
    if isinstance(value, list):
        for number, item in enumerate(value):
            _check_keys(_item(hint), item, f"{where}[{number}]", root)
    if not isinstance(value, dict):
        return
    if not dataclasses.is_dataclass(kind):
        for key, item in value.items():
            _check_keys(None, item, f"{where} {key}", root)
        return
    known = _hints(kind)
    for key in value:
        if key not in known:
            raise ConfigError(f"{where or 'top level'}: unknown key {key!r}; {_advice(key, known, root)}")
    for key, item in value.items():
        below = f"{where} {key}" if where else f"[{key}]" if _is_table(known[key]) else key
        _check_keys(known[key], item, below, root)
    # last: what is missing here may stand in a table below
    missing = [field.name for field in dataclasses.fields(kind) if _required(field) and field.name not in value]
    check(not missing, f"{where or 'top level'}: key {', '.join(map(repr, missing))} is missing")


def _advice(key: str, known: Mapping[str, Any], root: Any) -> str:
    """Advice on a key that a table does not have: where ``root`` has it, or which of its own keys is meant."""
    if homes := list(_homes(key, root)):
        return f"it belongs {' or '.join(homes)}"
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected {', '.join(known)}"


def _homes(key: str, kind: Any, where: str = "") -> Iterator[str]:
    """Places of a key in a table and those below it."""
    known = _hints(kind)
    if key in known:
        top = f"in a table of its own, [{key}]" if _is_table(known[key]) else "at the top level, before all tables"
        yield f"in {where}" if where else top
    for name, hint in known.items():
        below = _plain(_item(hint) or hint)
        if dataclasses.is_dataclass(below) and _plain(hint) is hint:  # not what is added in code, and may be None
            yield from _homes(key, below, f"{where} {name}" if where else f"[{name}]")


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _expected(hint: Any, value: Any) -> str:
    """Describe in words what was expected instead of a value."""
    kind = _plain(hint)
    described = [meta.description for meta in _metas(hint) if meta.description]
    if described:
        return str(described[0])
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, typing.get_args(kind)))}"
    if dataclasses.is_dataclass(kind):
        return "a table"
    if typing.get_origin(kind) in (tuple, list):
        items = {str: "strings", int: "whole numbers", float: "numbers"}.get(_plain(_item(kind)), "tables")
        return f"a list of {items}"
    if typing.get_origin(kind) is dict:
        items = typing.get_args(kind)[1]
        return "a table of strings" if items is str else f"a table, each value {_expected(items, None)}"
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    ranges = [found for meta in _metas(hint) if (found := _range(meta))]
    if not ranges or not fits:
        return f"of type {kind.__name__}"
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    return ranges[0]


def _range(meta: Meta) -> str:
    """The bounds of a number in words."""
    low = meta.ge if meta.ge is not None else meta.gt
    if meta.ge is not None and meta.le is not None:
        return f"from {meta.ge} to {meta.le}"
    if low is not None and meta.lt is not None:
        return f"in {'[' if meta.ge is not None else '('}{low}, {meta.lt})"
    if meta.gt is not None:
        return "positive" if meta.gt == 0 else f"above {meta.gt}"
    if meta.ge is not None:
        return f"at least {meta.ge}"
    return f"at most {meta.le}" if meta.le is not None else ""


def _hints(kind: Any) -> Mapping[str, Any]:
    """The annotations of the fields of a dataclass."""
    return _hints_of(_plain(kind))


@functools.cache
def _hints_of(kind: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@functools.cache
def _bounded(kind: Any) -> Mapping[str, Any]:
    hints = _hints(kind).items()
    return {name: hint for name, hint in hints if any(_metas(hint)) or typing.get_origin(hint) is Literal}


def _metas(hint: Any) -> Iterator[Meta]:
    """The bounds in an annotation."""
    for item in typing.get_args(hint) if typing.get_origin(hint) is Annotated else ():
        if isinstance(item, Meta):
            yield item


def _plain(hint: Any) -> Any:
    """An annotation without its bounds and without ``None``."""
    if typing.get_origin(hint) is Annotated:
        return _plain(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (Union, types.UnionType):
        own = [item for item in typing.get_args(hint) if item is not type(None)]
        return _plain(own[0]) if len(own) == 1 else hint
    return hint


def _item(hint: Any) -> Any:
    """Type of the items of a list or tuple; ``None`` for others."""
    kind = _plain(hint)
    return typing.get_args(kind)[0] if typing.get_origin(kind) in (tuple, list) and typing.get_args(kind) else None
