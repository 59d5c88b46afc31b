"""Protocol of a source of frames, and a row of the table of kinds in `cunet_deploy.media.readers.sources`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cunet_deploy.media.frames import FrameSize, LeftOut, Picture

__all__ = ["OpenOptions", "Reader", "Source"]


class Source(Protocol):
    """Frames, one after the other. Each class says what else iterating over it raises."""

    @property
    def moving(self) -> bool:
        """Return whether successive frames show the same scene, so that objects can be followed."""

    @property
    def live(self) -> bool:
        """Return whether frames come at their own time, so that those that come too fast are left out."""

    @property
    def count(self) -> int | None:
        """Number of frames, if known."""

    @property
    def fps(self) -> float:
        """Frames per second; 0 for image files."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def stem(self) -> str:
        """Stem of the names of result files."""

    @property
    def originals(self) -> tuple[Path, ...]:
        """Files that are read, and must not be replaced."""

    @property
    def left_out(self) -> list[LeftOut]:
        """Parts that gave no picture so far, in order; the list grows while the source is read."""

    def __iter__(self) -> Iterator[Picture]:
        """The frames."""


@dataclass(frozen=True)
class OpenOptions:
    """Options for opening a source.

    Attributes:
        size: what to ask a camera for; of raw frames, which need it.
        timeout: seconds until a camera or stream that gives nothing counts as lost.
        reconnect: seconds for which one that was lost is tried again.
    """

    size: FrameSize | None = None
    timeout: float = 10.0
    reconnect: float = 30.0


@dataclass(frozen=True)
class Reader:
    """A row of the table: one kind of source.

    Attributes:
        spelling: how a user writes it, for the help.
        meaning: what it is, for the help.
        claims: whether a text stands for this kind.
        open: opens it; raises `InputError` or `CunetError`.
    """

    spelling: str
    meaning: str
    claims: Callable[[str], bool]
    open: Callable[[str, OpenOptions], Source]
