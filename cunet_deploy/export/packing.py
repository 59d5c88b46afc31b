"""Weights of fewer than 8 bits as bytes: several to a byte, the first in its lowest bits.

ONNX has no type for them that every runtime reads. What every runtime can do is look bytes up in a table: each byte
selects a row of the 8, 4 or 2 integers that it stands for. Runtimes fold that when they load the file, so what runs is
int8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lookup_table", "pack"]


def pack(values: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """Integers as bytes.

    Args:
        values: any shape, read in C order. 1 bit: -1 and 1. 2 bits: -1 to 1. 4 bits: -7 to 7.
        bits: 1, 2 or 4.

    Returns:
        (ceil(n * bits / 8),) bytes; unused places at the end are zero.

    Raises:
        ValueError: a value has no code of so many bits.
    """
    flat = values.reshape(-1).astype(np.int64)
    codes = (flat + 1) // 2 if bits == 1 else flat + 2 ** (bits - 1)
    if bits not in (1, 2, 4) or not np.array_equal(_levels(bits)[np.clip(codes, 0, 2**bits - 1)], flat):
        raise ValueError(f"a weight does not fit into {bits} bits")
    per_byte = 8 // bits
    padded = np.zeros(-(-len(codes) // per_byte) * per_byte, np.int64)
    padded[: len(codes)] = codes
    places = padded.reshape(-1, per_byte) << (np.arange(per_byte) * bits)
    return np.asarray(places.sum(axis=1), np.uint8)


def lookup_table(bits: int) -> NDArray[np.int8]:
    """(256, 8 / bits) integers that each byte stands for."""
    places = np.arange(256)[:, None] >> (np.arange(8 // bits) * bits)
    return np.asarray(_levels(bits)[places & (2**bits - 1)], np.int8)


def _levels(bits: int) -> NDArray[np.int8]:
    """The integers by code."""
    return np.array([-1, 1], np.int8) if bits == 1 else np.arange(2**bits, dtype=np.int8) - np.int8(2 ** (bits - 1))
