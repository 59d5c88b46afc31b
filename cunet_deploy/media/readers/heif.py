"""Structure of HEIF files (HEIC and AVIF): their main picture, the tiles it is made of, and how it is to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeifItems", "frames_in_tracks", "is_heif", "size_of_tracks", "turned"]

_CROP, _TURN, _MIRROR, _SIZE = b"clap", b"irot", b"imir", b"ispe"
_IN_FILE, _IN_META = 0, 1
"""Places of the bytes of an item, as `iloc` numbers them."""
_LONGEST_TABLE = 1 << 22
"""Bytes of a list of items, enough for all tiles of a picture. A longer one counts as damaged: its numbers would take
many times as much memory."""
_SHARED_BYTES = 1 << 22
"""Bytes that items may have together though they lie over each other, as equal tiles may. A small file could name tens
of thousands of large ones."""


def is_heif(data: bytes) -> bool:
    """Return whether the content of a file begins as that of HEIF files does, or of others of its family."""
    return data[4:8] == b"ftyp"


class HeifItems:
    """The pictures and parts of pictures in a file, by their numbers. What is damaged counts as not there.

    Attributes:
        main: number of the main picture.
        kind: what it is: b"hvc1", b"av01", or b"grid" of tiles; empty: unknown.
        tiles: numbers of its tiles, row by row.
    """

    def __init__(self, data: bytes) -> None:
        """Look into the content of a file."""
        self._data = data
        meta = dict(_boxes(data, 0)).get(b"meta", b"") if is_heif(data) else b""
        inner = dict(_boxes(meta, 4))
        rules = dict(_boxes(inner.get(b"iprp", b""), 0))
        self._all_properties = list(_boxes(_short(rules.get(b"ipco", b"")), 0))
        self._associations = _associations(_short(rules.get(b"ipma", b"")))
        self._beside = inner.get(b"idat", b"")
        names = inner.get(b"pitm", b"")
        self.main = int.from_bytes(names[4:8] if names[:1] == b"\1" else names[4:6], "big")
        self._kinds = _kinds(_short(inner.get(b"iinf", b"")))
        self._places = _places(_short(inner.get(b"iloc", b"")))
        self.kind = self._kinds.get(self.main, b"")
        self.tiles = _tiles_of(self.main, _short(inner.get(b"iref", b"")))

    def kind_of(self, item: int) -> bytes:
        """Type of an item; see ``kind``."""
        return self._kinds.get(item, b"")

    def properties(self, item: int) -> list[tuple[bytes, bytes]]:
        """Names and contents of an item's properties, in the order in which they apply."""
        numbers = self._associations.get(item, [])
        return [self._all_properties[number - 1] for number in numbers if 0 < number <= len(self._all_properties)]

    def size(self, item: int) -> tuple[int, int]:
        """Stated width and height of an item; 0 where it states none."""
        content = dict(self.properties(item)).get(_SIZE, b"")
        return int.from_bytes(content[4:8], "big"), int.from_bytes(content[8:12], "big")

    @property
    def turns(self) -> list[tuple[bytes, bytes]]:
        """The properties ``clap``, ``irot`` and ``imir`` of the main picture, in the order in which they apply."""
        return [(kind, content) for kind, content in self.properties(self.main) if kind in (_CROP, _TURN, _MIRROR)]

    @property
    def is_whole(self) -> bool:
        """Return whether all bytes of the main picture are there, as far as it is known where its parts lie."""
        return all(self._extents(item) for item in {self.main, *self.tiles} if self._source(item) is not None)

    def content(self, item: int) -> bytes | None:
        """The bytes of an item; ``None`` where the file does not hold them all."""
        source = self._source(item) or b""
        return b"".join(source[start:end] for start, end in self._extents(item)) or None

    def overlap(self, items: Iterable[int]) -> bool:
        """Return whether items lie over each other, and have more bytes together than are worth reading again."""
        stored = sum(end - start for item in items for start, end in self._extents(item))
        return stored > max(len(self._data), _SHARED_BYTES)

    def _source(self, item: int) -> bytes | None:
        where, _ = self._places.get(item, (-1, []))
        return {_IN_FILE: self._data, _IN_META: self._beside}.get(where)

    def _extents(self, item: int) -> list[tuple[int, int]]:
        """Starts and ends of the parts of an item in its source; none where that does not hold them all."""
        size = len(self._source(item) or b"")
        _, stated = self._places.get(item, (-1, []))
        extents = [(start, start + length if length else size) for start, length in stated]
        whole = sum(end - start for start, end in extents)  # at most the source: none is there twice
        return extents if whole <= size and all(start <= end <= size for start, end in extents) else []


def frames_in_tracks(data: bytes) -> int:
    """Count the pictures of the longest track in the content of a file that is an animation; 0 where it has none."""
    tables = (_inside(track, b"mdia", b"minf", b"stbl", b"stsz") for track in _tracks(data))
    return max((int.from_bytes(table[8:12], "big") for table in tables), default=0)


def size_of_tracks(data: bytes) -> tuple[int, int]:
    """Largest width and height that tracks in the content of a file state; 0 where it has none."""
    sides = [_inside(track, b"tkhd")[-8:] for track in _tracks(data)]  # as numbers with 16 bits behind the point
    widths, heights = ([int.from_bytes(side[at : at + 2], "big") for side in sides] for at in (0, 4))
    return max(widths, default=0), max(heights, default=0)


def _tracks(data: bytes) -> Iterator[bytes]:
    movie = _inside(data, b"moov") if is_heif(data) else b""
    return (track for kind, track in _boxes(movie, 0) if kind == b"trak")


def _inside(content: bytes, *kinds: bytes) -> bytes:
    """Content of a box in a box in another one, and so on; empty where it is not there."""
    for kind in kinds:
        content = dict(_boxes(content, 0)).get(kind, b"")
    return content


def turned(image: NDArray[np.uint8], turns: list[tuple[bytes, bytes]]) -> NDArray[np.uint8]:
    """Crop, turn and mirror an image as it is meant to be seen, as `HeifItems.turns` says."""
    for kind, content in turns:
        if kind == _CROP:
            image = _cropped(image, content)
        elif content:
            image = np.rot90(image, content[0] & 3) if kind == _TURN else np.flip(image, content[0] & 1)
    return np.ascontiguousarray(image)


def _cropped(image: NDArray[np.uint8], content: bytes) -> NDArray[np.uint8]:
    """The part of an image that a property says: sides, and distances of its centre from that of the image."""
    height, width = image.shape[:2]
    if len(content) < 32:
        return image
    numbers = np.frombuffer(content[:32], ">i4").reshape(4, 2).astype(np.float64)
    if (numbers[:, 1] == 0).any():
        return image
    wide, high, right, down = (numbers[:, 0] / numbers[:, 1]).tolist()
    left, top = round((width - wide) / 2 + right), round((height - high) / 2 + down)
    end, bottom = left + round(wide), top + round(high)
    is_within = 0 <= left < end <= width and 0 <= top < bottom <= height
    return image[top:bottom, left:end] if is_within else image


def _boxes(data: bytes, place: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes from a place on."""
    while place + 8 <= len(data):
        size, head = int.from_bytes(data[place : place + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        end = place + size if size else len(data)
        if end < place + head:
            return
        yield data[place + 4 : place + 8], data[place + head : end]
        place = end


def _short(table: bytes) -> bytes:
    return table if len(table) <= _LONGEST_TABLE else b""


class _Reader:
    """Numbers from a place on. Behind the end they are 0."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place

    @property
    def ended(self) -> bool:
        """Return whether the end was reached."""
        return self._place >= len(self._data)

    def number(self, size: int) -> int:
        """The next number of some bytes."""
        self._place += size
        return int.from_bytes(self._data[self._place - size : self._place], "big")


def _kinds(table: bytes) -> dict[int, bytes]:
    """Kinds of items, by the content of the box ``iinf``."""
    kinds: dict[int, bytes] = {}
    for name, entry in _boxes(table, 6 if table[:1] == b"\0" else 8):
        number = {2: 2, 3: 4}.get(int.from_bytes(entry[:1], "big"), 0)  # bytes of the item's number, by the version
        if name == b"infe" and number:
            kinds[int.from_bytes(entry[4 : 4 + number], "big")] = entry[6 + number : 10 + number]
    return kinds


def _tiles_of(item: int, table: bytes) -> list[int]:
    """Items of which another one is derived, by the content of the box ``iref``."""
    number = 2 if table[:1] == b"\0" else 4
    for name, entry in _boxes(table, 4):
        reader = _Reader(entry, 0)
        if name == b"dimg" and reader.number(number) == item:
            count = min(reader.number(2), len(entry) // number - 1)
            return [reader.number(number) for _ in range(count)]
    return []


def _places(table: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Places of the bytes of each item, starts and lengths, from the content of the box ``iloc``."""
    version, reader = table[0] if table else 0, _Reader(table, 4)
    sizes, more = reader.number(1), reader.number(1)
    offset, length, base, index = sizes >> 4, sizes & 15, more >> 4, more & 15 if version else 0
    wide = 4 if version == 2 else 2
    places: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    for _ in range(reader.number(wide)):
        if reader.ended:
            break
        item = reader.number(wide)
        where = reader.number(2) & 15 if version else _IN_FILE
        elsewhere, start = reader.number(2), reader.number(base)
        extents, count = list[tuple[int, int]](), reader.number(2)
        for _ in range(count if index + offset + length else min(count, 1)):  # without bytes, all would be the same
            if reader.ended:
                break
            reader.number(index)
            extents.append((start + reader.number(offset), reader.number(length)))
        places[item] = (-1 if elsewhere else where, extents)
    return places


def _associations(table: bytes) -> dict[int, list[int]]:
    """Numbers of the properties of each item, counted from 1, from the content of the box ``ipma``."""
    wide, size = (4 if table[:1] != b"\0" else 2), (2 if table[3:4] == b"\1" else 1)
    numbers = (1 << (8 * size - 1)) - 1  # without the bit that says whether readers must know the property
    reader, found = _Reader(table, 4), dict[int, list[int]]()
    for _ in range(reader.number(4)):
        if reader.ended:
            break
        item, count = reader.number(wide), reader.number(1)
        properties = [reader.number(size) & numbers for _ in range(count)]
        found.setdefault(item, properties)
    return found
