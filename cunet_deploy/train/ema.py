"""Exponential moving average of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    """Follows a network's parameters and running statistics; the average generalizes better than the last step.

    The decay grows from 0.1 towards its limit as (1 + t) / (10 + t), so that the first, useless weights are forgotten.

    PyTorch's own `torch.optim.swa_utils.AveragedModel` copies the weights of the first update in place of averaging
    them, so all later weights would have other bits than those that runs have had so far.

    Attributes:
        network: a copy that holds the average, in evaluation mode.
        steps: updates so far.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        mine, theirs = _tensors(self.network), _tensors(network)
        torch._foreach_lerp_(mine, theirs, 1 - decay)


def _tensors(network: nn.Module) -> list[Tensor]:
    values = [*network.parameters(), *network.buffers()]
    return [value for value in values if value.is_floating_point()]
