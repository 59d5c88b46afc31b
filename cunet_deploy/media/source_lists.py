"""Lists of sources: text files with a source a line, and CSV or Parquet files with a column ``source``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cunet_deploy._decode import decode_text, read_table
from cunet_deploy._optional import require
from cunet_deploy.errors import InputError

__all__ = ["LIST_SUFFIXES", "check_sources", "parse_source_list"]

_COLUMN = "source"


def check_sources(sources: Iterable[str]) -> None:
    """Refuse an empty text, as an unset variable of a shell gives: as a path it would be the current folder.

    Raises:
        InputError: there is one.
    """
    if "" in sources:
        raise InputError('a source is an empty text; give a file, or "." for the current folder')


def parse_source_list(name: str, content: bytes) -> list[str]:
    """Return the sources in a list, in its order.

    Paths are relative to the list. Empty values are skipped, and lines of text files that begin with ``#``.

    Args:
        name: path or URL of the list, whose suffix, one of `LIST_SUFFIXES`, says what it is.
        content: of the file.

    Raises:
        InputError: the file is damaged, has no such column, names another list, or names nothing.
        MissingDependencyError: it is a Parquet file, and pyarrow is not installed.
    """
    try:
        listed = _PARSERS[PurePosixPath(name).suffix.lower()](name, content)
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is not a text file; expected a list of sources") from error
    texts = [text.strip() for text in listed if text and text.strip()]
    if not texts:
        raise InputError(f"{name}: lists no source; write one a line")
    for text in texts:
        if PurePosixPath(text).suffix.lower() in LIST_SUFFIXES:
            raise InputError(f"{name}: names another list, {text}; give each list as a source of its own")
    return [_from_list(name, text) for text in texts]


def _from_list(name: str, text: str) -> str:
    """A source, seen from where the list is."""
    if "://" in text or text.isdecimal():  # a URL, or the number of a camera
        return text
    if "://" in name and not text.startswith("/"):
        return f"{name.rpartition('/')[0]}/{text}"
    return str(Path(name).parent / text)


def _text(name: str, content: bytes) -> Iterable[str]:
    # names of files may be any bytes
    lines = (line.strip() for line in io.StringIO(decode_text(content, "surrogateescape"), newline=None))
    return (line for line in lines if not line.startswith("#"))


def _csv(name: str, content: bytes) -> Iterable[str | None]:
    try:
        rows = read_table(decode_text(content, "surrogateescape"))
        if _COLUMN not in (rows.fieldnames or ()):
            raise InputError(f"{name}: has no column {_COLUMN!r}; its first line is the header")
        return [row[_COLUMN] for row in rows]
    except csv.Error as error:
        raise InputError(f"{name}: is not a CSV file ({error}); write it again") from error


def _parquet(name: str, content: bytes) -> Iterable[str | None]:
    parquet = require("pyarrow.parquet", extra="ray")
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        columns = file.schema_arrow.names
        values = file.read(columns=[_COLUMN]).column(_COLUMN).to_pylist() if _COLUMN in columns else None
    except (ValueError, OSError) as error:  # what pyarrow raises for damaged files is one of these
        raise InputError(f"{name}: is damaged or not a Parquet file; write it again") from error
    if values is None:
        raise InputError(f"{name}: has no column {_COLUMN!r}; it has {', '.join(columns)}")
    if not all(value is None or isinstance(value, str) for value in values):
        raise InputError(f"{name}: its column {_COLUMN!r} does not hold text; write paths or URLs")
    return list(values)


_PARSERS = {".txt": _text, ".lst": _text, ".csv": _csv, ".parquet": _parquet}

LIST_SUFFIXES = tuple(_PARSERS)
"""Suffixes of files that are taken for lists of sources."""
