"""Structure of GIF files: which frames state how long they are shown, and whether the file has its end."""

from __future__ import annotations

__all__ = ["gif_is_whole", "with_durations"]

_EXTENSION, _IMAGE, _CONTROL = 0x21, 0x2C, 0xF9
_SHOWN_100_MS = bytes((_EXTENSION, _CONTROL, 4, 0, 10, 0, 0, 0))
"""Control block of a frame that is shown for 10 hundredths of a second, as browsers show those without a duration."""


def with_durations(data: bytes) -> bytes:
    """Insert a control block before each frame that has none: FFmpeg sees one frame where they lack."""
    if len(data) < 13:
        return data
    parts: list[bytes] = []
    copied, controlled, place = 0, False, 13 + _table_size(data[10])
    while place + 10 < len(data):
        if data[place] == _EXTENSION:
            controlled = controlled or data[place + 1] == _CONTROL
            place = _behind_blocks(data, place + 2)
        elif data[place] == _IMAGE:
            if not controlled:
                parts += [data[copied:place], _SHOWN_100_MS]
                copied = place
            controlled = False
            place = _behind_blocks(data, place + 11 + _table_size(data[place + 9]))
        else:
            break
    return b"".join([*parts, data[copied:]]) if parts else data


def gif_is_whole(data: bytes) -> bool:
    """Return whether a GIF ends with the byte ``;``; some writers pad with zeros."""
    return data[-64:].rstrip(b"\0").endswith(b";")


def _table_size(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _behind_blocks(data: bytes, place: int) -> int:
    """The place behind a sequence of blocks, which begin with their lengths; one of length 0 is the last."""
    while place < len(data) and data[place]:
        place += data[place] + 1
    return place + 1
