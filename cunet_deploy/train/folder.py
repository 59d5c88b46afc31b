"""The folder of a run: what training leaves behind and what it needs to go on.

config.toml         the configuration, as given
metrics.jsonl       one line an epoch
state.pt            everything needed to go on after the last whole epoch
float.pt            float checkpoint: the averaged weights after the last whole epoch
quantized.pt        quantized checkpoint, once the quantized phase has begun
curves.png          loss and error by epoch
validation.png      crops of the validation split, with the landmarks found and the true ones
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cunet_deploy._decode import read_text
from cunet_deploy._files import write_text_atomic
from cunet_deploy.checkpoint.storage import read_tensors, write_tensors
from cunet_deploy.config import Config, parse_config
from cunet_deploy.errors import InputError

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of a run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def state(self) -> Path:
        """Path of the state to resume from."""
        return self.path / "state.pt"

    def checkpoint(self, kind: str) -> Path:
        """Return the path of the checkpoint of a phase: ``float.pt`` or ``quantized.pt``."""
        return self.path / f"{kind}.pt"

    def check(self, *, resume: bool) -> None:
        """Check that a run can begin here, or go on; writes nothing.

        A run that was killed before its first state goes on from the beginning.

        Raises:
            InputError: the folder holds a run and ``resume`` is not set, or there is nothing to resume.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file; name a folder for the run")
        if resume and not self.state.is_file() and not (self.path / "config.toml").is_file():
            raise InputError(f"{self.path}: holds no state.pt to resume from; start a run in another folder")
        if not resume and self.path.exists() and any(self.path.iterdir()):
            raise InputError(f"{self.path}: is not empty; choose another folder, or resume that run", option="resume")

    def prepare(self, config_text: str, *, resume: bool, beside: Path | None = None) -> None:
        """`check`, then make the folder and write the configuration, unless there is a state to go on from.

        Args:
            config_text: of the configuration.
            resume: go on with the run that is there.
            beside: a file that the configuration names; it is copied.
        """
        self.check(resume=resume)
        if resume and self.state.is_file():
            return
        write_text_atomic(self.path / "config.toml", config_text, overwrite=True)
        if beside is not None:
            write_text_atomic(self.path / beside.name, read_text(beside, "a TOML file"), overwrite=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second training out of the folder for as long as the block runs; the lock dies with the process.

        Raises:
            InputError: another training holds it.
        """
        try:
            import fcntl
        except ImportError:  # Windows has no such locks
            yield
            return
        folder = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"{self.path}: another training runs in it; wait for it or choose another -o"
                ) from error
            yield
        finally:
            os.close(folder)

    def save_state(self, table: dict[str, Any]) -> None:
        """Write the state; the earlier one stays until the new one is whole."""
        write_tensors(table, self.state, overwrite=True)

    def load_state(self, config: Config) -> dict[str, Any]:
        """Read the state.

        Raises:
            InputError: it is damaged or belongs to another configuration.
        """
        table = read_tensors(self.state, "training state")
        if not isinstance(table, dict) or not {"config", "phase", "zero_points", "rows", "origin"} <= set(table):
            raise InputError(f"{self.state}: is not the state of a training run; start a run in another folder")
        if parse_config(table["config"]) != config:  # parsed: keys that came later have their defaults
            raise InputError(
                f"{self.state}: belongs to another configuration; resume with {self.path / 'config.toml'}, and with "
                "the bits that it was started with, or start a new run in another folder"
            )
        return table

    def rows(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        file = self.path / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        return [json.loads(line) for line in lines]

    def write_rows(self, rows: list[Mapping[str, Any]]) -> None:
        """Replace ``metrics.jsonl``: after a crash it may hold an epoch that is about to be repeated."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_text_atomic(self.path / "metrics.jsonl", text, overwrite=True)
