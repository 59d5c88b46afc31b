"""Memory that training holds between the forward and the backward pass."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from cunet_deploy.model.cunet import CatConv
from cunet_deploy.train.activation_compression import Keeper, storage_id, unpack_activation

__all__ = ["return_freed_memory", "saved_activation_bytes"]

_M_MMAP_THRESHOLD = -3  # glibc's malloc.h
_LARGE = 1 << 20


def return_freed_memory() -> bool:
    """Have the allocator return every large block to the system as soon as it is freed, where that can be asked for.

    By default glibc keeps freed blocks of up to 32 MiB in one heap. Small tensors that stay (activations kept in 8
    bits) are then laid into the holes of large ones that went, the next large ones do not fit there any more, and the
    process grows as if nothing had been made smaller. The price is that the system clears every large block anew.

    Returns:
        Whether it was done: not without glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows, macOS, musl
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE))


def saved_activation_bytes(network: nn.Module, image: Tensor, *, eight_bit: bool = False) -> int:
    """Bytes of the distinct storages that autograd keeps for the backward pass, without parameters and the image.

    Counts what operations save and what recomputed blocks keep as their inputs.

    Args:
        network: in training mode.
        image: (B, 3, S, S).
        eight_bit: count what is kept within `cunet_deploy.train.activation_compression.eight_bit`.
    """
    if eight_bit:
        return _packed_bytes(network, image)
    kept: dict[int, Tensor] = {}
    weights = {storage_id(value) for value in [*network.parameters(), *network.buffers()]}

    def keep(value: Tensor) -> Tensor:
        if storage_id(value) not in weights:
            kept[storage_id(value)] = value
        return value

    def keep_inputs(module: CatConv, inputs: tuple[Any, ...]) -> None:
        if module.efficient:
            for value in inputs[0]:
                keep(value)

    hooks = [
        module.register_forward_pre_hook(keep_inputs) for module in network.modules() if isinstance(module, CatConv)
    ]
    try:
        # The tensors in `kept` stay alive until here, so an address names one storage only.
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            outputs = network(image)
        kept.pop(storage_id(image), None)
        total = sum(value.untyped_storage().nbytes() for value in kept.values())
        del outputs
        return total
    finally:
        for hook in hooks:
            hook.remove()


def _packed_bytes(network: nn.Module, image: Tensor) -> int:
    """Bytes of the distinct things that `Keeper` keeps; a tensor that it leaves as it is counts with its storage."""
    keeper, weights = Keeper(network), {storage_id(value) for value in network.parameters()}
    kept: dict[int, Tensor] = {}

    def count(value: Tensor) -> Any:
        packed = keeper.keep(value)
        stored = packed if isinstance(packed, Tensor) else packed.values
        if storage_id(stored) not in weights:
            kept[storage_id(stored)] = stored
        return packed

    with torch.autograd.graph.saved_tensors_hooks(count, unpack_activation):
        outputs = network(image)
    kept.pop(storage_id(image), None)
    total = sum(value.untyped_storage().nbytes() for value in kept.values())
    del outputs
    return total
