"""Shared memory in which worker processes hand over batches, again and again in the same pages.

PyTorch sends each tensor of a worker in new shared memory: the system has to find and clear its pages, the training
process to map them, and a file descriptor goes through a socket for each. Here a worker keeps a ring of a few pieces,
and sends a piece itself only when it is first used in an epoch; later a few numbers say what lies in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["RING", "Lender", "LentBatch", "forget"]

RING = 4
"""Pieces of a worker: of two batches that it is ahead, one in use and one that is drawn. See `Lender`."""
_ALIGNED = 64
_mapped: dict[tuple[int, int], Tensor] = {}
"""In the training process: pieces by process and place in its ring."""

_Part = tuple[int, torch.Size, torch.dtype]
"""Where a tensor begins in a piece, its shape and its type."""


class LentBatch:
    """A batch as it travels. Its tensors are those of the worker until the worker has come round its ring."""

    def __init__(self, place: tuple[int, int], piece: Tensor | None, parts: list[_Part], kind: type) -> None:
        self._place, self._piece, self._parts, self._kind = place, piece, parts, kind

    def open(self) -> tuple[Tensor, Any]:
        """The images and the named tuple of targets, without a copy."""
        if self._piece is not None:
            _mapped[self._place] = self._piece
        images, *targets = _tensors(_mapped[self._place], self._parts)
        return images, self._kind(*targets)

    def pin_memory(self) -> tuple[Tensor, Any]:
        """As `open`, copied to where a GPU can fetch it; PyTorch's thread for that calls this."""
        images, targets = self.open()
        return images.pin_memory(), self._kind(*(target.pin_memory() for target in targets))


class Lender:
    """The ring of a worker process.

    A data loader asks a worker for a batch only when one of those before the last two has been taken, and that one is
    in use until the next is: with `RING` pieces none is written while somebody reads it.
    """

    def __init__(self) -> None:
        self._pieces: list[Tensor] = [torch.empty(0, dtype=torch.uint8)] * RING
        self._turn = 0
        self._sent: tuple[int, set[int]] = (-1, set())

    def lend(self, epoch: int, images: Sequence[NDArray[np.uint8]], targets: Any) -> LentBatch:
        """Copy a batch into the next piece.

        Args:
            epoch: that it belongs to. What was sent in an earlier one may never have been taken.
            images: all of the same shape.
            targets: a named tuple of tensors.
        """
        place, self._turn = self._turn, (self._turn + 1) % RING
        parts, size = [], 0
        for shape, dtype in [
            (torch.Size((len(images), *images[0].shape)), torch.uint8),
            *((target.shape, target.dtype) for target in targets),
        ]:
            parts.append((size, shape, dtype))
            size += -(-shape.numel() * dtype.itemsize // _ALIGNED) * _ALIGNED
        if self._sent[0] != epoch:
            self._sent = (epoch, set())
        if self._pieces[place].nbytes < size:
            self._pieces[place] = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))
            self._sent[1].discard(place)
        piece = self._pieces[place]
        stack, *rest = _tensors(piece, parts)
        np.stack(images, out=stack.numpy())
        for tensor, target in zip(rest, targets, strict=True):
            tensor.copy_(target)
        new = place not in self._sent[1]
        self._sent[1].add(place)
        return LentBatch((os.getpid(), place), piece if new else None, parts, type(targets))


def _tensors(piece: Tensor, parts: list[_Part]) -> list[Tensor]:
    """What lies in a piece, without a copy."""
    return [
        piece[start : start + shape.numel() * dtype.itemsize].view(dtype).view(shape) for start, shape, dtype in parts
    ]


def forget(processes: Iterable[int]) -> None:
    """Unmap the pieces of processes that have ended."""
    ended = set(processes)
    for place in [place for place in _mapped if place[0] in ended]:
        del _mapped[place]
