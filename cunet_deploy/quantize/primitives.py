"""The arithmetic of quantization: pure functions on tensors.

Words as in the field: an integer ``q`` in [quant_min, quant_max] stands for the number ``(q - zero_point) * scale``.
Rounding is half to even, as in ONNX.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["choose_activation_qparams", "choose_weight_scale", "fake_quantize", "quantize"]

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


class _FakeQuantize(torch.autograd.Function):
    """Quantize and dequantize; straight-through for x inside the range, LSQ (Esser et al., 2020) for the scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: int, quant_min: int, quant_max: int) -> Tensor:
        q = quantize(x, scale, zero_point, quant_min, quant_max)
        ctx.save_for_backward(x, scale, q)
        ctx.limits = (zero_point, quant_min, quant_max)
        return (q - zero_point) * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, scale, q = ctx.saved_tensors
        zero_point, quant_min, quant_max = ctx.limits
        exact = x / scale + zero_point
        inside = (exact >= quant_min) & (exact <= quant_max)
        slope = torch.where(inside, q - exact, q - zero_point)
        grad_scale = (gradient * slope).sum_to_size(scale.shape)
        # LSQ's g = 1 / sqrt(N Q) keeps the scale's step in proportion to the weights' steps.
        grad_scale = grad_scale / (max(x.numel() / scale.numel(), 1.0) * max(quant_max, 1)) ** 0.5
        return gradient * inside, grad_scale, None, None, None


def fake_quantize(x: Tensor, scale: Tensor, zero_point: int, quant_min: int, quant_max: int) -> Tensor:
    """The real numbers that the integers of ``x`` stand for, differentiable in ``x`` and ``scale``.

    Args:
        x: any shape.
        scale: positive, broadcasts against ``x``.
        zero_point: integer that stands for 0.
        quant_min: smallest integer.
        quant_max: largest integer.
    """
    out: Tensor = _FakeQuantize.apply(x, scale, zero_point, quant_min, quant_max)  # type: ignore[no-untyped-call]
    return out
