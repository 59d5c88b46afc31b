"""Names that file systems take, of what URLs name: results are called after them."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

__all__ = ["safe_segments", "url_name"]

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Characters that some file system does not take in a name."""
_OF_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", re.IGNORECASE)
"""Names that stand for devices on Windows, with any suffix."""
_LONGEST = 150
"""Bytes of a name that leave room for what the names of results have behind it."""
_LONGEST_SUFFIX = 10


def url_name(url: str) -> str:
    """The last part of a URL's path, as `safe_segments`; empty where there is none."""
    return next(iter(safe_segments(urlsplit(url).path)[-1:]), "")


def safe_segments(path: str) -> list[str]:
    """The parts of a URL's path as names of files; those of which nothing is left are left out.

    They are decoded, and what may not stand in a name becomes ``_``, a slash that was encoded included; before the name
    of a device comes one. Of a long one the beginning and a part of its hash stay, with the suffix.
    """
    return [name for name in map(_safe, path.split("/")) if name]


def _safe(segment: str) -> str:
    text = unquote(segment).encode("utf-8", "replace").decode()
    name = _NOT_IN_NAMES.sub("_", text).strip(". ")
    name = f"_{name}" if _OF_DEVICES.match(name) else name
    if len(name.encode()) <= _LONGEST:
        return name
    suffix = PurePosixPath(name).suffix
    suffix = suffix if len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    end = f"~{hashlib.sha256(name.encode()).hexdigest()[:16]}{suffix}"
    return name.encode()[: _LONGEST - len(end.encode())].decode("utf-8", "ignore") + end
