"""Check of image files for their ends: OpenCV fills what a cut-off JPEG or PNG lacks with grey and says nothing.

Only the image itself counts. What stands behind it, such as the clip of a motion photo, is nobody's concern.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from cunet_deploy.media.readers.heif import HeifItems, is_heif

__all__ = ["is_whole", "stated_pixels"]

_JPEG, _PNG, _RIFF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF"
_MARKER_IN_SCAN = re.compile(rb"\xff+[^\xff\x00\xd0-\xd7]", re.DOTALL)
"""Within compressed data FF stands before 00, or is a restart marker; anything else ends the scan."""
_END, _SCAN = 0xD9, 0xDA
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
"""Markers of the segment that states the size."""
_TIFF: dict[bytes, tuple[Literal["little", "big"], int]] = {
    b"II*\0": ("little", 4),
    b"MM\0*": ("big", 4),
    b"II+\0": ("little", 8),
    b"MM\0+": ("big", 8),
}
"""Order of bytes, and bytes of an offset, by the beginning of the file."""
_TIFF_WIDTH, _TIFF_HEIGHT, _SHORT = 256, 257, 3
_MOST_PAGES = 1000
_ALONE = (0x01, *range(0xD0, 0xD8))
"""Markers without a length."""


def is_whole(data: bytes) -> bool:
    """Return whether a JPEG, PNG, WebP, HEIC or AVIF file has its end; other types are left to the decoder."""
    if data[:2] == _JPEG:
        return _jpeg_ends(data)
    if data[:8] == _PNG:
        return _png_ends(data)
    if data[:4] == _RIFF and data[8:12] == b"WEBP":
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    if is_heif(data):
        return HeifItems(data).is_whole
    return True


def stated_pixels(data: bytes) -> int:
    """Read the number of pixels from the header of a JPEG, PNG, BMP, TIFF, HEIC or AVIF file, of its largest page.

    0 for other types: of WebP the format allows no more than 268 megapixels.
    """
    if is_heif(data):
        items = HeifItems(data)
        return math.prod(items.size(items.main))
    if data[:4] in _TIFF:
        return _tiff_pixels(data, *_TIFF[data[:4]])
    if data[:8] == _PNG:
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    if data[:2] == b"BM":
        sides = (int.from_bytes(data[place : place + 4], "little", signed=True) for place in (18, 22))
        return abs(math.prod(sides))
    place = 2
    while data[:2] == _JPEG and place + 9 <= len(data) and data[place] == 0xFF:
        if data[place + 1] in _FRAMES:
            return int.from_bytes(data[place + 5 : place + 7], "big") * int.from_bytes(
                data[place + 7 : place + 9], "big"
            )
        place += 1 if data[place + 1] == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return 0


def _tiff_pixels(data: bytes, order: Literal["little", "big"], word: int) -> int:
    """Pixels of the largest page. Numbers of ``word`` bytes say where its tags are, and where those of the next are."""

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)

    seen: set[int] = set()
    most, place = 0, number(word, word)  # of 8 bytes the first number is at 8, of 4 at 4
    while place and place not in seen and len(seen) < _MOST_PAGES:
        seen.add(place)
        counted = 8 if word == 8 else 2
        first, entry = place + counted, 4 + 2 * word
        count = min(number(place, counted), (len(data) - first) // entry)
        sides = {
            number(first + index * entry, 2): number(
                first + index * entry + 4 + word, 2 if number(first + index * entry + 2, 2) == _SHORT else 4
            )
            for index in range(count)
        }
        most = max(most, sides.get(_TIFF_WIDTH, 0) * sides.get(_TIFF_HEIGHT, 0))
        place = number(first + max(count, 0) * entry, word)
    return most


def _jpeg_ends(data: bytes) -> bool:
    """Walk from marker to marker up to the one that ends the image; those of a thumbnail lie within a segment."""
    place, scanned = 2, False
    while place + 2 <= len(data):
        if data[place] != 0xFF:  # rubbish between segments, which decoders skip
            place = data.find(b"\xff", place)
            if place < 0:
                return False
            continue
        kind = data[place + 1]
        if kind == 0xFF:
            place += 1
        elif kind == _END:
            return scanned
        elif kind in _ALONE or kind == 0:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
            if kind == _SCAN:
                scanned = True
                found = _MARKER_IN_SCAN.search(data, place)
                if found is None:
                    return False
                place = found.end() - 2
    return False


def _png_ends(data: bytes) -> bool:
    place = 8
    while place + 12 <= len(data):
        if data[place + 4 : place + 8] == b"IEND":
            return True
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return False
