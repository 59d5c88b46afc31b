"""Protocol of result writers, and a row of the table of formats in `cunet_deploy.media.writers.formats`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from cunet_deploy.media.frames import Frame, LeftOut
from cunet_deploy.skeletons import Skeleton

__all__ = ["ResultFormat", "ResultWriter", "WriteOptions"]


class ResultWriter(Protocol):
    """Writes what was found, frame by frame. In ``with``: files get their names at the end, or go after an error.

    A class that has nothing to open inherits the methods of ``with``.
    """

    def write(self, frame: Frame) -> None:
        """Add a frame; raises `CunetError` where it cannot be written."""

    def leave_out(self, item: LeftOut) -> None:
        """Note what gave no picture, between the frames where it is missing; raises as `write`."""

    def __enter__(self) -> ResultWriter:
        """Create the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish it, or remove it where an error leaves the block."""
        return


@dataclass(frozen=True)
class WriteOptions:
    """Options of a writer beside its path.

    Attributes:
        skeleton: of the landmarks.
        named: whether frames come from image files, whose names are written.
        overwrite: whether files that exist are replaced.
        visible_score: score from which a landmark counts as visible, as in the model's manifest.
    """

    skeleton: Skeleton
    named: bool
    overwrite: bool
    visible_score: float | None = None


@dataclass(frozen=True)
class ResultFormat:
    """A row of the table: one format of results.

    Attributes:
        name: as ``--format`` takes it.
        meaning: for the help.
        suffix: of a file that is written alone, with ``-o``.
        beside: the path beside a picture or video of this path without its suffix; ``of_one`` says whether that is of a
            single image.
        open: takes the path and gives the writer.
        usual: whether it is written where no format is asked for.
        one_image: whether a file alone holds a single image.
        slow: whether writing takes long enough for a thread of its own.
    """

    name: str
    meaning: str
    suffix: str
    beside: Callable[[Path, bool], Path]
    open: Callable[[Path, WriteOptions], ResultWriter]
    usual: bool = False
    one_image: bool = False
    slow: bool = False
