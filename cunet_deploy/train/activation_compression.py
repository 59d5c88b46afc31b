"""Activations kept for the backward pass in 8 bits.

Between the forward and the backward pass training holds the inputs of every operation in float. Inside `eight_bit` they
are held as bytes with one scale and offset per tensor, and become float again when the backward pass asks for them: a
quarter of the memory, for gradients that are off by the rounding. Works with recomputation, which keeps less of them in
the first place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

__all__ = ["Keeper", "PackedActivation", "eight_bit", "pack_activation", "storage_id", "unpack_activation"]

_SMALL = 4096
"""Tensors with fewer values are kept as they are: statistics, biases."""


@dataclass(frozen=True, eq=False)
class PackedActivation:
    """A tensor in 8 bits: ``low + step * values``.

    Attributes:
        values: uint8, of the tensor's shape.
        low: what 0 stands for, a float32 scalar.
        step: between two values, a float32 scalar.
        dtype: of the tensor.
    """

    values: Tensor
    low: Tensor
    step: Tensor
    dtype: torch.dtype

    def restored(self) -> Tensor:
        """The tensor again, off by half a step at most, or by a whole one between zero and the first."""
        return (self.values.to(torch.float32) * self.step + self.low).to(self.dtype)


@dataclass(frozen=True, eq=False)
class _Indices:
    """Indices of a pooling in 32 bits: exact."""

    values: Tensor

    def restored(self) -> Tensor:
        return self.values.to(torch.int64)


def pack_activation(value: Tensor) -> PackedActivation:
    """A float tensor in 8 bits.

    Where zero is the smallest value, only zero becomes zero: behind a ReLU it says where the gradient stops, and the
    many small values that would stop it, too, cost far more than what they are rounded by.
    """
    value = value.detach()
    # Scalars stay tensors: nobody waits for a GPU to read them.
    low, high = (item.float() for item in torch.aminmax(value))
    wide = torch.float32 if value.device.type == "mps" else torch.float64
    step = ((high.to(wide) - low.to(wide)) / 255).clamp(min=torch.finfo(torch.float32).tiny).float()
    values = ((value.float() - low) / step).round_().clamp_(0, 255).to(torch.uint8)
    if value.device.type != "cpu" or bool(low == 0):
        torch.maximum(values, (value > 0) & (low == 0), out=values)
    return PackedActivation(values, low, step, value.dtype)


def unpack_activation(kept: Any) -> Tensor:
    """Restore the tensor from what `eight_bit` kept."""
    restored: Tensor = kept.restored() if isinstance(kept, (PackedActivation, _Indices)) else kept
    return restored


def storage_id(value: Tensor) -> int:
    """Names the memory that a tensor is a view of, while it lives; also on the meta device, which has no addresses."""
    return int(value.untyped_storage()._cdata)


class Keeper:
    """Decides what to keep of each tensor that a forward pass saves.

    Args:
        network: its weights and running statistics are left alone, and so is what has the shape of a convolution's
            weights: they are rounded to integers or to bfloat16 on their way.
    """

    def __init__(self, network: nn.Module) -> None:
        self._weights = {storage_id(value) for value in [*network.parameters(), *network.buffers()]}
        self._shapes = {value.shape for value in network.parameters() if value.ndim == 4}
        # A tensor that several operations save is packed once. A weak reference keeps the address of a storage from
        # being used again, not its memory.
        self._seen: dict[tuple[Any, ...], tuple[StorageWeakRef, Any]] = {}

    def keep(self, value: Tensor) -> Any:
        """The tensor itself, or something smaller that `unpack_activation` makes a tensor of."""
        if value.numel() < _SMALL or value.shape in self._shapes:
            return value
        if storage_id(value) in self._weights:
            return value
        reference = StorageWeakRef(value.untyped_storage())
        key = (reference.cdata, value.storage_offset(), value.shape, value.stride(), value._version)
        if key in self._seen and not self._seen[key][0].expired():
            return self._seen[key][1]
        if value.dtype == torch.int64:
            kept: Any = _Indices(value.to(torch.int32))
        else:
            kept = pack_activation(value) if value.is_floating_point() else value
        self._seen[key] = (reference, kept)
        return kept


@contextmanager
def eight_bit(network: nn.Module) -> Iterator[None]:
    """Within the block, what a forward pass saves of the activations is kept in 8 bits; weights are left alone."""
    with torch.autograd.graph.saved_tensors_hooks(Keeper(network).keep, unpack_activation):
        yield
