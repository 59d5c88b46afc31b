"""Damaged copies of files: bytes changed, cut and repeated, and values of JSON replaced, the same for the same seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

STRANGE: list[Any] = [
    None, True, -1, 0, 10**30, -(2**63), 1e308, -0.5, "", "x", "1", "\ud800", "\x00", "nan", [], {}, [[]], [None],
    {"": 0}, [1, 2], [0.5] * 6, "a" * 5000, [[[[[]]]]], "../../x", "\\", "/dev/null",
]  # fmt: skip
"""What stands in a file in place of what should."""
_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 400, "0x1", "1.", "--1", '"\\ud800"']


def damaged_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Copies with a few bytes changed, left out, repeated or swapped for others."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(data) + 1)
            kind = rng.randrange(5)
            if kind == 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            elif kind == 1:
                del data[place:]
            elif kind == 2:
                del data[place : place + rng.randint(1, 20)]
            elif kind == 3:
                data[place:place] = data[place : place + rng.randint(1, 40)]
            else:
                data[place:place] = rng.choice(
                    [b"\xff", b"\x00", b"\xef\xbb\xbf", b"\n", b"[" * 3000, b'"', b"{", b"-", b"e9"]
                )
        yield bytes(data)


def damaged_json(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Copies in which values are replaced by strange ones, keys are gone or misspelt, and items are repeated."""
    rng = random.Random(seed)
    table = json.loads(content)
    for _ in range(count):
        tree = [copy.deepcopy(table)]
        for _ in range(rng.randint(1, 3)):
            holder, key = rng.choice(list(_places(tree)))
            kind = rng.randrange(4)
            if kind == 0 and isinstance(holder, dict):
                del holder[key]
            elif kind == 1 and isinstance(holder, dict):
                holder[key + "x"] = holder.pop(key)
            elif kind == 2 and isinstance(holder, list) and holder is not tree:
                holder[key:key] = [holder[key]] * rng.randint(1, 3)
            else:
                holder[key] = copy.deepcopy(rng.choice(STRANGE))
        text = json.dumps(tree[0])
        if rng.random() < 0.3:  # what json.dumps does not write
            text = text.replace(rng.choice([": 1", ": 0", ", 1", "null", "true"]), ": " + rng.choice(_NUMBERS), 1)
        yield text.encode("utf-8", "surrogatepass")


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
