"""Archives of arrays (``.npz``) that may be damaged, or somebody else's."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays"]

MOST_BYTES = 2**30
"""Limit for all arrays together: a small file may say that it holds far more than memory does."""


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file, by name. Nothing in it can run code.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, holds something else, or more than a gigabyte.
    """
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size} bytes of arrays are more than {MOST_BYTES}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, OSError) as error:
        raise ValueError(_reason(error)) from error
    except (SyntaxError, TypeError, MemoryError, RecursionError, OverflowError, tokenize.TokenError) as error:
        raise ValueError(f"the head of an array is damaged: {_reason(error)}") from error
    for name, value in found.items():
        if not isinstance(value, np.ndarray):  # bytes, where a member does not begin as an array
            raise ValueError(f"{ascii(name)[1:-1]} is no array")
    return found


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
