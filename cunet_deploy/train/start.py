"""Weights to start the float phase from: those of a trained network, for other data, with more U-Nets, or wider."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import Config, differences
from cunet_deploy.errors import InputError
from cunet_deploy.model.networks import build_network
from cunet_deploy.train.widen import widen, width_factor

__all__ = ["starting_weights"]

_OF_UNET = re.compile(r"^(?P<before>(?:.*\.)?(?:units|ahead|skip|heads|inter))\.(?P<index>\d+)\.(?P<after>.*)$")


def starting_weights(checkpoint: Checkpoint, config: Config) -> dict[str, Tensor]:
    """Weights that a network can take over from a trained one; the rest is left to be initialized.

    Further U-Nets begin as copies of the trained network's last one, which has as many earlier ones before it as they
    see. A wider network begins as the same function (`widen`). Heads are left out where the landmarks are others.

    Args:
        checkpoint: float; of the same network but for its number of U-Nets and its width, for crops of any size.
        config: of the network that starts; ``channels`` and ``growth`` are those of the checkpoint times one factor.

    Raises:
        InputError: the checkpoint is quantized or of another network, or U-Nets or channels cannot be added to it.
    """
    wanted, given = config.model, checkpoint.config.model
    if checkpoint.kind != "float":
        raise InputError("the checkpoint to start from is quantized; name a float one (float.pt)", option="init")
    free: dict[str, Any] = {
        name: getattr(wanted, name) for name in ("num_unets", "num_losses", "order", "channels", "growth")
    }
    factor = width_factor(given, wanted)
    if replace(given, **free) != wanted or factor is None:
        raise InputError(
            f"the checkpoint to start from ({checkpoint.config.name!r}) is of another network than the configuration "
            f"({differences(given, wanted)}); only num_unets and num_losses may differ, and channels and growth by one "
            "factor of at least 1",
            option="init",
        )
    last = given.num_unets - 1
    if given.order != wanted.order or (wanted.num_unets > given.num_unets and last < max(wanted.order, 1)):
        raise InputError(
            f"{wanted.num_unets} U-Nets of order {wanted.order} cannot begin as {given.num_unets} of order "
            f"{given.order}: a U-Net with all its predecessors is needed to copy, and the order must be the same"
        )
    same = checkpoint.config.landmarks.landmarks == config.landmarks.landmarks
    tensors = build_network(wanted, len(config.landmarks)).state_dict()
    sources = {name: _source(name, last) for name in tensors if same or not name.startswith("heads")}
    state = {name: checkpoint.state[source] for name, source in sources.items() if source in checkpoint.state}
    if factor == 1:
        return state
    generator = torch.Generator().manual_seed(config.train.seed)
    return {name: widen(tensor, tensors[name].shape, factor, generator) for name, tensor in state.items()}


def _source(name: str, last: int) -> str:
    """The tensor of the trained network, whose last U-Net has this index, that one of a longer network begins as."""
    found = _OF_UNET.match(name)
    if found is None:
        return name
    before, index = found["before"], int(found["index"])
    most = last - 1 if before == "inter" else last  # before the first U-Net nothing is joined
    return f"{before}.{min(index, most)}.{found['after']}"
