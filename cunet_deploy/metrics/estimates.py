"""Numbers measured on a sample of objects, with the uncertainty that comes from the sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.errors import InputError

__all__ = [
    "RESAMPLES",
    "Estimate",
    "bootstrap",
    "bootstrap_mean",
    "bootstrap_ratio",
    "paired_difference",
    "paired_relative_difference",
    "ratio_of_medians",
]

FloatArray = NDArray[np.float64]

RESAMPLES = 5000
_CONFIDENCE = 0.95
_CHUNK = 1 << 22  # resampled values held at a time


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample of objects, with its 95 % bootstrap interval.

    Attributes:
        value: measured on the sample itself.
        low: 2.5 % quantile of the resampled values.
        high: 97.5 % quantile of the resampled values.
    """

    value: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @classmethod
    def of(cls, table: Mapping[str, float]) -> Estimate:
        """Read what `to_dict` returned."""
        return cls(table["value"], table["ci95_low"], table["ci95_high"])

    def scaled(self, factor: float) -> Estimate:
        """In a unit ``factor`` times smaller, for example 100 for percent; -1 turns it round."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Estimate(self.value * factor, low, high)

    def text(self, digits: int = 2, *, unit: str = "", sign: bool = False) -> str:
        """``3.12 % (2.98 to 3.27)``, as every table and message writes it.

        Args:
            digits: behind the point.
            unit: behind the value, with a space in front.
            sign: write a plus before what is not negative.
        """
        form = f"{'+' if sign else ''}.{digits}f"
        return f"{self.value:{form}}{unit and ' ' + unit} ({self.low:{form}} to {self.high:{form}})"

    def to_dict(self) -> dict[str, float]:
        """Plain numbers with six significant digits: ``{"value", "ci95_low", "ci95_high"}``."""
        numbers = {"value": self.value, "ci95_low": self.low, "ci95_high": self.high}
        return {name: float(f"{number:.6g}") for name, number in numbers.items()}


def bootstrap(
    rows: ArrayLike,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of a sample and its 95 % percentile bootstrap interval.

    Args:
        rows: (N, ...) what is drawn with replacement, N rows at a time.
        statistic: (R, N, ...) to (R,): it is given R samples at once.
        resamples: how many samples are drawn.
        seed: of the drawing; the same seed and rows give the same interval.

    Raises:
        InputError: there are no rows.
    """
    sample = np.asarray(rows, np.float64)
    count = len(sample)
    if not count:
        raise InputError("no object has a number to average; is every object without labels?")
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // sample.size)
    drawn = [
        statistic(sample[rng.integers(0, count, (min(chunk, resamples - start), count))])
        for start in range(0, resamples, chunk)
    ]
    tail = (1 - _CONFIDENCE) / 2
    # this method takes a resampled value and never interpolates, so that an infinite error gives an infinite bound
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail], method="inverted_cdf")
    return Estimate(float(statistic(sample[None])[0]), float(low), float(high))


def bootstrap_mean(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of a sample and its 95 % percentile bootstrap interval.

    Args:
        values: (N,) one number per object; NaN is left out.
        resamples: how many samples of N are drawn with replacement.
        seed: of the drawing; the same seed and sample give the same interval.

    Raises:
        InputError: no number is left.
    """
    return bootstrap(_known(values), lambda drawn: drawn.mean(axis=1), resamples=resamples, seed=seed)


def bootstrap_ratio(rows: ArrayLike) -> Estimate:
    """Sum of the first column over sum of the second, and the interval of drawing rows.

    Args:
        rows: (N, 2), for example what is right and what counts in each of N images.

    Raises:
        InputError: there are no rows.
    """

    def quotient(drawn: FloatArray) -> FloatArray:
        sums = drawn.sum(axis=1)
        return np.asarray(sums[:, 0] / sums[:, 1])

    return bootstrap(rows, quotient)


def ratio_of_medians(rounds: ArrayLike) -> Estimate:
    """The median of one thing as a multiple of another's that was measured in the same rounds.

    The interval comes from drawing whole rounds, both things together, so what disturbed a round disturbs both.

    Args:
        rounds: (R, 2, C): C measurements of the one and of the other in each of R rounds.
    """

    def quotient(drawn: FloatArray) -> FloatArray:
        medians = np.median(drawn, axis=(1, 3))
        return np.asarray(medians[:, 0] / medians[:, 1])

    return bootstrap(rounds, quotient)


def paired_difference(
    values: ArrayLike, reference: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean of ``values - reference`` with its interval; both (N,), of the same objects in the same order.

    What is hard for one model is mostly hard for the other, so the difference is known far better than either mean.

    Raises:
        InputError: the lengths differ, an error is infinite, or no object has both numbers.
    """
    pairs = _pairs(values, reference)
    return bootstrap_mean(pairs[:, 0] - pairs[:, 1], resamples=resamples, seed=seed)


def paired_relative_difference(
    values: ArrayLike, reference: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """``mean(values) / mean(reference) - 1`` with its interval; arguments and errors as in `paired_difference`."""
    pairs = _pairs(values, reference)
    if len(pairs) and pairs[:, 1].min() <= 0:
        raise InputError("a relative difference needs a reference that is positive everywhere; report the plain one")

    def ratio(drawn: FloatArray) -> FloatArray:
        means = drawn.mean(axis=1)
        return np.asarray(means[:, 0] / means[:, 1] - 1)

    return bootstrap(pairs, ratio, resamples=resamples, seed=seed)


def _pairs(values: ArrayLike, reference: ArrayLike) -> FloatArray:
    """(M, 2) rows of the objects that have both numbers."""
    first, second = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if first.shape != second.shape:
        raise InputError(f"{len(first)} and {len(second)} objects cannot be paired; expected the same objects in order")
    pairs = np.stack([first, second], axis=1)
    if np.isinf(pairs).any():
        raise InputError("an infinite error cannot be paired; compare the failure rates instead")
    return np.asarray(pairs[~np.isnan(pairs).any(axis=1)])


def _known(values: ArrayLike) -> FloatArray:
    sample = np.atleast_1d(np.asarray(values, np.float64))
    return np.asarray(sample[~np.isnan(sample)])
