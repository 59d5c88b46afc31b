"""Several processes that train one network: each has a part of every batch, and all take the same steps.

They are started by ``torchrun`` and talk over NCCL on NVIDIA GPUs, over gloo elsewhere. Whatever is a mean or a sum
over a batch is one over the whole batch: statistics of batch normalization, the counts that losses are divided by, and
gradients. So a run is that of one process with the same batch size, but for the order of sums, and either can go on
where the other stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cunet_deploy.data.batches import Part
from cunet_deploy.errors import InputError
from cunet_deploy.model.cunet import set_summing
from cunet_deploy.model.device import CPU
from cunet_deploy.quantize.network import QuantizedNetwork

__all__ = ["Processes", "joined"]

_PATIENCE = timedelta(hours=2)
"""Time that the others wait while the first one measures and saves."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; by default the only one.

    Attributes:
        index: of this process, from 0.
        count: how many there are.
        beside: how many of them are on this machine.
    """

    index: int = 0
    count: int = 1
    beside: int = 1

    @property
    def first(self) -> bool:
        """Return whether this process is the one that measures, saves and reports."""
        return self.index == 0

    @property
    def part(self) -> Part:
        """Part of each batch."""
        return Part(self.index, self.count)

    def check(self, batch_size: int, accumulate: int = 1) -> None:
        """Refuse batches of which a process, or one of its parts, may have nothing.

        Raises:
            InputError: the batch is too small.
        """
        parts = self.count * accumulate
        if parts > 1 and batch_size < 4 * parts:
            each = "" if accumulate == 1 else f" in {accumulate} parts"
            some = "" if self.count == 1 else f" for {self.count} processes"
            raise InputError(f"batch_size = {batch_size} is too small{some}{each}; set {4 * parts}")

    def prepare(self, network: nn.Module) -> nn.Module:
        """Make a network's statistics those of whole batches, and its tensors those of the first process."""
        if self.count > 1:
            set_summing(network, _sum)
            if isinstance(network, QuantizedNetwork):
                network.processes = self.count
            self.share(network)
        return network

    def share(self, network: nn.Module) -> None:
        """Give a network the tensors that it has in the first process."""
        if self.count > 1:
            for value in (*network.parameters(), *network.buffers()):
                dist.broadcast(value.data, src=0)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes; nothing is learned through it."""
        if self.count == 1:
            return value
        return _added_up(value) / self.count

    def average_gradients(self, network: nn.Module) -> None:
        """Give every parameter the mean of its gradients over the processes."""
        if self.count == 1:
            return
        gradients = [value.grad for value in network.parameters() if value.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


class _Sum(torch.autograd.Function):
    """The sum over the processes; what hangs on it in any of them is learned through it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _added_up(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _added_up(gradient)


def _added_up(value: Tensor) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


@contextmanager
def joined(device: torch.device = CPU) -> Iterator[Processes]:
    """The processes that ``torchrun`` has started, this one among them; alone without it.

    Args:
        device: of this process. Those on NVIDIA GPUs talk over NCCL, others over gloo.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL talks through the current one
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(dist.get_rank(), count, int(os.environ.get("LOCAL_WORLD_SIZE", count)))
    finally:
        dist.destroy_process_group()
