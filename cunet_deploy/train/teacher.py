"""A trained float network whose heatmaps another one learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cunet_deploy.checkpoint.storage import Checkpoint, float_model
from cunet_deploy.config import Config, differences
from cunet_deploy.errors import InputError
from cunet_deploy.model.device import autocast

__all__ = ["DistillationTeacher", "fitting_parent"]


class DistillationTeacher:
    """Heatmaps of a float checkpoint.

    Args:
        checkpoint: float, of the same landmarks, crop and heatmap size as the network that learns.
        config: of that network.

    Raises:
        InputError: it does not fit.
    """

    def __init__(self, checkpoint: Checkpoint, config: Config) -> None:
        mine = checkpoint.config
        if checkpoint.kind != "float":
            raise InputError("the teacher is quantized; name a float checkpoint (float.pt)")
        if (mine.landmarks, mine.crop, mine.model.stride) != (config.landmarks, config.crop, config.model.stride):
            raise InputError(
                f"the teacher {mine.name!r} has other landmarks, crops or heatmaps than this configuration; "
                "skeleton and [crop] must be the same"
            )
        self._model = float_model(checkpoint).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._precision = config.train.precision

    def to(self, device: torch.device) -> DistillationTeacher:
        """The same, moved to a device."""
        self._model.to(device)
        return self

    @torch.inference_mode()
    def heatmaps(self, images: Tensor) -> list[Tensor]:
        """One (B, K, H, W) tensor for each supervised U-Net, never negative."""
        with autocast(images.device, self._precision):
            maps: Sequence[Tensor] = self._model(images)
        return [item.float().clamp(min=0) for item in maps]

    def loss(self, heatmaps: Sequence[Tensor], images: Tensor, foreground_weight: float) -> Tensor:
        """Mean of (1 + w t) (prediction - t)^2 with the teacher's heatmaps t, over the supervised U-Nets.

        Every U-Net learns from the teacher's of the same place where both have as many, else from the teacher's last.
        """
        theirs = [maps.clone() for maps in self.heatmaps(images)]
        if len(theirs) != len(heatmaps):
            theirs = theirs[-1:] * len(heatmaps)
        losses = [
            ((1 + foreground_weight * wanted) * (maps.float() - wanted).square()).mean()
            for maps, wanted in zip(heatmaps, theirs, strict=True)
        ]
        return torch.stack(losses).mean()


def fitting_parent(parent: Checkpoint, config: Config) -> Checkpoint:
    """The float checkpoint from which the quantized phase of a configuration starts.

    Where the configuration has fewer U-Nets than the checkpoint, these are its first ones.

    Raises:
        InputError: it is quantized, or another network, skeleton or crop.
    """
    if parent.kind != "float":
        raise InputError("the parent checkpoint is quantized; name a float one (float.pt)", option="from")
    if config.quant.epochs < 1:
        raise InputError(
            "a parent checkpoint starts the quantized phase, but [quant] epochs is 0; set it", option="from"
        )
    wanted, given = config.model, parent.config.model
    if wanted.num_unets < given.num_unets and wanted == replace(
        given, num_unets=wanted.num_unets, order=min(given.order, wanted.num_unets - 1), num_losses=wanted.num_losses
    ):
        first = parent.first_unets(wanted.num_unets)
        parent = replace(first, config=replace(first.config, model=wanted))
    for name in ("skeleton", "own_skeleton", "model", "crop", "heatmap"):
        mine, theirs = getattr(config, name), getattr(parent.config, name)
        if mine != theirs:
            raise InputError(
                f"the parent checkpoint {parent.config.name!r} has another [{name}] than the configuration "
                f"({differences(theirs, mine)}); start from one that was trained with it"
            )
    return parent
