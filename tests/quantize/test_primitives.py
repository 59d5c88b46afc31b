"""Quantization arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from cunet_deploy.quantize.primitives import (
    binarize,
    choose_activation_qparams,
    choose_weight_scale,
    damp_gradient,
    quantize,
    round_clamp,
    round_gradient,
    rounded_gradient,
    ternarize,
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


filters = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-50, 50, width=32)
).map(torch.from_numpy)
RULES = pytest.mark.parametrize("rule", [binarize, ternarize], ids=["binary", "ternary"])
Rule = Callable[[Tensor], tuple[Tensor, Tensor]]


def per_filter(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@RULES
@given(filters)
def test_weights_that_are_rounded_already_give_the_same_integers_and_the_very_same_scale(
    rule: Rule, weight: Tensor
) -> None:
    integers, scale = rule(weight)
    again, same = rule(integers * per_filter(scale, weight))
    assert torch.equal(again, integers)
    assert torch.equal(same[integers.flatten(1).any(dim=1)], scale[integers.flatten(1).any(dim=1)])


@given(filters)
def test_binary_weights_are_signs_times_the_mean_magnitude_of_their_filter(weight: Tensor) -> None:
    integers, scale = binarize(weight)
    assert set(integers.unique().tolist()) <= {-1, 1}
    assert (integers[weight != 0] == weight[weight != 0].sign()).all()  # and never zero, which a sign could be
    mean = np.abs(weight.flatten(1).numpy().astype(np.float64)).mean(axis=1)
    np.testing.assert_allclose(scale, np.maximum(mean, 1e-8), rtol=1e-6)


def test_a_weight_that_vanishes_when_divided_by_its_scale_keeps_its_sign() -> None:
    weight = torch.tensor([[-1.4e-45, 20.0]])
    assert binarize(weight)[0].tolist() == [[-1.0, 1.0]]


@given(filters)
def test_ternary_weights_are_zero_up_to_seven_tenths_of_the_mean_and_the_mean_of_the_others_beyond(
    weight: Tensor,
) -> None:
    integers, scale = ternarize(weight)
    assert set(integers.unique().tolist()) <= {-1, 0, 1}
    for row, found, alpha in zip(weight.flatten(1).double(), integers.flatten(1), scale, strict=True):
        limit = 0.7 * max(float(row.abs().mean()), 1e-8)
        clear = (row.abs() - limit).abs() > 1e-5 * limit  # float32 may decide otherwise at the limit itself
        expected = row.sign() * (row.abs() > limit)
        assert (found[clear] == expected[clear]).all()
        if found.any():
            assert float(alpha) == pytest.approx(max(float(row.abs()[found != 0].mean()), 1e-8), rel=1e-6)


@RULES
def test_no_other_scale_comes_nearer_to_the_weights(rule: Rule) -> None:
    weight = seeded(5, 4, 3, 3)
    integers, scale = rule(weight)

    def error(alpha: Tensor) -> Tensor:
        return (weight - integers * per_filter(alpha, weight)).square().flatten(1).sum(dim=1)

    for factor in (0.9, 0.99, 1.01, 1.1):
        assert (error(scale) < error(factor * scale)).all()


def test_the_error_of_binary_weights_is_what_the_mean_magnitude_leaves() -> None:
    weight = seeded(6, 8, 3, 3, seed=1)
    integers, scale = binarize(weight)
    error = (weight - integers * per_filter(scale, weight)).square().flatten(1).sum(dim=1)
    torch.testing.assert_close(error, weight.square().flatten(1).sum(dim=1) - 72 * scale**2)


def test_the_gradient_of_binary_weights_is_that_of_xnor_net() -> None:
    """With g = dL/d(scale * sign): g itself, straight through, plus sign(w) / n * sum(g * sign), through the scale."""
    weight, g = seeded(3, 4, 3, 3).requires_grad_(), seeded(3, 4, 3, 3, seed=1)
    integers, scale = binarize(weight)
    (integers * per_filter(scale, weight) * g).sum().backward()
    signs = weight.detach().sign()
    expected = g + signs * per_filter((g * signs).flatten(1).mean(dim=1), weight)
    torch.testing.assert_close(weight.grad, expected)


def test_the_gradient_of_ternary_weights_is_that_of_its_definition() -> None:
    """Autograd of rounding with the gradient of a clamp, written out, is the reference."""
    weight, g = seeded(3, 4, 3, 3).requires_grad_(), seeded(3, 4, 3, 3, seed=1)
    integers, scale = ternarize(weight)
    (integers * per_filter(scale, weight) * g).sum().backward()
    found, weight.grad = weight.grad, None
    limit = per_filter(0.7 * weight.detach().abs().flatten(1).mean(dim=1), weight)
    exact = (weight / (2 * limit)).clamp(-1, 1)
    rounded = exact + (exact.round() - exact).detach()
    kept = (weight.abs() > limit).float()
    mean = (weight.abs() * kept).flatten(1).sum(dim=1) / kept.flatten(1).sum(dim=1)
    (rounded * per_filter(mean, weight) * g).sum().backward()
    torch.testing.assert_close(found, weight.grad)


@given(filters, st.sampled_from([1, 3, 7, 15, 31, 63, 127]))
def test_a_fitted_scale_errs_no_more_than_one_that_reaches_the_largest_weight(weight: Tensor, high: int) -> None:
    rows = weight.flatten(1)
    full = (rows.abs().amax(dim=1) / high).clamp(min=1e-8)

    def error(scale: Tensor) -> Tensor:
        return (round_clamp(rows / scale[:, None], -high, high) * scale[:, None] - rows).square().sum(dim=1)

    scale = choose_weight_scale(weight, high)
    assert (scale > 0).all()
    assert (error(scale) <= error(full) * (1 + 1e-5) + 1e-6).all()


def test_with_few_bits_a_fitted_scale_clips_the_few_large_weights() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).standard_t(3, (4, 600)).astype(np.float32))
    full = rows.abs().amax(dim=1) / 7

    def error(scale: Tensor) -> Tensor:
        return (round_clamp(rows / scale[:, None], -7, 7) * scale[:, None] - rows).square().sum(dim=1)

    found = error(choose_weight_scale(rows, 7))
    best = torch.stack([error(full * share) for share in torch.linspace(0.2, 1, 400).tolist()]).amin(dim=0)
    assert (found < 0.8 * error(full)).all()
    assert (found < 1.05 * best).all()


@pytest.mark.parametrize("high", [1, 7, 127])
def test_the_gradient_of_a_learned_step_is_that_of_lsq(high: int) -> None:
    """Inside the range round(w / s) - w / s, outside the largest integer; damped by 1 / sqrt(n * largest)."""
    weight, g = seeded(4, 6, 3, 3), seeded(4, 6, 3, 3, seed=1)
    step = (0.5 * weight.abs().flatten(1).amax(dim=1) / high).requires_grad_()
    damped = damp_gradient(step, weight[0].numel(), high)
    (round_clamp(weight / per_filter(damped, weight), -high, high) * per_filter(damped, weight) * g).sum().backward()
    exact = weight / per_filter(step.detach(), weight)
    inside = exact.abs() <= high
    assert inside.any()
    assert not inside.all()
    local = torch.where(inside, exact.round() - exact, exact.sign() * high)
    expected = (local * g).flatten(1).sum(dim=1) / (54 * high) ** 0.5
    torch.testing.assert_close(step.grad, expected, rtol=1e-4, atol=1e-5)


@given(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(-1, 1, width=32)).map(torch.from_numpy), st.integers(4, 8)
)
def test_a_rounded_gradient_has_so_many_levels_and_keeps_its_largest_value(gradient: Tensor, bits: int) -> None:
    rounded = round_gradient(gradient, bits, torch.Generator().manual_seed(0))
    limit = 2 ** (bits - 1) - 1
    step = gradient.abs().max() / limit
    if step == 0:  # nothing to round, or too small to be divided
        assert torch.equal(rounded, gradient)
        return
    levels = rounded / step
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert levels.abs().max() <= limit + 1e-4
    assert ((rounded - gradient).abs() <= step * 1.0001).all()
    largest = gradient.abs().argmax()
    assert float(rounded[largest]) == pytest.approx(float(gradient[largest]), rel=1e-5)


def test_a_rounded_gradient_is_right_on_average() -> None:
    gradient, count = torch.tensor([1.0, -0.73, 0.301, 0.01, -0.004, 0.0]), 4000
    rounded = round_gradient(gradient.repeat(count, 1), 4, torch.Generator().manual_seed(0))
    share = (gradient * 7).frac().abs()
    deviation = (share * (1 - share) / count).sqrt() / 7
    assert ((rounded.mean(dim=0) - gradient).abs() <= 5 * deviation + 1e-6).all()
    assert (rounded[:, 4] != 0).any()  # even what is far below a step survives now and then


def test_a_gradient_of_nothing_stays_and_the_seed_decides_the_rest() -> None:
    assert not round_gradient(torch.zeros(5), 8, torch.Generator().manual_seed(0)).any()
    gradient = seeded(1000)
    one, same, other = (round_gradient(gradient, 6, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_only_what_comes_back_is_rounded() -> None:
    x, g = seeded(50).requires_grad_(), seeded(50, seed=1)
    out = rounded_gradient(x, 5, torch.Generator().manual_seed(3))
    assert torch.equal(out, x)
    (out * g).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, round_gradient(g, 5, torch.Generator().manual_seed(3)))
