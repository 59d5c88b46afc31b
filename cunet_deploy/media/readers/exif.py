"""Orientation of JPEG pictures by their EXIF data."""

from __future__ import annotations

from typing import Literal

__all__ = ["jpeg_orientation"]

_APP1, _SCAN, _EXIF = 0xE1, 0xDA, b"Exif\0\0"
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
_ORIENTATION = 0x112


def jpeg_orientation(data: bytes) -> int:
    """Read the EXIF orientation, 1 to 8, of the content of a JPEG file; 0 where it states none."""
    place = 2
    while data[:2] == b"\xff\xd8" and place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _SCAN:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] == _APP1 and data[place + 4 : place + 10] == _EXIF:
            return _orientation(data[place + 10 : end])
        place = end
    return 0


def _orientation(tiff: bytes) -> int:
    order = _ORDERS.get(tiff[:4])
    if order is None:
        return 0
    first = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[first : first + 2], order)
    for place in range(first + 2, min(first + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[place : place + 2], order) == _ORIENTATION:
            value = int.from_bytes(tiff[place + 8 : place + 10], order)
            return value if 1 <= value <= 8 else 0
    return 0
