"""Ways to damage a file. Each takes its bytes and a source of chance, and gives other bytes.

These are for bytes and for text; `fuzz.formats` has those that know a binary format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = [
    "INTEGERS",
    "REALS",
    "Mutation",
    "mutate_bytes",
    "mutate_cells",
    "mutate_json",
    "mutate_lines",
    "mutate_value",
]

Mutation = Callable[[bytes, Random], bytes]

INTEGERS = (0, 1, -1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -(2**63))
REALS = (0.0, -0.0, 1e-45, 1e-310, 1e30, 1e308, -1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", " ", "x", "\0", "a\nb", "../../x", "é" * 40, "😀", "\ud800", "x" * 5000, "null", "nan", "-1", "1e999")
TOKENS = (
    *("", "nan", "inf", "-inf", "1e999", "-1", "0", "1", "99999999999999999999", "true", "null", "''", '"', "\0", "x"),
    *("[]", "{}", "[[[]]]", "é", "\ufeff", "1_000", "0x10", "-0.0", "1e-320", "2024-01-01", "'''", "#", "=", ",,,,"),
)


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Flip, overwrite, cut out, repeat or insert bytes, or cut the file off."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        _BYTE_CHANGES[random.randrange(len(_BYTE_CHANGES))](made, random)
    return bytes(made)


def _place(data: bytearray, random: Random) -> int:
    """Anywhere; half of the time near the beginning, where formats keep their headers."""
    end = len(data) if random.random() < 0.5 else min(len(data), 256)
    return random.randrange(end) if end else 0


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[_place(data, random)] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, random: Random) -> None:
    size = random.choice((1, 2, 4, 8))
    at = _place(data, random)
    value = random.choice(INTEGERS) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, random.choice(("little", "big")))


def _cut_out(data: bytearray, random: Random) -> None:
    at = _place(data, random)
    del data[at : at + random.choice((1, 2, 4, 16, 256, len(data) // 3))]


def _repeat(data: bytearray, random: Random) -> None:
    at = _place(data, random)
    data[at:at] = data[at : at + random.choice((1, 4, 64, 1024))]


def _insert(data: bytearray, random: Random) -> None:
    at = _place(data, random)
    data[at:at] = random.randbytes(random.choice((1, 4, 64)))


def _zero(data: bytearray, random: Random) -> None:
    at = _place(data, random)
    size = min(random.choice((4, 64, 1024, len(data) // 4)), len(data) - at)
    data[at : at + size] = bytes(size)


def _cut_off(data: bytearray, random: Random) -> None:
    del data[_place(data, random) :]


_BYTE_CHANGES = (_flip, _flip, _overwrite, _overwrite, _cut_out, _repeat, _insert, _zero, _cut_off)


def mutate_cells(data: bytes, random: Random) -> bytes:
    """Change cells of a table of text, columns and rows."""
    rows = [line.split(",") for line in data.decode("utf-8", "replace").splitlines()]
    for _ in range(random.choice((1, 1, 2))):
        row = random.choice(rows) if rows else []
        what = random.randrange(5)
        if what <= 1 and row:
            row[random.randrange(len(row))] = random.choice(TOKENS)
        elif what == 2 and row:
            del row[random.randrange(len(row))]
        elif what == 3:
            row.insert(random.randint(0, len(row)), random.choice(TOKENS))
        elif rows:
            rows.insert(random.randrange(len(rows)), list(random.choice(rows)))
    return "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")


def mutate_lines(data: bytes, random: Random) -> bytes:
    """Change words and lines of a text, such as a configuration."""
    lines = data.decode("utf-8", "replace").splitlines()
    for _ in range(random.choice((1, 1, 2, 3))):
        if not lines:
            break
        at = random.randrange(len(lines))
        words = re.findall(r"[\w.+-]+|\"[^\"]*\"|\s+|.", lines[at])
        what = random.randrange(6)
        if what <= 2 and words:
            words[random.randrange(len(words))] = random.choice(TOKENS)
            lines[at] = "".join(words)
        elif what == 3:
            del lines[at]
        elif what == 4:
            lines.insert(random.randrange(len(lines)), lines[at])
        else:
            lines[at] = f"{lines[at].partition('=')[0]}= {random.choice(TOKENS)}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def mutate_json(data: bytes, random: Random) -> bytes:
    """Change values of a JSON file, or of a line of a JSON Lines file."""
    if random.random() < 0.03:  # deeper than a recursive parser can follow
        return random.choice((b"[", b'{"a":')) * random.choice((500, 100_000))
    text = data.decode("utf-8", "surrogateescape")
    try:
        table = json.loads(text)
    except ValueError:
        lines = text.splitlines()
        at = random.randrange(len(lines)) if lines else 0
        try:
            lines[at] = _json_text(mutate_value(json.loads(lines[at]), random))
        except (ValueError, IndexError):
            return mutate_bytes(data, random)
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    return _json_text(mutate_value(table, random)).encode("utf-8", "surrogatepass")


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def mutate_value(value: Any, random: Random) -> Any:
    """Change one to three places in lists and dictionaries within each other, which are changed in place."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = [(None, None), *_places(value)]
        holder, key = places[random.randrange(len(places))] if random.random() < 0.9 else random.choice(places)
        if holder is None:
            value = _other(value, random) if random.random() < 0.05 else value
        elif random.random() < 0.2:
            del holder[key]
        elif random.random() < 0.1 and isinstance(holder, dict):
            holder[random.choice(TEXTS)] = holder.pop(key)
        elif random.random() < 0.1 and isinstance(holder, list):
            holder.extend([holder[key]] * random.choice((1, 2, 100)))
        else:
            holder[key] = _other(holder[key], random)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, (dict, list)):
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            found += [(holder, key) for key in keys]
            waiting += [holder[key] for key in keys]
    return found


def _other(value: Any, random: Random) -> Any:
    """A value of the same kind that is at the edge of what may be, or one of another kind."""
    if isinstance(value, bool) or random.random() < 0.3:
        return random.choice((None, True, False, [], {}, [None], {"": None}, [[]], 10**400, 0, -1, "", 0.5))
    if isinstance(value, int):
        return random.choice((*INTEGERS, value + 1, value - 1, -value, value * 1000, 10**30))
    if isinstance(value, float):
        return random.choice((*REALS, -value, value * 1e6))
    if isinstance(value, str):
        return random.choice((*TEXTS, value + "x", value[:-1], value.upper(), value * 2))
    if isinstance(value, list):
        return random.choice(([], value * 2, value[:-1], [value], value[::-1], value * 300))
    return random.choice(([], {}, None, [value]))
