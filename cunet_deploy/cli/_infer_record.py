"""Record of what the results in a folder were made of and with, by which ``infer --resume`` knows what is done.

``.cunet-infer.json`` beside the results has an entry for each set of them that is whole: the options on which they
depend, and a digest of the files that were read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cunet_deploy._files import atomic_path
from cunet_deploy.errors import InputError

if TYPE_CHECKING:
    from cunet_deploy.cli._infer_one import Request
    from cunet_deploy.media import OutputPlan

__all__ = ["Done", "Record"]

_NAME = ".cunet-infer.json"


@dataclass(frozen=True)
class Done:
    """Results that are whole.

    Attributes:
        path: the last of their files.
        left_out: images that could not be read.
    """

    path: Path
    left_out: int

    def remark(self) -> str:
        """What is missing all the same, or empty."""
        images = "an image" if self.left_out == 1 else f"{self.left_out} images"
        again = f"{self.path}: {images} could not be read; --overwrite in place of --resume tries again"
        return again if self.left_out else ""


class Record:
    """The entry of one set of results. Several processes may write into one folder."""

    def __init__(self, plan: OutputPlan, name: str, read: Iterable[Path], asked: Request) -> None:
        """Look at the files as they are now, before they are read.

        Args:
            plan: the results; without any there is no entry.
            name: of the source.
            read: its files.
            asked: the options.

        Raises:
            InputError: there is no such model or detector.
        """
        self._plan, self._asked = plan, asked
        self._path = plan.files[-1] if plan.files else None
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in read if path.is_file()]
        self._read = hashlib.sha256(ascii(states or name).encode()).hexdigest()

    @property
    def _file(self) -> Path:
        assert self._path is not None
        return self._path.parent / _NAME

    def done(self) -> Done | None:
        """The results, where they are there and what they were made of is unchanged.

        Raises:
            InputError: they were made with another model or other options, and are not to be overwritten.
        """
        if self._path is None or not self._plan.is_there():
            return None
        entry = _entries(self._file).get(self._path.name)
        if not isinstance(entry, dict):
            return None
        before, now = entry.get("options", {}), self._asked.options
        differing = [f"{name} {json.dumps(before.get(name))}" for name in now if before.get(name) != now[name]]
        if differing and self._asked.overwrite:
            return None
        if differing:
            raise InputError(
                f"{self._path}: was made with {', '.join(differing)}; resume with the same, make all anew, or choose "
                "another output",
                option="overwrite",
            )
        return Done(self._path, int(entry["left_out"])) if entry.get("read") == self._read else None

    def forget(self) -> None:
        """Drop the entry: the results are about to be replaced."""
        if self._path is not None and self._path.name in _entries(self._file):
            with self._changed() as entries:
                del entries[self._path.name]

    def keep(self, left_out: int) -> None:
        """Note that the results are whole.

        Raises:
            CunetError: that cannot be written.
        """
        if self._path is not None:
            with self._changed() as entries:
                entries[self._path.name] = {
                    "options": self._asked.options,
                    "read": self._read,
                    "left_out": left_out,
                }

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        with atomic_path(self._file, overwrite=True) as temporary:  # which keeps other processes waiting
            entries = _entries(self._file)
            yield entries
            temporary.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _entries(file: Path) -> dict[str, Any]:
    """All entries of a folder; none where the file is missing or damaged."""
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
