"""Metrics of a run for TensorBoard, beside the JSON Lines and pictures that every run writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from cunet_deploy._optional import require
from cunet_deploy.train.folder import RunFolder

__all__ = ["tensorboard"]

_NAMES = {"event", "phase", "epoch", "epochs"}
"""Keys of a row that are no measurements."""


class _Writer:
    """Writes each epoch as scalars, and the validation picture where there is a new one."""

    def __init__(self, writer: Any, folder: RunFolder, done: int) -> None:
        self._writer, self._epochs = writer, done
        self._picture = folder.path / "validation.png"
        self._shown = self._picture_time()

    def __call__(self, row: Mapping[str, Any]) -> None:
        if row["event"] != "epoch":
            return
        self._epochs += 1
        for name, value in row.items():
            if name not in _NAMES:
                self._writer.add_scalar(name, value, self._epochs)
        if self._picture_time() != self._shown:
            self._shown = self._picture_time()
            picture = cv2.imread(str(self._picture))
            if picture is not None:
                self._writer.add_image("validation", picture[:, :, ::-1].copy(), self._epochs, dataformats="HWC")
        self._writer.flush()

    def _picture_time(self) -> int:
        return self._picture.stat().st_mtime_ns if self._picture.is_file() else 0


@contextmanager
def tensorboard(folder: RunFolder) -> Iterator[_Writer]:
    """A function that is told every epoch, as `Trainer` tells its progress; writes ``FOLDER/tensorboard``.

    What an earlier run wrote of epochs that come again is dropped.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """
    require("tensorboard", extra="tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    done = len(folder.rows())
    target: Path = folder.path / "tensorboard"
    writer = SummaryWriter(str(target), purge_step=done + 1 if done else None)
    try:
        yield _Writer(writer, folder, done)
    finally:
        writer.close()
