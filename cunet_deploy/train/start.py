"""Weights to start the float phase from: those of a trained network, for other data or with more U-Nets."""

from __future__ import annotations

import re
from dataclasses import replace

from torch import Tensor

from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import Config
from cunet_deploy.errors import InputError
from cunet_deploy.model.networks import build_network

__all__ = ["starting_weights"]

_OF_UNET = re.compile(r"^(?P<before>(?:.*\.)?(?:units|ahead|skip|heads|inter))\.(?P<index>\d+)\.(?P<after>.*)$")


def starting_weights(checkpoint: Checkpoint, config: Config) -> dict[str, Tensor]:
    """Weights that a network can take over from a trained one; the rest is left to be initialized.

    Further U-Nets begin as copies of the trained network's last one, which has as many earlier ones before it as they
    see. Heads are left out where the landmarks are others.

    Args:
        checkpoint: float; of the same network but for its number of U-Nets, for crops of any size.
        config: of the network that starts.

    Raises:
        InputError: the checkpoint is quantized or of another network, or U-Nets cannot be added to it.
    """
    wanted, given = config.model, checkpoint.config.model
    if checkpoint.kind != "float":
        raise InputError("the checkpoint to start from is quantized; name a float one (float.pt)", option="init")
    if replace(given, num_unets=wanted.num_unets, num_losses=wanted.num_losses, order=wanted.order) != wanted:
        raise InputError(
            f"the checkpoint to start from ({checkpoint.config.name!r}) is of another network ({given}) than the "
            f"configuration ({wanted}); only num_unets and num_losses may differ"
        )
    last = given.num_unets - 1
    if given.order != wanted.order or (wanted.num_unets > given.num_unets and last < max(wanted.order, 1)):
        raise InputError(
            f"{wanted.num_unets} U-Nets of order {wanted.order} cannot begin as {given.num_unets} of order "
            f"{given.order}: a U-Net with all its predecessors is needed to copy, and the order must be the same"
        )
    same = checkpoint.config.landmarks.landmarks == config.landmarks.landmarks
    names = build_network(wanted, len(config.landmarks)).state_dict()
    sources = {name: _source(name, last) for name in names if same or not name.startswith("heads")}
    return {name: checkpoint.state[source] for name, source in sources.items() if source in checkpoint.state}


def _source(name: str, last: int) -> str:
    """The tensor of the trained network, whose last U-Net has this index, that one of a longer network begins as."""
    found = _OF_UNET.match(name)
    if found is None:
        return name
    before, index = found["before"], int(found["index"])
    most = last - 1 if before == "inter" else last  # before the first U-Net nothing is joined
    return f"{before}.{min(index, most)}.{found['after']}"
