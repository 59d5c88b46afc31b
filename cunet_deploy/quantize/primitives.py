"""The arithmetic of quantization: pure functions on tensors.

Words as in the field: an integer ``q`` in [quant_min, quant_max] stands for the number ``(q - zero_point) * scale``.
Rounding is half to even, as in ONNX.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = [
    "binarize",
    "choose_activation_qparams",
    "choose_weight_scale",
    "damp_gradient",
    "quantize",
    "round_clamp",
    "round_gradient",
    "rounded_gradient",
    "ternarize",
]

MIN_SCALE = 1e-8


def choose_weight_scale(weight: Tensor, quant_max: int) -> Tensor:
    """Symmetric scale per output channel, (out,), of weights (out, ...) that are rounded to [-quant_max, quant_max].

    With 8 bits it reaches the largest magnitude of each channel. With fewer it pays to clip: then it is the one of 40
    scales from a fifth of that on with the smallest squared error.
    """
    rows = weight.detach().flatten(1)
    full = (rows.abs().amax(dim=1) / quant_max).clamp(min=MIN_SCALE)
    if quant_max >= 127:
        return full
    best, least = full, torch.full_like(full, torch.inf)
    for share in torch.linspace(0.2, 1.0, 40).tolist():
        scale = (full * share)[:, None]
        error = ((rows / scale).round().clamp(-quant_max, quant_max) * scale - rows).square().sum(dim=1)
        best, least = torch.where(error < least, full * share, best), torch.minimum(error, least)
    return best


class _Sign(torch.autograd.Function):
    """-1 or 1, 1 for zero; the gradient passes straight through, in units of the scale.

    The sign is the weight's own: the smallest weights divided by their scale are zero in floating point.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradients[0] / scale, None


def binarize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Binary weights: signs, and the mean magnitude of each filter as its scale (Rastegari et al., ECCV 2016).

    Both are differentiable: the sign by the straight-through rule, in units of the scale.

    Returns:
        integers: -1 or 1, of the shape of ``weight``, (out, ...).
        scale: (out,).
    """
    scale = _mean_rows(weight.abs()).clamp(min=MIN_SCALE)
    signs: Tensor = _Sign.apply(weight, _rows(scale.detach(), weight))  # type: ignore[no-untyped-call]
    return signs, scale


def ternarize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Ternary weights: zero below 0.7 of a filter's mean magnitude; the rest's mean is the scale (Li et al., 2016).

    Returns:
        integers: -1, 0 or 1, of the shape of ``weight``, (out, ...).
        scale: (out,).
    """
    limit = 0.7 * _mean_rows(weight.detach().abs()).clamp(min=MIN_SCALE)
    # half to even: a weight at the very limit is zero, too
    integers = round_clamp(weight / _rows(2 * limit, weight), -1, 1)
    kept = integers.detach() != 0
    # Sums in double, so that weights of one magnitude have exactly that as their scale.
    sums, counts = (weight.abs() * kept).flatten(1).double().sum(dim=1), kept.flatten(1).sum(dim=1).clamp(min=1)
    return integers, (sums / counts).to(weight.dtype).clamp(min=MIN_SCALE)


def _mean_rows(values: Tensor) -> Tensor:
    """Mean over all but the first dimension, summed in double: the same on every machine."""
    return values.flatten(1).double().mean(dim=1).to(values.dtype)


def _rows(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def round_gradient(gradient: Tensor, bits: int, noise: torch.Generator | None) -> Tensor:
    """A gradient rounded to signed integers of so many bits times its largest magnitude, stochastically.

    A value between two steps goes up with the probability of its distance to the lower one, so the mean stays
    (Zhou et al., DoReFa-Net, 2016).
    """
    limit = 2 ** (bits - 1) - 1
    step = gradient.abs().amax() / limit
    if gradient.device.type == "cpu" and not bool(step > 0):  # a GPU would have to be waited for
        return gradient
    some = torch.where(step > 0, step, 1.0)
    noised = gradient / some + torch.rand(gradient.shape, generator=noise, device=gradient.device)
    rounded: Tensor = torch.floor(noised).clamp(-limit, limit) * step
    return rounded


class _RoundedGradient(torch.autograd.Function):
    """Identity whose gradient is rounded on its way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, noise: torch.Generator | None) -> Tensor:
        ctx.bits, ctx.noise = bits, noise
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return round_gradient(gradients[0], ctx.bits, ctx.noise), None, None


def rounded_gradient(x: Tensor, bits: int, noise: torch.Generator | None) -> Tensor:
    """The tensor itself; the gradient that comes back through it is rounded by `round_gradient`."""
    out: Tensor = _RoundedGradient.apply(x, bits, noise)  # type: ignore[no-untyped-call]
    return out


def choose_activation_qparams(low: float, high: float, quant_max: int, *, signed: bool) -> tuple[float, int]:
    """Scale and zero point of an unsigned integer tensor that covers [low, high] and zero exactly.

    A tensor that is never negative gets zero point 0: the clamp of the quantizer then is its ReLU.
    """
    if not signed:
        return max(high / quant_max, MIN_SCALE), 0
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / quant_max, MIN_SCALE)
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
