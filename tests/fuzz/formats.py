"""Ways to damage files of a binary format: a value changes, and lengths and checksums around it are written anew.

So what is damaged gets past the first check of a reader.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from random import Random

from fuzz.mutations import INTEGERS, REALS, mutate_bytes, mutate_json

__all__ = ["mutate_boxes", "mutate_chunks", "mutate_ebml", "mutate_protobuf", "mutate_zip"]


def mutate_protobuf(data: bytes, random: Random) -> bytes:
    """Change a field of a message, in messages within it too, and write all lengths anew."""
    fields = _fields(data)
    if not fields:
        return mutate_bytes(data, random)
    at = random.randrange(len(fields))
    number, kind, value = fields[at]
    what = random.random()
    if what < 0.08:
        del fields[at]
    elif what < 0.14:
        fields.insert(random.randrange(len(fields)), fields[at])
    elif what < 0.18:
        fields[at] = (random.choice((number + 1, max(number - 1, 1), 1, 99)), kind, value)
    elif isinstance(value, bytes):
        fields[at] = (number, kind, _mutate_content(value, random))
    else:
        fields[at] = (number, kind, random.choice((*INTEGERS, value + 1)) % (1 << 64))
    return b"".join(_field(*field) for field in fields)


def _mutate_content(value: bytes, random: Random) -> bytes:
    if value[:1] == b"{" and value[-1:] == b"}":
        return mutate_json(value, random)
    if len(value) > 2 and _fields(value) and random.random() < 0.9:
        return mutate_protobuf(value, random)
    return mutate_bytes(value, random)


def _fields(data: bytes) -> list[tuple[int, int, int | bytes]] | None:
    """Fields (number, wire type, value); ``None``: it is no message."""
    found: list[tuple[int, int, int | bytes]] = []
    at = 0
    while at < len(data):
        try:
            tag, at = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if number == 0 or number > 1000:
                return None
            value: int | bytes
            if kind == 0:
                value, at = _varint(data, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
                value, at = int.from_bytes(data[at : at + size], "little"), at + size
            elif kind == 2:
                size, at = _varint(data, at)
                value, at = data[at : at + size], at + size
            else:
                return None
        except IndexError:
            return None
        if at > len(data):
            return None
        found.append((number, kind, value))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError


def _write_varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _field(number: int, kind: int, value: int | bytes) -> bytes:
    head = _write_varint(number << 3 | kind)
    if isinstance(value, bytes):
        return head + _write_varint(len(value)) + value
    if kind == 0:
        return head + _write_varint(value)
    size = 8 if kind == 1 else 4
    return head + (value % (1 << 8 * size)).to_bytes(size, "little")


def mutate_zip(data: bytes, random: Random) -> bytes:
    """Change a member of a zip archive, whose checksum is right again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, zlib.error, OSError):
        return mutate_bytes(data, random)
    at = random.randrange(len(members))
    if random.random() < 0.5:  # the small ones say what is in the large ones
        at = min(range(len(members)), key=lambda index: len(members[index][1]))
    name, content = members[at]
    what = random.random()
    if what < 0.1:
        del members[at]
    elif what < 0.15:
        members[at] = (name + "x", content)
    else:
        members[at] = (name, mutate_bytes(content, random))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def mutate_chunks(data: bytes, random: Random) -> bytes:
    """Change a chunk of a PNG or RIFF (AVI, WebP) file, and write its length and checksum anew."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return data[:8] + b"".join(map(_png_chunk, _change_one(_png_chunks(data), random)))
    if data[:4] == b"RIFF" and len(data) > 12:
        return _riff_chunk(b"RIFF", _mutate_riff(data[8:], random))
    return mutate_bytes(data, random)


Chunk = tuple[bytes, bytes]


def _change_one(chunks: list[Chunk], random: Random) -> list[Chunk]:
    """The chunks with one of them gone, doubled, renamed or changed inside."""
    if not chunks:
        return chunks
    at = random.randrange(len(chunks))
    name, content = chunks[at]
    what = random.random()
    if what < 0.1:
        return [*chunks[:at], *chunks[at + 1 :]]
    if what < 0.2:
        return [*chunks[:at], chunks[at], *chunks[at:]]
    if what < 0.25:
        return [*chunks[:at], (random.choice(chunks)[0], content), *chunks[at + 1 :]]
    return [*chunks[:at], (name, mutate_bytes(content, random)), *chunks[at + 1 :]]


def _png_chunks(data: bytes) -> list[Chunk]:
    found, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _png_chunk(chunk: Chunk) -> bytes:
    name, content = chunk
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _mutate_riff(body: bytes, random: Random) -> bytes:
    """``body`` begins with the kind of the list."""
    kind, chunks, at = body[:4], [], 4
    while at + 8 <= len(body):
        name, size = struct.unpack_from("<4sI", body, at)
        chunks.append((name, body[at + 8 : at + 8 + size]))
        at += 8 + size + (size & 1)
    lists = [index for index, (name, content) in enumerate(chunks) if name == b"LIST" and len(content) > 12]
    if lists and random.random() < 0.7:
        index = random.choice(lists)
        chunks[index] = (b"LIST", _mutate_riff(chunks[index][1], random))
    else:
        chunks = _change_one(chunks, random)
    return kind + b"".join(_riff_chunk(*chunk) for chunk in chunks)


def _riff_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", name, len(content)) + content + b"\0" * (len(content) & 1)


_BOXES_OF_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta", b"moof", b"traf"})


def mutate_boxes(data: bytes, random: Random) -> bytes:
    """Change a box of an MP4 file: a number in it, its kind or its length; boxes around it get lengths that fit."""
    boxes, at = [], 0
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        end = len(data) if size == 0 else at + size
        if end < at + head or end > len(data):
            return mutate_bytes(data, random)
        boxes.append((name, data[at + head : end]))
        at = end
    if not boxes:
        return mutate_bytes(data, random)
    inner = [index for index, (name, _) in enumerate(boxes) if name in _BOXES_OF_BOXES]
    if inner and random.random() < 0.85:
        index = random.choice(inner)
        boxes[index] = (boxes[index][0], mutate_boxes(boxes[index][1], random))
    elif random.random() < 0.6:  # a number of 32 bits, as most of what boxes hold is
        index = random.randrange(len(boxes))
        name, content = boxes[index]
        changed = bytearray(content)
        if len(changed) >= 4:
            place = random.randrange(min(len(changed) // 4, 64)) * 4
            struct.pack_into(">I", changed, place, random.choice(INTEGERS) % (1 << 32))
        boxes[index] = (name, bytes(changed))
    else:
        boxes = _change_one(boxes, random)
    lied = random.randrange(len(boxes)) if boxes and random.random() < 0.1 else -1
    return b"".join(_box(*box, random if index == lied else None) for index, box in enumerate(boxes))


def _box(name: bytes, content: bytes, random: Random | None) -> bytes:
    size = len(content) + 8 if random is None else random.choice((0, 1, 7, 8, 9, 2**31, 2**32 - 1))
    return struct.pack(">I4s", size, name) + content


_MASTERS = frozenset(
    bytes.fromhex(text)
    for text in [
        "1A45DFA3",
        "18538067",
        "1549A966",
        "1654AE6B",
        "AE",
        "E0",
        "E1",
        "1F43B675",
        "A0",
        "1C53BB6B",
        "BB",
        "B7",
        "114D9B74",
        "4DBB",
    ]
)
"""Elements that hold elements: head, segment, information, tracks, picture, sound, cluster, groups, index."""


def mutate_ebml(data: bytes, random: Random) -> bytes:
    """Change an element of a Matroska or WebM file; elements around it get lengths that fit."""
    elements = _elements(data)
    if not elements:
        return mutate_bytes(data, random)
    masters = [index for index, (name, content) in enumerate(elements) if name in _MASTERS and content]
    if masters and random.random() < 0.85:
        index = random.choice(masters)
        elements[index] = (elements[index][0], mutate_ebml(elements[index][1], random))
    elif random.random() < 0.5:
        index = random.randrange(len(elements))
        name, content = elements[index]
        value = random.choice(INTEGERS) % (1 << 64)
        choices = (value.to_bytes(8, "big"), struct.pack(">d", random.choice(REALS)), b"", b"\xff" * len(content))
        elements[index] = (name, random.choice(choices))
    else:
        elements = _change_one(elements, random)
    return b"".join(name + _size_of(content, random) + content for name, content in elements)


def _elements(data: bytes) -> list[Chunk]:
    found, at = [], 0
    while at < len(data):
        width = 9 - data[at].bit_length()
        if width > 4:
            return []
        name, at = data[at : at + width], at + width
        if at >= len(data) or not data[at]:
            return []
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        at += width
        if size == (1 << 7 * width) - 1:  # until the end
            size = len(data) - at
        found.append((name, data[at : at + size]))
        at += size
    return found


def _size_of(content: bytes, random: Random) -> bytes:
    if random.random() < 0.02:
        return b"\x01" + b"\xff" * 7  # not known
    return (len(content) | 1 << 56).to_bytes(8, "big")
