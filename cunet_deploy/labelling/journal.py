"""Journal of labelling: a line of JSON for each picture as soon as it is labelled, from which a run goes on."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from cunet_deploy._files import unwritable
from cunet_deploy.errors import InputError
from cunet_deploy.labelling.agreement import Consensus

__all__ = ["Journal", "Labelled"]

_DTYPES = {"points": np.float64, "scores": np.float64, "apart": np.float64, "kept": np.bool_, "beside": np.float64}


@dataclass(frozen=True, eq=False)
class Labelled:
    """A picture and what is in it.

    Attributes:
        key: by which the picture is known again, see `Found.key`.
        file: its name in the set; empty where nothing is in it.
        size: its width and height in pixels.
        objects: that were found.
    """

    key: str
    file: str
    size: tuple[int, int]
    objects: tuple[Consensus, ...]

    def to_json(self) -> str:
        """One line; the numbers are those of memory, bit for bit."""
        objects = [{name: getattr(one, name).tolist() for name in _DTYPES} for one in self.objects]
        return json.dumps([self.key, self.file, self.size, objects]) + "\n"

    @classmethod
    def from_json(cls, line: bytes) -> Labelled:
        """Read a line; raises `ValueError`, `KeyError` or `TypeError` where it is none."""
        key, file, (width, height), objects = json.loads(line)
        read = (
            {name: np.array(one[name], dtype) for name, dtype in _DTYPES.items()} | {"beside": _pairs(one["beside"])}
            for one in objects
        )
        return cls(key, file, (width, height), tuple(Consensus(**one) for one in read))


def _pairs(rows: list[list[float]]) -> Any:
    return np.array(rows, np.float64).reshape(-1, 2)


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
            identity: what the labels depend on, by the word for it in errors.
            resume: go on with an earlier run, where there is one.
            overwrite: begin anew all the same.

        Raises:
            InputError: there is an earlier run, and neither is set.
        """
        self.path = self.of(out)
        self.goes_on = resume and self.path.exists()
        self.entries: list[Labelled] = []
        self._head = json.dumps(identity, sort_keys=True)
        self._file: IO[bytes] | None = None
        if self.path.exists() and not (resume or overwrite):
            raise InputError(
                f"{self.path}: was left by a run that did not end; go on with that, or overwrite it", option="resume"
            )

    @staticmethod
    def of(out: Path) -> Path:
        """Path of the journal of a set."""
        return out.with_name(f"{out.name}.partial")

    def __enter__(self) -> Journal:
        """Read what is there, or remove it.

        Raises:
            InputError: it is damaged, or belongs to a run with other options.
        """
        if not self.goes_on:
            self.remove()
            return self
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1  # a run that was killed may have left half a line
        os.truncate(self.path, whole)
        head, *lines = data[:whole].splitlines() or [self._head.encode()]
        try:
            before = dict(json.loads(head))
            self.entries = [Labelled.from_json(line) for line in lines]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{self.path}: is damaged; overwrite it to begin anew", option="overwrite") from error
        if other := [name for name, value in json.loads(self._head).items() if before.get(name) != value]:
            raise InputError(
                f"{self.path}: is of a run with other {', '.join(other)}; go on with the same, or overwrite it",
                option="overwrite",
            )
        return self

    def add(self, item: Labelled) -> None:
        """Note a picture.

        Raises:
            CunetError: the file cannot be written.
        """
        try:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            head = "" if self._file.tell() else f"{self._head}\n"
            data = f"{head}{item.to_json()}".encode()
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def remove(self) -> None:
        """The set is complete, or nothing is worth keeping."""
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
