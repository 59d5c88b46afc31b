"""Records of the inputs and options of results, by which ``infer --resume`` knows what is done.

``.cunet-infer/NAME.json`` among the results is the record of one set of them that is whole, called after the last of
its files: sizes and times of these files, the options on which they depend, and a digest of what was read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cunet_deploy._decode import decode_json
from cunet_deploy._files import part_path, stat_digest, write_text_atomic
from cunet_deploy.errors import InputError

if TYPE_CHECKING:
    from cunet_deploy.cli._infer_one import Request
    from cunet_deploy.media import OutputPlan

__all__ = ["Done", "Record"]

_FOLDER = ".cunet-infer"


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
        """Tell what is missing all the same; empty where nothing is."""
        images = "an image" if self.left_out == 1 else f"{self.left_out} images"
        again = f"{self.path}: {images} could not be read; --overwrite in place of --resume tries again"
        return again if self.left_out else ""


@dataclass(frozen=True)
class _Content:
    """Content of a record."""

    options: dict[str, Any]
    read: str
    written: dict[str, str]
    left_out: int


class Record:
    """The record of one set of results. Processes that write other sets into the same folder leave it alone."""

    def __init__(self, plan: OutputPlan, name: str, read: Iterable[Path], asked: Request) -> None:
        """Look at the files as they are now, before they are read.

        Args:
            plan: the results; without any there is no record.
            name: of the source.
            read: its files; of a URL, camera or pipe there is none, and the name is all that is compared.
            asked: the options.
        """
        self._plan, self._asked = plan, asked
        self._read = stat_digest(read) or name

    @property
    def _file(self) -> Path:
        return part_path(self._plan.folder / _FOLDER / self._plan.files[-1].name, ".json")

    def done(self) -> Done | None:
        """The results, where they and what they were made of are unchanged.

        Raises:
            InputError: there is no such model or detector; or the results were made with another one or other options,
                and are not to be overwritten.
        """
        if not self._plan.files or self._plan.unfinished():
            return None
        try:
            found = decode_json(self._file.read_bytes(), _Content)
        except (OSError, InputError):  # missing or damaged
            return None
        if not _states(self._plan).items() <= found.written.items():
            return None
        path, before, now = self._plan.files[-1], found.options, self._asked.options
        differing = [f"{name} {json.dumps(before.get(name))}" for name in now if before.get(name) != now[name]]
        if differing and self._asked.overwrite:
            return None
        if differing:
            raise InputError(
                f"{path}: was made with {', '.join(differing)}; resume with the same, make all anew, or choose another "
                "output",
                option="overwrite",
            )
        return Done(path, found.left_out) if found.read == self._read else None

    def keep(self, left_out: int) -> None:
        """Note that the results are whole.

        Raises:
            CunetError: that cannot be written.
        """
        if self._plan.files:
            content = _Content(self._asked.options, self._read, _states(self._plan), left_out)
            write_text_atomic(self._file, json.dumps(asdict(content), indent=1) + "\n", overwrite=True)


def _states(plan: OutputPlan) -> dict[str, str]:
    """States of the files of a plan by their names; of numbered ones the first."""
    paths = [path.with_name(path.name % 0) if path == plan.numbered else path for path in plan.files]
    return {path.name: _state(path) for path in paths}


def _state(path: Path) -> str:
    """Size and time of a file, a digest of those of the ``.pts`` files in a folder, or empty where there is nothing."""
    try:
        if path.is_dir():
            return stat_digest(sorted(path.glob("*.pts")))
        return f"{path.stat().st_size} {path.stat().st_mtime_ns}"
    except (OSError, ValueError):
        return ""
