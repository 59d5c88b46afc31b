"""Pictures to label: photos, folders of them, and every few frames of clips."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cunet_deploy._files import shown_name, stat_digest
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media import ImageFiles, Item, Picture, Source, find_items

__all__ = ["Found", "Origin", "Pictures"]


@dataclass(frozen=True)
class Origin:
    """Origin of a picture, by which it is known again when a run goes on.

    Attributes:
        source: path of the file, or URL.
        index: of the frame in a clip, or of the page in an image file, from 0.
        state: `cunet_deploy._files.stat_digest` of the file as it was before the run; empty for a URL.
    """

    source: str
    index: int
    state: str


@dataclass(frozen=True, eq=False)
class Found:
    """A picture and where it is from.

    Attributes:
        picture: the pixels.
        origin: of the picture.
        file: the photo; ``None`` for what is no file of its own, such as a frame of a clip.
        stem: name of the file, without folders and suffix.
    """

    picture: Picture
    origin: Origin
    file: Path | None
    stem: str


class Pictures:
    """Pictures of several sources, one after the other.

    Attributes:
        expected: how many come, of clips about, by what their headers say; ``None`` where one does not say.
        skipped: what could not be read so far, a line each.
        failed: whether any of that is more than damaged frames within a clip.
        passed_over: frames of clips so far that were read and are not labelled.
    """

    def __init__(self, sources: Sequence[str], *, every: int, seconds: tuple[float, float] = (0.0, math.inf)) -> None:
        """Expand sources, as `cunet_deploy.media.find_items` does, and look at them.

        Args:
            sources: photos, folders, patterns, clips, or lists of these.
            every: of a clip, frames between two that are labelled.
            seconds: of a clip, the part from and to.

        Raises:
            InputError: a list cannot be read, or a folder or pattern holds nothing.
        """
        self._items = find_items(sources) or [Item(sources[0])]
        self._every, self._seconds = every, seconds
        self.expected: int | None = 0
        self.skipped: list[str] = []
        self.failed = False
        self.passed_over = 0
        self._states: dict[str, str] = {}
        for item in self._items:
            self._look_at(item)

    def _look_at(self, item: Item) -> None:
        try:
            source = item.open()
        except CunetError:  # which is told when its turn comes
            return
        files = {_text(path): stat_digest([path]) for path in source.originals}
        self._states |= files or {shown_name(item.text): ""}
        count = self._count(source)
        self.expected = None if count is None or self.expected is None else self.expected + count

    def _count(self, source: Source) -> int | None:
        if source.live or source.count is None or not source.moving:
            return None if source.live else source.count
        first, last = (math.ceil(min(end * source.fps, source.count)) for end in self._seconds)
        return math.ceil(last / self._every) - math.ceil(first / self._every)

    @property
    def options(self) -> dict[str, Any]:
        """The options that say which frames of clips are labelled, as JSON has them."""
        return {"every": self._every, "seconds": [end if math.isfinite(end) else None for end in self._seconds]}

    @property
    def digest(self) -> str:
        """SHA-256 of the names and states of all sources."""
        return hashlib.sha256(ascii(sorted(self._states.items())).encode()).hexdigest()

    def has(self, origin: Origin) -> bool:
        """Return whether a picture is from one of the sources, and that has not changed."""
        return self._states.get(origin.source) == origin.state

    def __iter__(self) -> Iterator[Found | None]:
        """The pictures; ``None`` for each frame that is passed over, which may take long: somebody may want to stop."""
        for item in self._items:
            try:
                yield from self._of(item)
            except CunetError as error:
                if len(self._items) == 1 and isinstance(error, InputError):
                    raise
                self._skip(str(error))

    def _skip(self, line: str) -> None:
        self.failed = True
        self.skipped.append(line)

    def _of(self, item: Item) -> Iterator[Found | None]:
        source = item.open()
        if source.live:
            raise InputError(f"{item.text}: is a camera or stream; record a clip first, and label that")
        try:
            for picture in source:
                if isinstance(source, ImageFiles):
                    yield self._of_file(source, picture)
                elif not source.moving or (picture.index % self._every == 0 and self._is_in(picture)):
                    name = _text(source.originals[0]) if source.originals else shown_name(item.text)
                    yield Found(picture, self._origin(name, picture.index), None, shown_name(source.stem))
                elif picture.time_ms > 1000 * self._seconds[1]:
                    break
                else:
                    self.passed_over += 1
                    yield None
        finally:
            self._tell(source, item)

    def _is_in(self, picture: Picture) -> bool:
        return self._seconds[0] <= picture.time_ms / 1000 < self._seconds[1]

    def _of_file(self, source: ImageFiles, picture: Picture) -> Found:
        path, page = source.paths[picture.index].resolve(), source.pages[picture.index]
        alone = page == 0 and _text(path) == str(path)  # a set names photos by text
        return Found(picture, self._origin(_text(path), page), path if alone else None, shown_name(path.stem))

    def _origin(self, source: str, index: int) -> Origin:
        return Origin(source, index, self._states.get(source, ""))

    def _tell(self, source: Source, item: Item) -> None:
        for gap in source.left_out:
            if gap.name:
                self._skip(f"{gap.name}: {gap.reason}")
            else:
                self.skipped.append(f"{shown_name(item.text)}, frame {gap.index}: {gap.reason}")


def _text(path: Path) -> str:
    return shown_name(path.resolve())
