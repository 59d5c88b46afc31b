"""Choice of the weight format of each layer, when every format of every layer has a cost and a size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cunet_deploy.errors import InputError
from cunet_deploy.quantize.formats import format_of

__all__ = ["Choice", "allocate", "weight_bytes"]

_MAX_BUDGET_STEPS = 1 << 17  # a budget is divided into so many steps at most


@dataclass(frozen=True)
class Choice:
    """One format that a layer can have.

    Attributes:
        format: its name; see `cunet_deploy.quantize.formats`.
        bytes: that the layer's weights take in a file.
        cost: what the format costs in accuracy; any unit, smaller is better.
    """

    format: str
    bytes: int
    cost: float


def weight_bytes(count: int, name: str) -> int:
    """Bytes that so many weights take in a format, packed: the last byte may be filled in part."""
    return -(-count * format_of(name).bits // 8)


def allocate(choices: Mapping[str, Sequence[Choice]], budget: int) -> dict[str, str]:
    """The format of each layer, so that all cost least in sum and take at most ``budget`` bytes in sum.

    That is the multiple-choice knapsack, solved by dynamic programming over the bytes. Among equal costs larger formats
    win.

    Args:
        choices: of each layer, one at least.
        budget: in bytes.

    Raises:
        InputError: the smallest choices take more.
    """
    rows = {layer: sorted(row, key=lambda choice: -choice.bytes) for layer, row in choices.items()}
    smallest = {layer: min(row, key=lambda choice: choice.bytes) for layer, row in rows.items()}
    least = sum(choice.bytes for choice in smallest.values())
    if least > budget:
        raise InputError(
            f"the smallest formats take {least} bytes, the budget is {budget}; raise it or allow smaller ones"
        )
    unit = max(math.gcd(*(choice.bytes for row in rows.values() for choice in row)), -(-budget // _MAX_BUDGET_STEPS))
    best = np.zeros(budget // unit + 1)  # least cost of the layers so far within so many units
    picks = []
    for row in rows.values():
        found, pick = np.full(len(best), np.inf), np.zeros(len(best), np.int16)
        for index, choice in enumerate(row):
            units = -(-choice.bytes // unit)
            if units < len(best):
                costs = best[: len(best) - units] + choice.cost
                better = costs < found[units:]
                found[units:][better], pick[units:][better] = costs[better], index
        best = found
        picks.append(pick)
    if not np.isfinite(best[-1]):  # the budget fits the smallest choices only, and not in whole units
        return {layer: choice.format for layer, choice in smallest.items()}
    left, formats = len(best) - 1, dict.fromkeys(rows, "")
    for (layer, row), pick in reversed(list(zip(rows.items(), picks, strict=True))):
        choice = row[pick[left]]
        formats[layer] = choice.format
        left -= -(-choice.bytes // unit)
    return formats
