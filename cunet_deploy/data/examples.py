"""Labelled objects in photos, as every reader returns them."""

from __future__ import annotations

import mmap
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import landmark_boxes
from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.media import read_image

__all__ = ["BoxedPhoto", "Example", "Labelled", "PhotoCache", "split_by_photo"]

_LEAST_APART = 1 << 18
"""Bytes from which a photo is kept in pages of its own."""
_MOST_APART = 30_000
"""Largest number of photos that are kept so: Linux gives a process 65,530 such areas."""


@dataclass(frozen=True, eq=False, slots=True)  # hundreds of thousands of them are kept
class Example:
    """One labelled object.

    Attributes:
        image: path of the photo.
        points: (K, 2) landmarks, x then y, 0-based pixels; NaN where a landmark is not labelled.
        photo: identifies the photo, which may hold several objects; splits keep a photo together.
        others: (M, 4) xyxy boxes of the objects in the photo, labelled or not, as far as its folder lists them.
        given: (4,) xyxy box that came with the labels, in place of the tight one around them.
        sizes: what else came with the labels: "head", the length in pixels that stands in for the skeleton's normalizer
            of that name; "area" of the object in square pixels.
        stated: (width, height) of the photo as the labels have it; ``None`` where they do not say.
        weights: (K,) how much each label counts; 0 also where it is not known whether there is a landmark, as for those
            that a layout does not have. ``None``: all count alike.
        visible: (K,) 1 where a landmark is seen, 0 where something hides it, NaN where that is not known. ``None``:
            the labels say nothing about it, and all count as seen.
        where: names the row in its file, for messages.
        times: how often an epoch draws it.
        source: the data set that it is from, as the configuration names it.
        exhaustive: the photo has no objects but this one and ``others``; what lies beside them is background.
    """

    image: Path
    points: NDArray[np.float64]
    photo: str
    others: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    given: NDArray[np.float64] | None = None
    sizes: Mapping[str, float] = field(default_factory=dict)
    stated: tuple[int, int] | None = None
    weights: NDArray[np.float64] | None = None
    where: str = ""
    visible: NDArray[np.float64] | None = None
    times: int = 1
    source: str = ""
    exhaustive: bool = True

    def mapped(self, points: NDArray[np.float64], known: NDArray[np.float64]) -> Example:
        """The example with (K, 2) points of another skeleton, and (K,) weights of them."""
        return replace(self, points=points, weights=known, visible=None)

    @property
    def box(self) -> NDArray[np.float64]:
        """(4,) xyxy box: the given one, else the tight one around the labelled landmarks."""
        if self.given is not None:
            return self.given
        return landmark_boxes(self.points[np.isfinite(self.points).all(axis=1)])


@dataclass(frozen=True, eq=False)
class BoxedPhoto:
    """A photo and what is in it.

    Attributes:
        image: path of the photo.
        boxes: (N, 4) xyxy, 0-based pixels.
        scores: (N,) in [0, 1], how sure the label is; 0 where something may be that nobody labelled.
        photo: identifies the photo; splits keep files of one photo together.
        stated: (width, height) of the photo as the labels have it; ``None`` where they do not say.
        times: how often an epoch draws it.
    """

    image: Path
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    photo: str
    stated: tuple[int, int] | None = None
    times: int = 1

    @property
    def longer(self) -> NDArray[np.float64]:
        """(N,) longer sides."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1, initial=0))


class PhotoCache:
    """Decoded photos by path; those that were used last are kept, up to ``max_bytes`` of them. Safe in threads.

    Pickled it is empty: a worker process fills one of its own.
    """

    def __init__(self, max_bytes: int = 4 << 30) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._photos: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[PhotoCache], tuple[int]]:
        return PhotoCache, (self.max_bytes,)

    def __getitem__(self, path: Path) -> NDArray[np.uint8]:
        with self._lock:
            photo = self._photos.get(path)
            if photo is not None:
                self._photos.move_to_end(path)
                return photo
        photo = self._apart(read_image(path))
        self._sizes[path] = photo.shape[1], photo.shape[0]
        with self._lock:
            if path not in self._photos and photo.nbytes <= self.max_bytes:
                self._photos[path] = photo
                self.bytes += photo.nbytes
                while self.bytes > self.max_bytes:
                    self.bytes -= self._photos.popitem(last=False)[1].nbytes
        return photo

    def _apart(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A photo in memory of its own, which the system has back as soon as the photo is dropped.

        Freed blocks of an allocator's heap leave gaps that the next photo does not fit into, and the process grows to
        half as much again as the cache.
        """
        if not max(_LEAST_APART, self.max_bytes // _MOST_APART) <= photo.nbytes <= self.max_bytes:
            return photo
        copy = np.frombuffer(mmap.mmap(-1, photo.nbytes), np.uint8).reshape(photo.shape)
        copy[...] = photo
        return copy

    def size(self, path: Path) -> tuple[int, int]:
        """Width and height of a photo; decodes it if it never was."""
        if path not in self._sizes:
            self[path]
        return self._sizes[path]

    def check(self, paths: Iterable[Path], bad: list[str] | None) -> set[Path]:
        """Decode photos, so that a bad one shows early.

        Args:
            paths: of the photos.
            bad: collects what is wrong; ``None`` makes the first bad photo an error.

        Returns:
            Those that can be read.

        Raises:
            InputError: a photo cannot be read, and ``bad`` is ``None``.
        """
        readable: set[Path] = set()
        distinct = list(dict.fromkeys(paths))
        pool = ThreadPoolExecutor(available_cpus())
        try:
            for path, error in zip(distinct, pool.map(self._error_of, distinct), strict=True):
                if error is None:
                    readable.add(path)
                elif bad is None:
                    raise error
                else:
                    bad.append(str(error))
        finally:
            pool.shutdown(cancel_futures=True)
        return readable

    def _error_of(self, path: Path) -> InputError | None:
        try:
            self[path]
        except InputError as error:
            return error
        return None


class _OfPhoto(Protocol):
    """Contents of a photo."""

    @property
    def photo(self) -> str:
        """Identifies the photo."""
        ...


Labelled = TypeVar("Labelled", bound=_OfPhoto)


def split_by_photo(examples: Sequence[Labelled], fraction: float) -> tuple[list[Labelled], list[Labelled]]:
    """Hold back about ``fraction`` of the photos.

    The choice hangs on the photo's name alone, so it is the same on every machine and for every order of reading.
    """
    kept: list[Labelled] = []
    held: list[Labelled] = []
    for example in examples:
        share = zlib.crc32(example.photo.encode()) / 2**32
        (held if share < fraction else kept).append(example)
    return kept, held
