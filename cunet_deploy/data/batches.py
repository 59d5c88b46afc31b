"""Batches of crops, the same for the same seed whatever happened before: an epoch can be repeated after a crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.geometry import CropRule
from cunet_deploy.preprocess import sample

__all__ = ["WHOLE", "Batch", "Part", "count_batches", "epoch_chunks", "example_random", "plain_batches"]


@dataclass(frozen=True)
class Part:
    """Part of each batch that one of several processes has.

    Attributes:
        index: of the process, from 0.
        count: of the processes.
    """

    index: int
    count: int

    def of(self, chunk: NDArray[np.intp]) -> NDArray[np.intp]:
        """The part of the examples of a batch; parts differ by one example at most."""
        return np.array_split(chunk, self.count)[self.index]


WHOLE = Part(0, 1)


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops and what is in them.

    Attributes:
        images: (B, S, S, 3) BGR uint8.
        points: (B, K, 2) input coordinates; NaN: not labelled, infinite: known not to be there.
    """

    images: NDArray[np.uint8]
    points: NDArray[np.float64]


def epoch_chunks(examples: int, *, size: int, seed: int, epoch: int, part: Part = WHOLE) -> list[NDArray[np.intp]]:
    """The examples of each batch of an epoch, by index, in random order: the same for the same seed and epoch.

    The last batch is dropped when it is smaller than half of ``size``: batch statistics of a few crops are noise.
    """
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    starts = range(0, size * count_batches(examples, size), size)
    return [part.of(order[start : start + size]) for start in starts]


def example_random(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Random numbers of one example in one epoch: who draws it, and what was drawn before, changes nothing."""
    return np.random.default_rng([seed, epoch, index])


def count_batches(examples: int, size: int) -> int:
    """Count the batches that `epoch_chunks` makes of so many examples: one at least, the last at least half full."""
    whole, rest = divmod(examples, size)
    return whole + (1 if not whole or rest >= max(size / 2, 2) else 0)


def plain_batches(examples: Sequence[Example], rule: CropRule, photos: PhotoCache, *, size: int) -> Iterator[Batch]:
    """Crops of the labelled boxes without augmentation, in order."""
    for start in range(0, len(examples), size):
        part = examples[start : start + size]
        crops = [rule.crop(example.box) for example in part]
        images = [sample(photos[example.image], crop) for example, crop in zip(part, crops, strict=True)]
        points = [crop.to_input(example.points) for example, crop in zip(part, crops, strict=True)]
        yield Batch(np.stack(images), np.stack(points))
