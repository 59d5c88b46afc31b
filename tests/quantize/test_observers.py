"""Histograms that add up exactly, and the ranges that are chosen from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.quantize.observers import (
    BINS,
    METHODS,
    Histogram,
    RangeRule,
    entropy_range,
    expected_error,
    histogram_of,
    merge,
    mse_range,
    percentile_range,
)
from cunet_deploy.quantize.primitives import choose_activation_qparams

any_values = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30)
plain_values = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60)


def of(values: Any) -> Histogram:
    return histogram_of(torch.as_tensor(np.asarray(values), dtype=torch.float32))


def assert_same(one: Histogram, other: Histogram) -> None:
    assert (one.low, one.high, one.zeros, one.exponent) == (other.low, other.high, other.zeros, other.exponent)
    assert (one.first, one.counts.tolist()) == (other.first, other.counts.tolist())


def heavy(seed: int = 0, *, signed: bool) -> torch.Tensor:
    """Many small values and a few large ones, as features have."""
    rng = np.random.default_rng(seed)
    values = rng.laplace(0, 1, 10_000) * (1 + 5 * (rng.random(10_000) < 0.002))
    return torch.tensor(values if signed else values.clip(0), dtype=torch.float32)


def rounding_error(values: torch.Tensor, limits: tuple[float, float], quant_max: int) -> float:
    scale, zero_point = choose_activation_qparams(*limits, quant_max, signed=True)
    rounded = (torch.round(values.double() / scale) + zero_point).clamp(0, quant_max)
    return float((((rounded - zero_point) * scale) - values.double()).square().mean())


@given(any_values, any_values, any_values)
def test_the_histogram_of_parts_is_that_of_the_whole_in_any_order(
    a: list[float], b: list[float], c: list[float]
) -> None:
    whole = of([*a, *b, *c])
    assert_same(merge(merge(of(a), of(b)), of(c)), whole)
    assert_same(merge(of(c), merge(of(b), of(a))), whole)
    assert_same(merge(Histogram(), whole), whole)


@given(any_values)
def test_every_value_is_counted_once_and_the_ends_are_exact(values: list[float]) -> None:
    histogram = of(values)
    assert histogram.total == len(values)
    assert (histogram.low, histogram.high) == (min(0.0, *values), max(0.0, *values))
    assert histogram.first >= -BINS
    assert histogram.first + len(histogram.counts) <= BINS


@given(plain_values)
def test_a_value_is_in_the_bin_whose_edges_hold_it(values: list[float]) -> None:
    histogram = of(values)
    some = [value for value in values if value != 0]
    assert histogram.zeros == len(values) - len(some)
    left = histogram.counts.copy()
    for value in some:
        bin_ = int(np.searchsorted(histogram.edges, value, side="right")) - 1
        left[bin_] -= 1
    assert not left.any()


def test_widening_joins_bins_and_keeps_the_counts() -> None:
    small = of(np.linspace(-1, 1, 5001))
    wide = merge(small, of([1000.0]))
    assert wide.exponent > small.exponent
    assert wide.total == 5002
    assert wide.counts[:-1].sum() + wide.zeros == 5001


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_histogram(value: float) -> None:
    with pytest.raises(CunetError, match="not finite"):
        of([1.0, value])


@given(plain_values, st.floats(50, 100))
def test_a_percentile_covers_at_least_its_share_and_no_more_than_all(values: list[float], percentile: float) -> None:
    low, high = percentile_range(of(values), percentile)
    outside = sum(not low <= value <= high for value in values)
    assert outside <= (100 - percentile) / 100 * len(values) + 1e-9
    assert min(0.0, *values) <= low <= 0 <= high <= max(0.0, *values)


@given(plain_values, st.floats(50, 100), st.floats(50, 100))
def test_a_larger_percentile_covers_no_less(values: list[float], one: float, other: float) -> None:
    histogram = of(values)
    inner, outer = (percentile_range(histogram, share) for share in sorted([one, other]))
    assert outer[0] <= inner[0]
    assert inner[1] <= outer[1]


@given(any_values)
def test_a_percentile_of_100_is_every_value(values: list[float]) -> None:
    histogram = of(values)
    assert percentile_range(histogram, 100) == (histogram.low, histogram.high)


def test_a_percentile_leaves_out_as_many_as_it_may() -> None:
    assert percentile_range(of(np.arange(1, 1001)), 90) == pytest.approx((0, 900), abs=1)
    assert percentile_range(of(np.arange(-1000, 1001)), 90) == pytest.approx((-900, 900), abs=1)


@pytest.mark.parametrize("quant_max", [7, 15, 255])
@pytest.mark.parametrize("limits", [(0.0, 3.0), (-2.0, 1.0), (-4.0, 6.0)])
def test_the_expected_error_is_the_error_of_values_spread_over_their_bins(
    quant_max: int, limits: tuple[float, float]
) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, 40)
    counts[[0, -1]] = 1
    histogram = Histogram(-4.0, 6.0, 7, -2, -16, counts)
    spread = (np.arange(2000) + 0.5) / 2000 * histogram.width
    values = np.concatenate(
        [np.tile(edge + spread, count) for edge, count in zip(histogram.edges, counts, strict=False)]
    )
    values = np.concatenate([values, np.zeros(7 * 2000)])
    expected = rounding_error(torch.tensor(values), limits, quant_max)
    assert expected_error(histogram, *limits, quant_max) == pytest.approx(expected, rel=2e-3)


@settings(max_examples=15)
@given(plain_values, st.sampled_from([3, 15, 255]))
def test_least_squares_never_expects_a_larger_error_than_covering_all(values: list[float], quant_max: int) -> None:
    histogram = of(values)
    chosen = mse_range(histogram, quant_max)
    full = expected_error(histogram, histogram.low, histogram.high, quant_max)
    assert expected_error(histogram, *chosen, quant_max) <= full
    assert histogram.low <= chosen[0] <= 0 <= chosen[1] <= histogram.high


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("quant_max", [15, 255])
def test_least_squares_is_as_good_as_trying_every_range_on_the_values_themselves(signed: bool, quant_max: int) -> None:
    values = heavy(signed=signed)
    found = rounding_error(values, mse_range(of(values), quant_max), quant_max)
    low, high = min(0.0, float(values.min())), float(values.max())
    shares = np.linspace(0.05, 1, 25)
    best = min(
        rounding_error(values, (low * one, high * other), quant_max)
        for one in (shares if signed else [0])
        for other in shares
    )
    assert found <= 1.01 * best
    if quant_max == 15:
        assert found < 0.7 * rounding_error(values, (low, high), quant_max)


@pytest.mark.parametrize("signed", [True, False])
def test_entropy_leaves_out_values_far_from_all_others(signed: bool) -> None:
    values = torch.cat([heavy(signed=False).clamp(max=6), torch.tensor([60.0])])
    low, high = entropy_range(of(torch.cat([values, -values]) if signed else values), 255)
    assert 3 < high < 30
    assert (-30 < low < -3) if signed else low == 0


def test_entropy_keeps_the_ends_of_an_even_distribution() -> None:
    assert entropy_range(of(np.linspace(0, 4, 100_000)), 255) == pytest.approx((0, 4), rel=0.02)


def test_entropy_chooses_the_smallest_divergence_of_a_direct_computation() -> None:
    """One side of zero, written out bin by bin as TensorRT's calibration is described."""
    histogram, levels = of(heavy(signed=False)), 32
    counts = np.concatenate([np.zeros(histogram.first), histogram.counts]).astype(float)
    _, found = entropy_range(histogram, levels - 1)

    def divergence(bins: int) -> float:
        p, high = counts[:bins].copy(), min(bins * histogram.width, histogram.high)
        p[-1] += counts[bins:].sum()
        steps = [min(round((bin_ + 0.5) * histogram.width / (high / (levels - 1))), levels - 1) for bin_ in range(bins)]
        q = np.zeros(bins)
        for step in set(steps):
            members = [bin_ for bin_ in range(bins) if steps[bin_] == step and p[bin_] > 0]
            if members:
                q[members] = counts[:bins][[bin_ for bin_ in range(bins) if steps[bin_] == step]].sum() / len(members)
        some = p > 0
        p, q = p[some] / p.sum(), q[some] / q.sum()
        return float((p * np.log(p / np.maximum(q, 1e-12))).sum())

    bins = round(np.ceil(found / histogram.width))
    near = [max(levels, bins // 2), max(levels, bins - bins // 4), min(len(counts), bins + bins // 4), len(counts)]
    assert all(divergence(bins) <= divergence(other) + 1e-9 for other in near)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-12], [3.0], [-3.0], [-1.0, 0.0, 2.0]], ids=str)
def test_every_method_gives_a_range_for_next_to_nothing(method: Any, values: list[float]) -> None:
    low, high = RangeRule(method).choose(of(values), 255)
    assert min(0.0, *values) - 1e-6 <= low <= 0 <= high <= max(0.0, *values) + 1e-6
    assert np.isfinite(choose_activation_qparams(low, high, 255, signed=True)[0])


def test_a_rule_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="expected one of min-max, percentile, entropy, mse"):
        RangeRule("median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="from 50 to 100"):
        RangeRule("percentile", 49)
