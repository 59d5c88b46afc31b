"""Quantization arithmetic."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cunet_deploy.quantize.primitives import (
    choose_activation_qparams,
    choose_weight_scale,
    damp_gradient,
    quantize,
    round_clamp,
)


def fake_quantize(x: torch.Tensor, scale: torch.Tensor, zero_point: int, low: int, high: int) -> torch.Tensor:
    """Rounded to the grid and back, from the two functions that training uses."""
    return round_clamp(x / scale, low - zero_point, high - zero_point) * scale


values = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20).map(torch.tensor)
scales = st.floats(0.001953125, 4, width=32).map(torch.tensor)


@given(values, scales, st.integers(0, 255))
def test_quantizing_twice_changes_nothing(x: torch.Tensor, scale: torch.Tensor, zero_point: int) -> None:
    once = fake_quantize(x, scale, zero_point, 0, 255)
    assert torch.equal(fake_quantize(once, scale, zero_point, 0, 255), once)


@given(values, scales)
def test_inside_the_range_the_error_is_at_most_half_a_step(x: torch.Tensor, scale: torch.Tensor) -> None:
    inside = x.clamp(float(-127 * scale), float(127 * scale))
    error = (fake_quantize(inside, scale, 0, -127, 127) - inside).abs()
    assert (error <= 0.5001 * scale + 1e-6).all()


def test_halves_round_to_even_as_in_onnx() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert quantize(x, torch.tensor(1.0), 0, -127, 127).tolist() == [0, 2, 2, 0, -2]


def test_the_gradient_passes_inside_the_range_and_stops_outside() -> None:
    x = torch.tensor([-1.0, 0.2, 254.9, 256.5], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), 0, 0, 255).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("zero_point", [0, 3])
def test_the_gradients_are_those_of_the_straight_through_definition(zero_point: int) -> None:
    """Autograd of round-with-identity-gradient, written out, is the reference."""
    x = torch.linspace(-4, 20, 40).requires_grad_()
    scale = torch.tensor(0.9, requires_grad=True)
    weights = torch.randn(40, generator=torch.Generator().manual_seed(0))
    (fake_quantize(x, scale, zero_point, 0, 15) * weights).sum().backward()
    found_x, found_scale = x.grad, scale.grad
    assert found_x is not None
    assert found_scale is not None
    x.grad = scale.grad = None
    exact = (x / scale + zero_point).clamp(0, 15)
    rounded = exact + (exact.round() - exact).detach()
    (((rounded - zero_point) * scale) * weights).sum().backward()
    torch.testing.assert_close(found_x, x.grad)
    assert scale.grad is not None
    torch.testing.assert_close(found_scale, scale.grad)


def test_damping_changes_the_gradient_of_a_scale_and_not_its_value() -> None:
    scale = torch.tensor([0.3, 0.7], requires_grad=True)
    damped = damp_gradient(scale, count=25, quant_max=4)
    assert torch.equal(damped, scale)
    damped.sum().backward()
    assert scale.grad is not None
    torch.testing.assert_close(scale.grad, torch.full((2,), 0.1))


def test_the_weight_scale_reaches_the_largest_weight_of_each_channel() -> None:
    weight = torch.tensor([[[[1.0, -2.54]]], [[[0.0, 0.0]]]])
    scale = choose_weight_scale(weight, 127)
    assert scale[0] == pytest.approx(0.02)
    assert scale[1] > 0


@given(st.floats(-50, 0), st.floats(0, 50))
def test_a_signed_range_holds_zero_exactly_and_both_ends_within_a_step(low: float, high: float) -> None:
    scale, zero_point = choose_activation_qparams(low, high, 255, signed=True)
    assert 0 <= zero_point <= 255
    assert (0 - zero_point) * scale <= low + scale
    assert (255 - zero_point) * scale >= high - scale


def test_a_tensor_that_is_never_negative_has_zero_point_zero() -> None:
    scale, zero_point = choose_activation_qparams(-0.0, 5.1, 255, signed=False)
    assert scale == pytest.approx(0.02)
    assert zero_point == 0
