"""Ring buffers in shared memory, through which worker processes hand over batches.

PyTorch sends each tensor of a worker in new shared memory: the system has to find and clear its pages, the training
process to map them, and a file descriptor goes through a socket for each. Here a worker writes into a ring of a few
slots, and sends a slot itself only when it is first used in an epoch; later offsets, shapes and types are enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SLOTS", "RingWriter", "SharedBatch", "unmap"]

SLOTS = 4
"""Slots of a ring: for two batches that a worker is ahead, one in use and one that is drawn. See `RingWriter`."""
_ALIGNED = 64
_mapped: dict[tuple[int, int], Tensor] = {}
"""Slots that the training process has mapped, by worker process and number."""

_Part = tuple[int, torch.Size, torch.dtype]
"""Offset, shape and type of a tensor in a slot."""


class SharedBatch:
    """Reference to a batch in a ring, as a worker sends it; valid until the worker writes into that slot again."""

    def __init__(self, number: tuple[int, int], slot: Tensor | None, parts: list[_Part], kind: type) -> None:
        self._number, self._slot, self._parts, self._kind = number, slot, parts, kind

    def open(self) -> tuple[Tensor, Any]:
        """Map the batch: images and the named tuple of targets, as views of the slot."""
        if self._slot is not None:
            _mapped[self._number] = self._slot
        images, *targets = _tensors(_mapped[self._number], self._parts)
        return images, self._kind(*targets)

    def pin_memory(self) -> tuple[Tensor, Any]:
        """Copy the batch into pinned memory, for a GPU; PyTorch's pinning thread calls this."""
        images, targets = self.open()
        return images.pin_memory(), self._kind(*(target.pin_memory() for target in targets))


class RingWriter:
    """Ring buffer of a worker process.

    A data loader asks a worker for a batch only when one of those before the last two has been taken, and that one is
    in use until the next is: with `SLOTS` slots none is written while somebody reads it.
    """

    def __init__(self) -> None:
        self._slots: list[Tensor] = [torch.empty(0, dtype=torch.uint8)] * SLOTS
        self._turn = 0
        self._sent: tuple[int, set[int]] = (-1, set())

    def write(self, epoch: int, images: Sequence[NDArray[np.uint8]], targets: Any) -> SharedBatch:
        """Copy a batch into the next slot.

        Args:
            epoch: that it belongs to. What was sent in an earlier one may never have been taken.
            images: all of the same shape.
            targets: a named tuple of tensors.
        """
        number, self._turn = self._turn, (self._turn + 1) % SLOTS
        parts, size = [], 0
        for shape, dtype in [
            (torch.Size((len(images), *images[0].shape)), torch.uint8),
            *((target.shape, target.dtype) for target in targets),
        ]:
            parts.append((size, shape, dtype))
            size += -(-shape.numel() * dtype.itemsize // _ALIGNED) * _ALIGNED
        if self._sent[0] != epoch:
            self._sent = (epoch, set())
        if self._slots[number].nbytes < size:
            self._slots[number] = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))
            self._sent[1].discard(number)
        slot = self._slots[number]
        stack, *rest = _tensors(slot, parts)
        np.stack(images, out=stack.numpy())
        for tensor, target in zip(rest, targets, strict=True):
            tensor.copy_(target)
        new = number not in self._sent[1]
        self._sent[1].add(number)
        return SharedBatch((os.getpid(), number), slot if new else None, parts, type(targets))


def _tensors(slot: Tensor, parts: list[_Part]) -> list[Tensor]:
    """Views of the tensors in a slot."""
    return [
        slot[start : start + shape.numel() * dtype.itemsize].view(dtype).view(shape) for start, shape, dtype in parts
    ]


def unmap(processes: Iterable[int]) -> None:
    """Unmap the slots of worker processes that have ended."""
    ended = set(processes)
    for key in [key for key in _mapped if key[0] in ended]:
        del _mapped[key]
