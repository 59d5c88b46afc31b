"""Choice of the range that a quantizer covers, from a histogram of a tensor's values.

A histogram's bins are a power of two wide and one edge is zero. So a wider histogram only joins neighbours, no count is
ever split, and the order in which values come changes nothing: the histogram of two parts is exactly that of the whole.
Zeros are counted on their own: they are what a ReLU leaves most, and every range holds zero without an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.quantize.primitives import choose_activation_qparams

__all__ = [
    "BINS",
    "METHODS",
    "Histogram",
    "RangeRule",
    "entropy_range",
    "expected_error",
    "histogram_of",
    "merge",
    "mse_range",
    "percentile_range",
]

BINS = 8192
"""Bins on each side of zero, at most; the larger side fills more than half of them."""

CANDIDATES = 128
"""Number of range ends that are tried on each side of zero, evenly spaced."""

_MIN_EXPONENT = -40  # finer bins would hold less than the smallest scale there is
_MIN_PROBABILITY = 1e-12

Method = Literal["min-max", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Names of the ways to choose a range."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Histogram of values.

    Attributes:
        low: the smallest value, exactly; at most zero.
        high: the largest value, exactly; at least zero.
        zeros: how many values were zero; they are in no bin.
        exponent: bins are 2^exponent wide.
        first: bin ``i`` of ``counts`` holds [first + i, first + i + 1) times the width.
        counts: (n,) int64; neither the first nor the last one is zero.
    """

    low: float = 0.0
    high: float = 0.0
    zeros: int = 0
    exponent: int = _MIN_EXPONENT
    first: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def total(self) -> int:
        """Number of counted values."""
        return self.zeros + int(self.counts.sum())

    @property
    def edges(self) -> NDArray[np.float64]:
        """(n + 1,) edges of the bins."""
        return np.asarray((self.first + np.arange(len(self.counts) + 1)) * self.width, np.float64)


def histogram_of(values: Tensor) -> Histogram:
    """The histogram of all values of a tensor.

    Raises:
        CunetError: one is not finite.
    """
    flat = values.detach().flatten().double()
    smallest, largest = (float(limit) for limit in torch.aminmax(flat)) if len(flat) else (0.0, 0.0)
    if not math.isfinite(smallest) or not math.isfinite(largest):
        raise CunetError("the network's features are not finite on these photos; train it again")
    low, high = min(0.0, smallest), max(0.0, largest)
    reach = max(-low, high)
    exponent = max(math.frexp(reach)[1] - BINS.bit_length() + 1, _MIN_EXPONENT) if reach else _MIN_EXPONENT
    some = flat[flat != 0]
    zeros = len(flat) - len(some)
    if not len(some):
        return Histogram(low, high, zeros, exponent)
    places = torch.floor(some * math.ldexp(1.0, -exponent)).long()
    first = int(places.min())
    return Histogram(low, high, zeros, exponent, first, torch.bincount(places - first).cpu().numpy())


def merge(one: Histogram, other: Histogram) -> Histogram:
    """The histogram of the values of both."""
    exponent = max(one.exponent, other.exponent)
    parts = [_widened(part, exponent) for part in (one, other)]
    low, high, zeros = min(one.low, other.low), max(one.high, other.high), one.zeros + other.zeros
    filled = [part for part in parts if len(part.counts)]
    if not filled:
        return Histogram(low, high, zeros, exponent)
    first = min(part.first for part in filled)
    counts = np.zeros(max(part.first + len(part.counts) for part in filled) - first, np.int64)
    for part in filled:
        counts[part.first - first :][: len(part.counts)] += part.counts
    return Histogram(low, high, zeros, exponent, first, counts)


def _widened(histogram: Histogram, exponent: int) -> Histogram:
    """The same counts in bins that are 2^exponent wide, at least as wide as before."""
    shift = min(exponent - histogram.exponent, 62)
    if not shift or not len(histogram.counts):
        return Histogram(histogram.low, histogram.high, histogram.zeros, exponent, histogram.first, histogram.counts)
    places = (histogram.first + np.arange(len(histogram.counts))) >> shift
    first = int(places[0])
    counts = np.zeros(int(places[-1]) - first + 1, np.int64)
    np.add.at(counts, places - first, histogram.counts)
    return Histogram(histogram.low, histogram.high, histogram.zeros, exponent, first, counts)


@dataclass(frozen=True)
class RangeRule:
    """Rule by which a range is chosen from a histogram.

    Attributes:
        method: "min-max" covers every value. "percentile" clips the rarest. "entropy" keeps the distribution as alike
            as it can, "mse" the values. Heatmaps always keep every value: their peaks are what is decoded.
        percentile: share of the values, in percent, that "percentile" covers.
    """

    method: Method = "min-max"
    percentile: float = 99.99

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"calibration method {self.method!r} is unknown; expected one of {', '.join(METHODS)}")
        if not 50 <= self.percentile <= 100:
            raise InputError(f"the percentile of calibration must be from 50 to 100, got {self.percentile}")

    def choose(self, histogram: Histogram, quant_max: int) -> tuple[float, float]:
        """The range to cover with the integers 0 to ``quant_max``: its lower end, at most 0, and its upper one."""
        if self.method == "percentile":
            return percentile_range(histogram, self.percentile)
        if self.method == "min-max":
            return histogram.low, histogram.high
        return (entropy_range if self.method == "entropy" else mse_range)(histogram, quant_max)


def percentile_range(histogram: Histogram, percentile: float) -> tuple[float, float]:
    """The range that covers a share of all values; what is left out is shared by both sides where there are two.

    It ends at edges of bins, so it covers slightly more than was asked for, and never less.
    """
    sides = (histogram.low < 0) + (histogram.high > 0)
    allowed = (100 - percentile) * histogram.total / 100 / max(sides, 1)
    counts, places = histogram.counts, histogram.first + np.arange(len(histogram.counts))
    above = counts[::-1].cumsum()[::-1]  # (n,) in this bin or above it
    below = counts.cumsum()  # (n,) in this bin or below it
    # The first bin from outside that is too full to be left out; none on this side of zero: the end is zero.
    high = (places[(places >= 0) & (above > allowed)] + 1).max(initial=0) * histogram.width
    low = places[(places < 0) & (below > allowed)].min(initial=0) * histogram.width
    return max(float(low), histogram.low), min(float(high), histogram.high)


def expected_error(histogram: Histogram, low: float, high: float, quant_max: int) -> float:
    """Mean squared error of rounding the values to ``quant_max + 1`` steps that cover [low, high].

    Values are taken as evenly spread within their bin, and the error is integrated exactly over each.
    """
    scale, zero_point = choose_activation_qparams(low, high, quant_max, signed=True)
    steps = histogram.edges / scale
    nearest = np.clip(np.rint(steps), -zero_point, quant_max - zero_point)
    # The integral of (t - nearest(t))^2 up to t: 1/12 a step, a third of the cube from the nearest one on.
    rest = steps - nearest
    integral = nearest / 12 + rest * rest * rest / 3
    squares = np.diff(integral) * histogram.counts
    return float(squares.sum() * scale**3 / histogram.width / max(histogram.total, 1))


def mse_range(histogram: Histogram, quant_max: int) -> tuple[float, float]:
    """The range whose `expected_error` is smallest: clipping a few large values makes the steps of all others finer."""
    return _search(histogram, lambda low, high: expected_error(histogram, low, high, quant_max))


def entropy_range(histogram: Histogram, quant_max: int) -> tuple[float, float]:
    """The range that loses least information, by the Kullback-Leibler divergence that TensorRT's calibrator minimizes.

    P is the histogram within the range with all that is outside put into its last bins, Q the same without that, where
    the bins of each step are made equal (Migacz, "8-bit Inference with TensorRT", GTC 2017). A range has at least one
    bin for each step: below that nothing would be rounded.
    """
    counts = histogram.counts.astype(np.float64)
    first, width = histogram.first, histogram.width
    least = min(quant_max + 1, len(counts))

    def divergence(low: float, high: float) -> float:
        start = 0 if low == histogram.low else max(math.floor(low / width) - first, 0)
        end = len(counts) if high == histogram.high else min(math.ceil(high / width) - first, len(counts))
        if end - start < least and (low, high) != (histogram.low, histogram.high):
            return math.inf
        scale, zero_point = choose_activation_qparams(low, high, quant_max, signed=True)
        centres = (first + np.arange(start, end) + 0.5) * width
        steps = np.clip(np.rint(centres / scale) + zero_point, 0, quant_max).astype(np.int64)
        inside = counts[start:end]
        p = inside.copy()
        p[0] += counts[:start].sum()
        p[-1] += counts[end:].sum()
        filled = p > 0
        members = np.bincount(steps, weights=filled)
        q = (np.bincount(steps, weights=inside) / np.maximum(members, 1))[steps][filled]
        if not q.sum() > 0:
            return math.inf
        p = p[filled] / p.sum()
        return float((p * np.log(p / np.maximum(q / q.sum(), _MIN_PROBABILITY))).sum())

    return _search(histogram, divergence)


def _search(histogram: Histogram, score: Callable[[float, float], float]) -> tuple[float, float]:
    """The ends with the smallest score, each found in turn for the other, from the full range on."""
    if not len(histogram.counts):
        return histogram.low, histogram.high
    highs = _ends(histogram.first + len(histogram.counts), histogram.width, histogram.high)
    lows = [-end for end in _ends(-histogram.first, histogram.width, -histogram.low)]
    low, high = histogram.low, histogram.high
    least = score(low, high)
    for _ in range(4 if len(highs) > 1 and len(lows) > 1 else 1):
        before = least
        for end in highs:
            if (found := score(low, end)) < least:
                least, high = found, end
        for end in lows:
            if (found := score(end, high)) < least:
                least, low = found, end
        if least == before:
            break
    return low, high


def _ends(bins: int, width: float, limit: float) -> list[float]:
    """Ends to try on one side of zero, where there are so many bins; the last one covers every value."""
    if bins <= 0:
        return [limit]
    shares = np.arange(1, CANDIDATES) / CANDIDATES
    inner = np.unique(np.ceil(shares * bins)) * width
    return [float(end) for end in inner if end < limit] + [limit]
