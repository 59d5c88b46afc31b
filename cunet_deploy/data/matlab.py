"""Matlab's MAT files, version 5 to 7, as data sets come in: numbers, text, cells and structs.

Read here and not by scipy, whose reader crashes the process on many damaged files. The format is described in
Mathworks' "MAT-File Format"; a file is a list of elements, each a tag (type and bytes) and its data, and a matrix is an
element that holds others: flags, dimensions, name and content.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cunet_deploy.errors import InputError

__all__ = ["MatFile", "read_mat"]

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR, _FIRST_NUMERIC, _LAST_NUMERIC = 1, 2, 4, 6, 15
_COMPLEX = 0x800
_MOST_DIMENSIONS = 32
_MOST_BYTES = 1 << 30
"""Largest size of an unpacked file. The largest of the known ones, the release of MPII, has a quarter of it."""


class _Element(NamedTuple):
    """Type and content of an element."""

    kind: int
    data: memoryview


class _DamagedError(Exception):
    """The file contradicts itself."""


def read_mat(path: Path, variable: str, what: str) -> Any:
    """A variable of a MAT file.

    Args:
        path: the file.
        variable: its name.
        what: the file should be, for messages.

    Returns:
        An array of numbers with the dimensions that the file has, a text, or for structs and cells a list, in the order
        of Matlab; a struct is a dict of its fields.

    Raises:
        InputError: the file is missing, damaged, of another version, or lacks the variable.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {what}") from error
    try:
        found = MatFile(data).variable(variable)
    except (_DamagedError, struct.error, zlib.error, RecursionError, ValueError, MemoryError) as error:
        reason = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}: is not {what} ({reason}); download it again") from error
    return found


@dataclass(frozen=True)
class MatFile:
    """The bytes of a file."""

    data: bytes

    def variable(self, name: str) -> Any:
        """Return the variable that `read_mat` asks for.

        Raises:
            Exception: one of several, where the file is damaged.
        """
        if self.data[:10] == b"MATLAB 7.3":
            raise _DamagedError("it is of version 7.3: save it with -v7")
        if len(self.data) < _HEADER or self.data[126:128] not in (b"IM", b"MI"):
            raise _DamagedError("it has no header of a MAT file")
        reader = _Reader("<" if self.data[126:128] == b"IM" else ">")
        view, names = memoryview(self.data)[_HEADER:], []
        while len(view) >= 8:
            element, view = reader.element(view)
            if element.kind == _COMPRESSED:
                unpacking = zlib.decompressobj()
                content = memoryview(unpacking.decompress(element.data, _MOST_BYTES))
                if not unpacking.eof:
                    raise _DamagedError("it is cut off, or larger than any known")
                element, _ = reader.element(content)
            if element.kind == _MATRIX and len(element.data):
                found, content_of = reader.named(element.data)
                if found == name:
                    return content_of()
                names.append(ascii(found)[1:-1])
        raise _DamagedError(f"no {name} in it, but {', '.join(names) or 'nothing'}")


@dataclass(frozen=True)
class _Reader:
    """Reads elements in one order of bytes."""

    order: str

    def element(self, view: memoryview) -> tuple[_Element, memoryview]:
        """The first element, and what comes after it."""
        kind, size = struct.unpack_from(self.order + "II", view)
        if kind >> 16:  # up to four bytes stand within the tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _DamagedError("a small element has more than four bytes")
            return _Element(kind, view[4 : 4 + size]), view[8:]
        if size > len(view) - 8:
            raise _DamagedError("it is cut off")
        padded = size if kind == _COMPRESSED else -(-size // 8) * 8
        return _Element(kind, view[8 : 8 + size]), view[8 + padded :]

    def named(self, view: memoryview) -> tuple[str, Any]:
        """The name of a matrix, and a function that reads it."""
        flags, view = self.element(view)
        sizes, view = self.element(view)
        name, view = self.element(view)
        if len(flags.data) != 8 or sizes.kind != 5:
            raise _DamagedError("a matrix has no dimensions")
        shape = tuple(self._numbers(sizes).tolist())
        if not 2 <= len(shape) <= _MOST_DIMENSIONS or min(shape) < 0:
            raise _DamagedError(f"a matrix has the dimensions {shape}")
        (bits,) = struct.unpack_from(self.order + "I", flags.data)
        return bytes(name.data).decode("ascii"), lambda: self._content(bits, shape, view)

    def matrix(self, view: memoryview) -> tuple[Any, memoryview]:
        """The first matrix, and what comes after it."""
        element, rest = self.element(view)
        if element.kind != _MATRIX:
            raise _DamagedError("something else stands where a matrix should")
        if not len(element.data):  # a field that was never set
            return np.zeros((0, 0)), rest
        return self.named(element.data)[1](), rest

    def _content(self, bits: int, shape: tuple[int, ...], view: memoryview) -> Any:
        kind, count = bits & 0xFF, math.prod(shape)
        if _FIRST_NUMERIC <= kind <= _LAST_NUMERIC and not bits & _COMPLEX:
            values = self._numbers(self.element(view)[0])
            if len(values) != count:
                raise _DamagedError(f"{len(values)} numbers where there should be {count}")
            return values.reshape(shape, order="F")
        if kind == _CHAR:
            element, _ = self.element(view)
            if element.kind not in _TEXTS:
                raise _DamagedError("a text of no known type")
            encoding = _TEXTS[element.kind]
            if encoding != "utf-8":
                encoding += "-le" if self.order == "<" else "-be"
            return bytes(element.data).decode(encoding)
        if kind not in (_CELL, _STRUCT):
            raise _DamagedError("it holds something else than numbers, texts, cells and structs")
        names: list[str] | None = None
        if kind == _STRUCT:
            names, view = self._field_names(view)
        if count * 8 * max(1, len(names or ())) > len(view):  # each item is a tag at least
            raise _DamagedError("it is cut off")
        found: list[Any] = []
        for _ in range(count):
            if names is None:
                value, view = self.matrix(view)
                found.append(value)
                continue
            fields: dict[str, Any] = {}
            for name in names:
                fields[name], view = self.matrix(view)
            found.append(fields)
        return found

    def _field_names(self, view: memoryview) -> tuple[list[str], memoryview]:
        length, view = self.element(view)
        table, view = self.element(view)
        size = int(self._numbers(length)[0]) if len(length.data) >= 4 else 0
        if size <= 0:
            raise _DamagedError("its fields have no names")
        data = bytes(table.data)
        parts = [data[start : start + size] for start in range(0, len(data), size)]
        return [part.partition(b"\0")[0].decode("ascii") for part in parts], view

    def _numbers(self, element: _Element) -> Any:
        if element.kind not in _NUMBERS:
            raise _DamagedError("something else stands where numbers should")
        return np.frombuffer(element.data, self.order + _NUMBERS[element.kind])
