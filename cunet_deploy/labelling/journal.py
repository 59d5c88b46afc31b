"""Journal of labelling: a line of JSON for each picture as soon as it is labelled, from which a run goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from cunet_deploy._files import part_path, unwritable
from cunet_deploy.errors import InputError
from cunet_deploy.labelling.agreement import Consensus
from cunet_deploy.labelling.pictures import Origin

__all__ = ["Journal", "Labelled", "check_same"]

_DTYPES = {"points": np.float64, "scores": np.float64, "apart": np.float64, "kept": np.bool_, "beside": np.float64}
_DAMAGED = (ValueError, KeyError, TypeError, RecursionError)


@dataclass(frozen=True, eq=False)
class Labelled:
    """A picture and what is in it.

    Attributes:
        origin: of the picture.
        file: its name in the set; empty where nothing is in it.
        size: its width and height in pixels.
        objects: that were found.
    """

    origin: Origin
    file: str
    size: tuple[int, int]
    objects: tuple[Consensus, ...]

    def to_json(self) -> str:
        """Write one line; the numbers are those of memory, bit for bit."""
        objects = [{name: getattr(one, name).tolist() for name in _DTYPES} for one in self.objects]
        return json.dumps([astuple(self.origin), self.file, self.size, objects]) + "\n"

    @classmethod
    def from_json(cls, line: bytes) -> Labelled:
        """Read a line; raises `ValueError`, `KeyError` or `TypeError` where it is none."""
        (source, index, state), file, (width, height), objects = json.loads(line)
        read = (
            {name: np.array(one[name], dtype) for name, dtype in _DTYPES.items()} | {"beside": _pairs(one["beside"])}
            for one in objects
        )
        return cls(Origin(source, index, state), file, (width, height), tuple(Consensus(**one) for one in read))


def _pairs(rows: list[list[float]]) -> Any:
    return np.array(rows, np.float64).reshape(-1, 2)


def check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare what labels depend on, by the word for it, with that of an earlier run.

    Raises:
        InputError: some of it differs.
    """
    if other := [name for name, value in now.items() if before.get(name) != value]:
        raise InputError(
            f"{path}: is of a run with other {', '.join(other)}; go on with the same, or overwrite it",
            option="overwrite",
        )


class Journal:
    """``SET.json.partial``: it is there until the set is complete. A context manager.

    Attributes:
        path: the file.
        goes_on: whether an earlier run is continued.
        entries: what that had labelled, once the block is entered.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Look for the journal of an earlier run.

        Args:
            out: the set.
            identity: what the labels depend on, see `check_same`.
            resume: go on with an earlier run, where there is one.
            overwrite: begin anew all the same; with ``resume`` only where that run was another.

        Raises:
            InputError: there is an earlier run, and neither is set; or it cannot be gone on with, and is not to be
                overwritten.
        """
        self.path = self.of(out)
        self.entries: list[Labelled] = []
        self._identity = identity
        self._file: IO[bytes] | None = None
        self.goes_on = resume and self.path.exists() and self._is_ours(overwrite)
        if self.path.exists() and not (resume or overwrite):
            raise InputError(
                f"{self.path}: was left by a run that did not end; go on with that, or overwrite it", option="resume"
            )

    @staticmethod
    def of(out: Path) -> Path:
        """Path of the journal of a set."""
        return part_path(out, ".partial")

    def _lines(self) -> list[bytes]:
        return [line for line in self.path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def _is_ours(self, overwrite: bool) -> bool:
        """Return whether what is there is of a run with the same options; unless to be overwritten, it has to be."""
        lines = self._lines()
        try:
            before = dict(json.loads(lines[0]) if lines else self._identity)
            check_same(self.path, before, self._identity)
        except (InputError, *_DAMAGED) as error:
            if overwrite:
                return False
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: is damaged; overwrite it to begin anew", option="overwrite") from error
        return True

    def __enter__(self) -> Journal:
        """Read what is there, or remove it."""
        if not self.goes_on:
            self.remove()
            return self
        lines = self._lines()
        whole = sum(map(len, lines[:1]))
        with contextlib.suppress(*_DAMAGED):  # a power cut may have left anything at the end
            for line in lines[1:]:
                self.entries.append(Labelled.from_json(line))
                whole += len(line)
        os.truncate(self.path, whole)
        return self

    def add(self, item: Labelled) -> None:
        """Note a picture, on the disk when this returns.

        Raises:
            CunetError: the file cannot be written.
        """
        try:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            head = "" if self._file.tell() else json.dumps(self._identity) + "\n"
            data = f"{head}{item.to_json()}".encode()
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error

    def remove(self) -> None:
        """Remove the file: the set is complete, or nothing is worth keeping."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
