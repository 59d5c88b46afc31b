"""Pictures to label: photos, folders of them, and every few frames of clips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cunet_deploy._files import shown_name
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media import ImageFiles, Item, Picture, Source, find_items

__all__ = ["Found", "Pictures"]


@dataclass(frozen=True, eq=False)
class Found:
    """A picture and where it is from.

    Attributes:
        picture: the pixels.
        file: the photo; ``None`` for what is no file of its own, such as a frame of a clip.
        stem: name of the photo or of the clip and its frame, without folders.
    """

    picture: Picture
    file: Path | None
    stem: str

    @property
    def key(self) -> str:
        """By which the picture is known again when a run goes on."""
        return self.stem if self.file is None else str(self.file)


class Pictures:
    """Pictures of several sources, one after the other.

    Attributes:
        skipped: what could not be read so far, a line each.
        failed: whether any of that is more than damaged frames within a clip.
    """

    def __init__(self, sources: Sequence[str], *, every: int, seconds: tuple[float, float] = (0.0, math.inf)) -> None:
        """Expand sources, as `cunet_deploy.media.find_items` does.

        Args:
            sources: photos, folders, patterns, clips, or lists of these.
            every: of a clip, frames between two that are labelled.
            seconds: of a clip, the part from and to.

        Raises:
            InputError: a list cannot be read, or a folder or pattern holds nothing.
        """
        self._items = find_items(sources) or [Item(sources[0])]
        self._every, self._seconds = every, seconds
        self.skipped: list[str] = []
        self.failed = False

    @property
    def identity(self) -> dict[str, Any]:
        """What the names of frames hang on; photos may come and go."""
        clips = [[number, shown_name(item.text)] for number, item in enumerate(self._items) if not item.images]
        return {"clips": clips, "every": self._every, "seconds": self._seconds}

    def expected(self) -> int | None:
        """Count the pictures to come: of clips about, by what their headers say; ``None`` where one does not say."""
        total = 0
        for item in self._items:
            try:
                source = item.open()
            except CunetError:  # which is told when its turn comes
                continue
            if source.live or source.count is None:
                return None
            if isinstance(source, ImageFiles):
                total += source.count
            else:
                first, last = (math.ceil(min(end * source.fps, source.count)) for end in self._seconds)
                total += math.ceil(last / self._every) - math.ceil(first / self._every)
        return total

    def __iter__(self) -> Iterator[Found]:
        for number, item in enumerate(self._items):
            try:
                yield from self._of(item, number)
            except CunetError as error:
                if len(self._items) == 1 and isinstance(error, InputError):
                    raise
                self._skip(str(error))

    def _skip(self, line: str) -> None:
        self.failed = True
        self.skipped.append(line)

    def _of(self, item: Item, number: int) -> Iterator[Found]:
        source = item.open()
        if source.live:
            raise InputError(f"{item.text}: is a camera or stream; record a clip first, and label that")
        try:
            for picture in source:
                if isinstance(source, ImageFiles):
                    yield self._of_file(source, picture, number)
                elif picture.index % self._every == 0 and self._is_in(picture):
                    yield self._frame(picture, source.stem, number)
                elif picture.time_ms > 1000 * self._seconds[1]:
                    break
        finally:
            self._tell(source, item)

    def _is_in(self, picture: Picture) -> bool:
        return self._seconds[0] <= picture.time_ms / 1000 < self._seconds[1]

    def _of_file(self, source: ImageFiles, picture: Picture, number: int) -> Found:
        path = source.paths[picture.index]
        is_page = picture.name != shown_name(path.name)
        is_text = shown_name(str(path.resolve())) == str(path.resolve())
        if is_page or not is_text:
            return self._frame(picture, path.stem, number)
        return Found(picture, path.resolve(), Path(picture.name).stem)

    def _frame(self, picture: Picture, stem: str, number: int) -> Found:
        """A picture that is no file of its own, under a name that no other picture of any source has."""
        item = "" if len(self._items) == 1 else f"_{number}"
        return Found(picture, None, f"{shown_name(stem)}{item}_{picture.index:06d}")

    def _tell(self, source: Source, item: Item) -> None:
        for gap in source.left_out:
            if gap.name:
                self._skip(f"{gap.name}: {gap.reason}")
            else:
                self.skipped.append(f"{shown_name(item.text)}, frame {gap.index}: {gap.reason}")
