"""Changes in the boxes of an MP4 file that OpenCV wrote: what phones and screen recorders put there, and it cannot."""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["cut_start", "set_durations", "turn"]

_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts")


def turn(path: Path) -> None:
    """Say that pictures are to be shown turned by 90 degrees clockwise, as a phone that is held upright does."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version, times, number, duration, layer, volume come before the matrix
    data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def cut_start(path: Path, frames: int, total: int) -> None:
    """Show all but the first frames, which stay in the file: a cut without encoding anew."""
    data = bytearray(path.read_bytes())
    place, unit = data.index(b"elst") + 12, data.index(b"stts") + 16
    duration = struct.unpack_from(">I", data, place)[0]
    step = struct.unpack_from(">I", data, unit)[0]
    struct.pack_into(">Ii", data, place, duration * (total - frames) // total, frames * step)
    path.write_bytes(data)


def set_durations(path: Path, durations: list[int]) -> None:
    """Give each frame a duration of its own, in units of the first frame's: a variable frame rate."""
    data = bytearray(path.read_bytes().replace(b"edts", b"free"))  # the edit list says how much is to be shown
    places, start = [], 0
    for name in _PATH:
        start = data.index(name, start)
        places.append(start - 4)
    size, unit = (struct.unpack_from(">I", data, at)[0] for at in (places[-1], start + 16))
    entries = b"".join(struct.pack(">II", 1, unit * count) for count in durations)
    box = struct.pack(">I4sII", 16 + len(entries), b"stts", 0, len(durations)) + entries
    for at in places[:-1]:
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(box) - size)
    data[places[-1] : places[-1] + size] = box
    assert data.index(b"mdat") < places[0]  # otherwise places of pictures in the file would have to move too
    path.write_bytes(data)
