"""Batches for training: drawn in worker processes or beside the network, the same whoever draws them.

What an example looks like in an epoch hangs on the seed, the epoch and the example alone, and the order of an epoch on
seed and epoch. So any number of workers gives the same batches, and an epoch can be repeated after a crash.
"""

from __future__ import annotations

import os
import re
import signal
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from cunet_deploy.data.batches import WHOLE, Part, count_batches, epoch_chunks, example_random
from cunet_deploy.errors import CunetError
from cunet_deploy.machine.allocator import keep_freed_memory
from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.media import read_ahead
from cunet_deploy.train.shared_ring import RingWriter, SharedBatch, unmap

__all__ = ["BatchLoader", "ExampleSampler", "stacked", "to_device"]

T = TypeVar("T")

_AHEAD = 2
"""Batches that wait: of each worker, or of the thread that draws where there is none."""
_MUCH, _LEAST_SECONDS = 0.3, 5.0
"""Share of an epoch, and its least length, from which waiting for crops is worth a word."""
_DIED = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", re.DOTALL)

_Key = tuple[int, NDArray[np.intp]]
"""An epoch, and the examples of a batch."""


class ExampleSampler(ABC, Generic[T]):
    """Draws training examples. It is pickled once for each worker process."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples of an epoch."""

    @abstractmethod
    def draw(self, index: int, rng: np.random.Generator) -> T:
        """One example, augmented at random."""

    @abstractmethod
    def batch(self, drawn: Sequence[T]) -> tuple[Sequence[NDArray[np.uint8]], Any]:
        """B images of (S, S, 3), and a named tuple of targets with B rows each."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Name of an example in messages."""


class _Batches(Dataset[Any]):
    """Batches by epoch and examples.

    Attributes:
        at: (workers, 2) process and example that each worker is at, in shared memory.
    """

    def __init__(self, sampler: ExampleSampler[Any], seed: int, workers: int) -> None:
        self.sampler = sampler
        self.seed = seed
        self.at = torch.full((max(workers, 1), 2), -1, dtype=torch.int64).share_memory_()
        self._ring: RingWriter | None = None  # of a worker process

    def __getitem__(self, key: _Key) -> Any:
        epoch, chunk = key
        info = get_worker_info()
        try:
            drawn = []
            for index in chunk.tolist():
                if info is not None:
                    self.at[info.id, 1] = index
                drawn.append(self.sampler.draw(index, example_random(self.seed, epoch, index)))
            images, targets = self.sampler.batch(drawn)
            if info is None:
                return stacked(images), targets
            self._ring = self._ring or RingWriter()
            return self._ring.write(epoch, images, targets)
        except CunetError as error:  # carried over as it is: PyTorch would wrap it in its trace back
            return error


class _Order(Sampler[_Key]):
    """The batches of an epoch; which one is set between epochs."""

    def __init__(self, examples: int, size: int, seed: int, part: Part) -> None:
        self.epoch = 0
        self._examples, self._size, self._seed, self._part = examples, size, seed, part

    def __iter__(self) -> Iterator[_Key]:
        chunks = epoch_chunks(self._examples, size=self._size, seed=self._seed, epoch=self.epoch, part=self._part)
        return iter([(self.epoch, chunk) for chunk in chunks])

    def __len__(self) -> int:
        return count_batches(self._examples, self._size)


class BatchLoader:
    """Gives the batches of an epoch, on the device that trains.

    Args:
        sampler: draws examples.
        batch_size: of all processes together.
        seed: of order and augmentation.
        part: what this process has of each batch.
        workers: processes that draw; they stay from epoch to epoch. 0: a thread of this process.
        pinned: lay batches into memory that a GPU can fetch by itself.

    Attributes:
        waited: seconds of the last epoch in which there was no batch ready.
    """

    def __init__(
        self,
        sampler: ExampleSampler[Any],
        *,
        batch_size: int,
        seed: int,
        part: Part = WHOLE,
        workers: int = 0,
        pinned: bool = False,
    ) -> None:
        self.waited = 0.0
        self.workers = workers
        self._advised = False
        self._sampler = sampler
        self._order = _Order(len(sampler), batch_size, seed, part)
        self._batches = _Batches(sampler, seed, workers)
        with _as_many_as_asked():
            self._loader: DataLoader[Any] | None = DataLoader(
                self._batches,
                batch_size=None,
                sampler=self._order,
                num_workers=workers,
                collate_fn=_as_it_is,
                pin_memory=pinned,
                persistent_workers=workers > 0,
                prefetch_factor=_AHEAD if workers else None,
                # A fork would copy threads' locks and a GPU's context.
                multiprocessing_context="spawn" if workers else None,
                worker_init_fn=partial(_start_worker, self._batches.at) if workers else None,
                generator=torch.Generator(),  # else it draws from the global random numbers
            )

    def __len__(self) -> int:
        return len(self._order)

    def epoch(self, epoch: int, device: torch.device) -> Generator[tuple[Tensor, Any], None, None]:
        """(B, S, S, 3) uint8 images and targets of each batch; the same for the same epoch, whatever came before.

        A batch may lie in memory that workers use again: it is whole until the next one is asked for.

        Raises:
            CunetError: a photo cannot be read any more, or a worker died; the message names the photo.
        """
        assert self._loader is not None, "the loader is closed"
        self._order.epoch, self.waited = epoch, 0.0
        with self.naming_the_dead():
            with _as_many_as_asked():
                loaded = iter(self._loader)
            ready = loaded if self.workers else read_ahead(loaded, depth=_AHEAD)
            while True:
                begun = time.monotonic()
                item = next(ready, None)
                self.waited += time.monotonic() - begun
                if item is None:
                    return
                if isinstance(item, CunetError):
                    raise item
                images, targets = item.open() if isinstance(item, SharedBatch) else item
                yield images.to(device, non_blocking=True), to_device(targets, device)

    def advice(self, seconds: float) -> str | None:
        """Advise where the network waited for crops through much of an epoch of so many seconds; said once."""
        share = self.waited / max(seconds, 1e-9)
        if self._advised or seconds < _LEAST_SECONDS or share < _MUCH:
            return None
        self._advised, cpus = True, available_cpus()
        more = f"try {min(cpus, max(2 * self.workers, 2))} workers" if self.workers < cpus else "all processors work"
        return (
            f"the data pipeline is the bottleneck: {share:.0%} of the epoch went by waiting for crops; {more}, and for "
            "large photos a photo cache"
        )

    @contextmanager
    def naming_the_dead(self) -> Iterator[None]:
        """Say within the block which photo a worker was at when it died.

        PyTorch raises that wherever the program is at that moment, so the block should hold the work of an epoch, too.

        Raises:
            CunetError: a worker died.
        """
        try:
            yield
        except RuntimeError as error:
            match = _DIED.match(str(error))
            if match is None:
                raise
            pids = {int(pid) for pid in match[1].split(",")}
            names = [
                self._sampler.name(int(index)) for pid, index in self._batches.at.tolist() if pid in pids and index >= 0
            ]
            how = match[2].split(".")[0].strip().replace("is killed", "was killed")
            raise CunetError(
                f"a worker process {how}, at {', '.join(names) or 'its start'}; look at that photo, or "
                "for too little memory (fewer workers, a smaller cache), then resume",
                option="resume",
            ) from error

    def close(self) -> None:
        """End the workers."""
        self._loader = None
        unmap(self._batches.at[:, 0].tolist())


@contextmanager
def _as_many_as_asked() -> Iterator[None]:
    """Keep PyTorch from advising fewer workers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _start_worker(at: Tensor, worker: int) -> None:
    """Prepare a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one acts
    cv2.setNumThreads(0)
    keep_freed_memory()
    at[worker, 0] = os.getpid()


def stacked(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Arrays as one tensor."""
    return torch.from_numpy(np.stack(arrays))


def to_device(targets: Any, device: torch.device) -> Any:
    """A named tuple of tensors on a device."""
    return type(targets)(*(value.to(device, non_blocking=True) for value in targets))


def _as_it_is(item: T) -> T:
    return item
