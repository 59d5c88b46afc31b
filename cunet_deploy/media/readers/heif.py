"""Rotation and mirroring that AVIF files state for their pictures, which OpenCV decodes as they are stored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["stated_turns", "turned"]

_TURN, _MIRROR = b"irot", b"imir"


def stated_turns(data: bytes) -> list[tuple[bytes, int]]:
    """The properties ``irot`` and ``imir`` of the main picture, with their values, in the order in which they apply."""
    if data[4:8] != b"ftyp":
        return []
    meta = dict(_boxes(data, 0)).get(b"meta", b"")
    inner = dict(_boxes(meta, 4))
    rules = dict(_boxes(inner.get(b"iprp", b""), 0))
    properties = list(_boxes(rules.get(b"ipco", b""), 0))
    names = inner.get(b"pitm", b"")
    main = int.from_bytes(names[4:8] if names[:1] == b"\1" else names[4:6], "big")
    numbers = _properties_of(main, rules.get(b"ipma", b""))
    chosen = [properties[number - 1] for number in numbers if 0 < number <= len(properties)]
    return [(kind, content[0]) for kind, content in chosen if kind in (_TURN, _MIRROR) and content]


def turned(image: NDArray[np.uint8], turns: list[tuple[bytes, int]]) -> NDArray[np.uint8]:
    """Turn and mirror an image as it is meant to be seen."""
    for kind, value in turns:
        image = np.rot90(image, value & 3) if kind == _TURN else np.flip(image, value & 1)
    return np.ascontiguousarray(image)


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


def _properties_of(item: int, table: bytes) -> list[int]:
    """Numbers of an item's properties, counted from 1, by the content of the box ``ipma``."""
    name, number = (4 if table[:1] != b"\0" else 2), (2 if table[3:4] == b"\1" else 1)
    place = 8
    for _ in range(int.from_bytes(table[4:8], "big")):
        count = int.from_bytes(table[place + name : place + name + 1], "big")
        begin, end = place + name + 1, place + name + 1 + count * number
        if end > len(table):
            break
        if int.from_bytes(table[place : place + name], "big") == item:
            essential = 1 << (8 * number - 1)
            return [
                int.from_bytes(table[each : each + number], "big") & ~essential for each in range(begin, end, number)
            ]
        place = end
    return []
