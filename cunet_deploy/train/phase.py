"""A phase of training, float or quantized, with all that changes as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cunet_deploy.config import QuantConfig
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.train.ema import EMA

__all__ = ["Phase", "format_of_epoch", "fused"]


@dataclass
class Phase:
    """A network in training with all that changes as it goes.

    ``forward`` is ``network``, perhaps compiled. ``scaler`` scales the loss where gradients are float16.
    """

    kind: str
    network: nn.Module
    forward: Callable[[Tensor], list[Tensor]]
    average: EMA
    optimizer: torch.optim.Optimizer
    epochs: int
    schedule: Callable[[float], float]
    scaler: torch.amp.GradScaler
    epoch: int = 0

    def state(self) -> dict[str, Any]:
        """All of it, to be saved."""
        return {
            "kind": self.kind,
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "average_steps": self.average.steps,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, table: Mapping[str, Any], quant: QuantConfig) -> None:
        """The inverse of `state`."""
        self.epoch = table["epoch"]
        for network in (self.network, self.average.network):
            if isinstance(network, QuantizedNetwork):
                network.set_weight_format(format_of_epoch(quant, max(self.epoch - 1, 0)), fit_scales=False)
        self.network.load_state_dict(table["network"])
        self.average.network.load_state_dict(table["average"])
        self.average.steps = table["average_steps"]
        # How the optimizer computes is the device's matter, and not that of the one where the state was saved.
        own = [{key: group[key] for key in ("fused", "foreach")} for group in self.optimizer.param_groups]
        saved = table["optimizer"]
        groups = [{**group, **mine} for group, mine in zip(saved["param_groups"], own, strict=True)]
        self.optimizer.load_state_dict({**saved, "param_groups": groups})
        if self.scaler.is_enabled() and table.get("scaler"):
            self.scaler.load_state_dict(table["scaler"])


def fused(device: torch.device) -> bool | None:
    """Return whether an optimizer takes its step in one kernel; ``None`` lets PyTorch choose."""
    return True if device.type == "cuda" else None


def format_of_epoch(quant: QuantConfig, epoch: int) -> str:
    """The weight format of the inner layers in an epoch of the quantized phase, counted from 0."""
    formats = (*quant.progressive, quant.weights)
    return formats[min(epoch * len(formats) // max(quant.epochs, 1), len(formats) - 1)]
