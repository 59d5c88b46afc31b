"""Bits by layer under a budget: the best there are, and never more bytes than allowed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cunet_deploy.config import WEIGHT_FORMATS
from cunet_deploy.errors import InputError
from cunet_deploy.export.packing import pack
from cunet_deploy.quantize.formats import format_of
from cunet_deploy.quantize.sensitivity import Choice, allocate, weight_bytes

SIZES = {"8": 8, "4": 4, "ternary": 2, "1": 1}
Choices = dict[str, list[Choice]]


@st.composite
def tables(draw: st.DrawFn) -> Choices:
    """Up to four layers whose formats cost the more the smaller they are."""
    table = {}
    for layer in range(draw(st.integers(1, 4))):
        unit = draw(st.integers(1, 50))
        steps = [draw(st.integers(0, 100)) for _ in range(3)]
        costs = [0, *itertools.accumulate(steps)]
        table[f"layer{layer}"] = [
            Choice(name, size * unit, float(cost)) for (name, size), cost in zip(SIZES.items(), costs, strict=True)
        ]
    return table


def total(table: Choices, formats: dict[str, str]) -> tuple[int, float]:
    """Bytes and cost of an allocation."""
    chosen = [next(c for c in row if c.format == formats[layer]) for layer, row in table.items()]
    return sum(choice.bytes for choice in chosen), sum(choice.cost for choice in chosen)


@given(tables(), st.floats(0, 1))
def test_nothing_within_the_budget_costs_less(table: Choices, share: float) -> None:
    least, most = (sum(extreme(c.bytes for c in row) for row in table.values()) for extreme in (min, max))
    budget = round(least + share * (most - least))
    size, cost = total(table, allocate(table, budget))
    assert size <= budget
    combinations = itertools.product(*table.values())
    assert cost == min(sum(c.cost for c in row) for row in combinations if sum(c.bytes for c in row) <= budget)


@given(tables(), st.integers(0, 2000), st.integers(0, 2000))
def test_a_larger_budget_never_costs_more(table: Choices, one: int, other: int) -> None:
    least = sum(min(c.bytes for c in row) for row in table.values())
    small, large = (total(table, allocate(table, least + budget))[1] for budget in sorted([one, other]))
    assert large <= small


def test_a_budget_that_nothing_fits_is_refused() -> None:
    table = {"a": [Choice("8", 80, 0), Choice("1", 10, 5)], "b": [Choice("8", 80, 0), Choice("1", 10, 5)]}
    assert allocate(table, 20) == {"a": "1", "b": "1"}
    with pytest.raises(InputError, match="take 20 bytes, the budget is 19"):
        allocate(table, 19)


def test_what_costs_nothing_keeps_its_bits_where_they_fit() -> None:
    table = {"a": [Choice("1", 10, 0), Choice("8", 80, 0)], "b": [Choice("1", 10, 3), Choice("8", 80, 0)]}
    assert allocate(table, 160) == {"a": "8", "b": "8"}
    assert allocate(table, 159) == {"a": "1", "b": "8"}


def test_a_budget_of_many_megabytes_is_met_within_a_hundredth() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(10_001, 900_000, 60)
    table = {
        f"layer{index}": [
            Choice(name, weight_bytes(int(count), name), cost * float(rng.random()))
            for name, cost in (("8", 0), ("4", 1), ("1", 9))
        ]
        for index, count in enumerate(counts)
    }
    budget = int(counts.sum() * 0.4)
    size, cost = total(table, allocate(table, budget))
    assert 0.99 * budget < size <= budget
    assert cost < 0.5 * sum(row[-1].cost for row in table.values())


@given(st.integers(1, 100), st.sampled_from(WEIGHT_FORMATS))
def test_weights_take_the_bytes_that_packing_gives_them(count: int, name: str) -> None:
    chosen = format_of(name)
    values = np.full(count, chosen.high, np.int8)
    expected = values.nbytes if chosen.bits == 8 else pack(values, chosen.bits).nbytes
    assert weight_bytes(count, name) == expected
