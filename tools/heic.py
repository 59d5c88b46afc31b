"""HEIC files, drawn: pictures that x265 encodes, in boxes as phones write them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

__all__ = ["box", "heic", "hevc_picture"]

NCLX_BT601_FULL = b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80)


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of this kind with this content."""
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def full(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *parts)


def hevc_picture(image: np.ndarray) -> tuple[bytes, bytes]:
    """The content of ``hvcC`` and of the item of a BGR picture, whose sides are even."""
    encoder = av.CodecContext.create("libx265", "w")
    encoder.height, encoder.width = image.shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv444p", Fraction(1, 25), 1
    encoder.options = {"x265-params": "log-level=none:pools=none:frame-threads=1:info=0:repeat-headers=0", "crf": "5"}
    encoder.flags |= int(av.codec.context.Flags.global_header)
    frame = av.VideoFrame.from_ndarray(image, "bgr24").reformat(
        format="yuv444p", dst_colorspace="ITU601", dst_color_range="JPEG"
    )
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    sets = [unit for unit in bytes(encoder.extradata or b"").split(b"\0\0\0\1") if unit]
    slices = [unit for packet in packets for unit in bytes(packet).split(b"\0\0\0\1") if unit]
    arrays = b"".join(bytes([0x80 | (u[0] >> 1 & 63)]) + struct.pack(">HH", 1, len(u)) + u for u in sets)
    head = b"\1\4\x08\0\0\0\x9e\x08\0\0\0\0\x5a\xf0\0\xfc\xff\xf8\xf8\0\0\x0f"
    return head + bytes([len(sets)]) + arrays, b"".join(struct.pack(">I", len(u)) + u for u in slices)


def heic(
    pictures: Sequence[np.ndarray],
    *,
    grid: tuple[int, int, int, int] | None = None,
    turns: Sequence[bytes] = (),
    kind: bytes = b"hvc1",
    shared: bool = False,
) -> bytes:
    """A file whose main picture is the first, or a grid of all: rows, columns, width and height.

    Args:
        pictures: BGR.
        grid: of which they are the tiles.
        turns: boxes of properties of the main picture.
        kind: of the items.
        shared: all items lie over the bytes of the first.
    """
    coded = [hevc_picture(image) for image in pictures]
    numbers = range(1, len(pictures) + 1)
    main = len(pictures) + 1 if grid else 1
    tiles = [box(b"hvcC", configuration) for configuration, _ in coded]
    sizes = [full(b"ispe", 0, struct.pack(">II", image.shape[1], image.shape[0])) for image in pictures]
    whole = [full(b"ispe", 0, struct.pack(">II", *grid[2:]))] if grid else []
    properties = [*tiles, *sizes, box(b"colr", NCLX_BT601_FULL), *whole, *turns]
    count = len(pictures)
    own = {number: [0x80 | number, count + number, 2 * count + 1] for number in numbers}
    last = [0x80 | place for place in range(len(properties) - len(turns) + 1, len(properties) + 1)]
    own[main] = [*own.get(main, [2 * count + 2]), *last]
    rules = b"".join(struct.pack(">HB", item, len(list_)) + bytes(list_) for item, list_ in own.items())
    infos = [(number, kind) for number in numbers] + ([(main, b"grid")] if grid else [])
    entries = [full(b"infe", 2, struct.pack(">HH", number, 0), name, b"\0") for number, name in infos]
    layout = struct.pack(">BBBBHH", 0, 0, grid[0] - 1, grid[1] - 1, *grid[2:]) if grid else b""

    def meta(start: int) -> bytes:
        places = b""
        for number, (_, content) in zip(numbers, coded, strict=True):
            places += struct.pack(">HHHHII", number, 0, 0, 1, start, len(content))
            start += 0 if shared else len(content)
        places += struct.pack(">HHHHII", main, 1, 0, 1, 0, len(layout)) if grid else b""
        refers = struct.pack(f">HH{count}H", main, count, *numbers)
        return full(
            b"meta",
            0,
            full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full(b"pitm", 0, struct.pack(">H", main)),
            full(b"iinf", 0, struct.pack(">H", len(entries)), *entries),
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", 0, struct.pack(">I", len(own)), rules)),
            *([full(b"iref", 0, box(b"dimg", refers)), box(b"idat", layout)] if grid else []),
            full(b"iloc", 1, b"\x44\0", struct.pack(">H", len(infos)), places),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return (
        head
        + meta(len(head) + len(meta(0)) + 8)
        + box(b"mdat", *(content for _, content in coded[: 1 if shared else count]))
    )
