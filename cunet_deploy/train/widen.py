"""Net2Wider: a wider network that begins as the same function.

Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016. Channels are
repeated, and the weights that read a repeated channel are divided among its copies. They are divided unequally, by
chance, so that the copies get other gradients and become different.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from cunet_deploy.config import ModelConfig

__all__ = ["widen", "width_factor"]


def width_factor(given: ModelConfig, wanted: ModelConfig) -> Fraction | None:
    """Factor by which all layers of a network are wider than those of another; None where there is no such factor.

    Tensors that are concatenated have ``channels`` or ``growth`` channels, or sums of them. The denominator divides
    both, so each repeats its own channels only.
    """
    factor = Fraction(wanted.channels, given.channels)
    return factor if factor >= 1 and given.growth * factor == wanted.growth else None


def widen(tensor: Tensor, shape: torch.Size, factor: Fraction, generator: torch.Generator) -> Tensor:
    """Widen a weight or a statistic of a convolution or batch normalization.

    Args:
        tensor: (out, in, height, width) weights, or (channels,).
        shape: of the wider tensor. Sizes that stay (colours, landmarks) are not widened.
        factor: of the sizes that do not stay.
        generator: draws the shares of the copies of an input channel.

    Returns:
        The wider tensor. Networks with all tensors widened compute the same but for rounding.
    """
    wide = tensor
    if tensor.ndim and tensor.shape[0] != shape[0]:
        wide = wide[_sources(shape[0], factor)]
    if tensor.ndim > 1 and tensor.shape[1] != shape[1]:
        sources = _sources(shape[1], factor)
        parts = 0.5 + torch.rand(wide.shape[0], shape[1], generator=generator)
        sums = torch.zeros(wide.shape[0], tensor.shape[1]).index_add_(1, sources, parts)
        shares = parts / sums[:, sources]
        wide = wide[:, sources] * shares.reshape(*shares.shape, *[1] * (tensor.ndim - 2))
    return wide.contiguous()


def _sources(size: int, factor: Fraction) -> Tensor:
    """Index of the channel that each channel of a wider tensor repeats."""
    return torch.arange(size) * factor.denominator // factor.numerator
