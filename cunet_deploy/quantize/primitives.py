"""The arithmetic of quantization: pure functions on tensors.

Words as in the field: an integer ``q`` in [quant_min, quant_max] stands for the number ``(q - zero_point) * scale``.
Rounding is half to even, as in ONNX.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "choose_activation_qparams",
    "choose_weight_scale",
    "damp_gradient",
    "quantize",
    "round_clamp",
]

TINY = 1e-8


def choose_weight_scale(weight: Tensor, quant_max: int) -> Tensor:
    """Symmetric scale per output channel, (out,), that reaches the largest magnitude of each channel of (out, ...)."""
    return (weight.detach().flatten(1).abs().amax(dim=1) / quant_max).clamp(min=TINY)


def choose_activation_qparams(low: float, high: float, quant_max: int, *, signed: bool) -> tuple[float, int]:
    """Scale and zero point of an unsigned integer tensor that covers [low, high] and zero exactly.

    A tensor that is never negative gets zero point 0: the clamp of the quantizer then is its ReLU.
    """
    if not signed:
        return max(high / quant_max, TINY), 0
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / quant_max, TINY)
    return scale, min(max(round(-low / scale), 0), quant_max)


def quantize(x: Tensor, scale: Tensor, zero_point: int, quant_min: int, quant_max: int) -> Tensor:
    """Integers, as a tensor of x's type, of real numbers; ``scale`` broadcasts against ``x``."""
    return (torch.round(x / scale) + zero_point).clamp(quant_min, quant_max)


class _RoundClamp(torch.autograd.Function):
    """Round half to even and clamp; the gradient passes straight through inside the limits and stops outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward((x >= low) & (x <= high))
        return torch.round(x).clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


def round_clamp(x: Tensor, low: int, high: int) -> Tensor:
    """Integers in [low, high], as a tensor of x's type, differentiable by the straight-through rule."""
    out: Tensor = _RoundClamp.apply(x, low, high)  # type: ignore[no-untyped-call]
    return out


def damp_gradient(scale: Tensor, count: int, quant_max: int) -> Tensor:
    """The scale itself, with LSQ's factor 1 / sqrt(count * quant_max) on its gradient (Esser et al., ICLR 2020).

    A scale collects the gradients of all ``count`` values that share it; the factor keeps its step in proportion to
    theirs.
    """
    factor = (max(count, 1) * max(quant_max, 1)) ** -0.5
    damped: Tensor = scale.detach() + (scale - scale.detach()) * factor
    return damped
