"""How much memory training holds between the forward and the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cunet_deploy.model.cunet import CatConv
from cunet_deploy.train.saved import Keeper, unpack_activation

__all__ = ["saved_activation_bytes"]


def saved_activation_bytes(network: nn.Module, image: Tensor, *, eight_bit: bool = False) -> int:
    """Bytes of the distinct storages that autograd keeps for the backward pass, without parameters and the image.

    Counts what operations save and what recomputed blocks keep as their inputs.

    Args:
        network: in training mode.
        image: (B, 3, S, S).
        eight_bit: count what is kept within `cunet_deploy.train.saved.eight_bit`.
    """
    if eight_bit:
        return _packed_bytes(network, image)
    kept: dict[int, Tensor] = {}
    weights = {value.untyped_storage().data_ptr() for value in [*network.parameters(), *network.buffers()]}

    def keep(value: Tensor) -> Tensor:
        if value.untyped_storage().data_ptr() not in weights:
            kept[value.untyped_storage().data_ptr()] = value
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
        kept.pop(image.untyped_storage().data_ptr(), None)
        total = sum(value.untyped_storage().nbytes() for value in kept.values())
        del outputs
        return total
    finally:
        for hook in hooks:
            hook.remove()


def _packed_bytes(network: nn.Module, image: Tensor) -> int:
    """Bytes of the distinct things that `Keeper` keeps; a tensor that it leaves as it is counts with its storage."""
    keeper, weights = Keeper(network), {value.untyped_storage().data_ptr() for value in network.parameters()}
    kept: dict[int, Tensor] = {}

    def count(value: Tensor) -> Any:
        packed = keeper.keep(value)
        stored = packed if isinstance(packed, Tensor) else packed.values
        if stored.untyped_storage().data_ptr() not in weights:
            kept[stored.untyped_storage().data_ptr()] = stored
        return packed

    with torch.autograd.graph.saved_tensors_hooks(count, unpack_activation):
        outputs = network(image)
    kept.pop(image.untyped_storage().data_ptr(), None)
    total = sum(value.untyped_storage().nbytes() for value in kept.values())
    del outputs
    return total
