"""Activations kept in 8 bits: nearly the gradients of float, for a quarter of the memory."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from drawn import tiny_config
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from networks import float_network, in_training
from torch import Tensor, nn

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.model.cunet import CUNet, Head, initialize, set_efficient
from cunet_deploy.train.activation_compression import (
    Keeper,
    PackedActivation,
    eight_bit,
    pack_activation,
    unpack_activation,
)
from cunet_deploy.train.memory import saved_activation_bytes


@given(
    arrays(np.float32, array_shapes(max_dims=4, max_side=6), elements=st.floats(-100, 100, width=32)).map(
        torch.from_numpy
    )
)
def test_what_is_kept_is_off_by_half_a_step_at_most(value: Tensor) -> None:
    kept = pack_activation(value)
    assert kept.values.dtype == torch.uint8
    assert kept.values.shape == value.shape
    step = float(value.max() - value.min()) / 255
    error = (kept.restored() - value).abs()
    assert (error <= step * torch.where(value < value.min() + step, 1.001, 0.501) + 1e-4 * value.abs() + 1e-37).all()


def test_a_relu_lets_the_gradient_through_where_it_did() -> None:
    """Of half a thousand values between zero and half a step, none becomes zero."""
    value = torch.cat([torch.zeros(500), torch.linspace(1e-6, 1, 2000)])
    assert torch.equal(pack_activation(value).restored() > 0, value > 0)


def test_what_is_kept_is_off_by_half_a_step_elsewhere() -> None:
    value = torch.linspace(-1, 1, 3001)
    assert float((pack_activation(value).restored() - value).abs().max()) <= 0.501 * 2 / 255


def test_types_and_layout_come_back_as_they_were() -> None:
    value = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert pack_activation(value).restored().stride() == value.stride()
    assert pack_activation(value.bfloat16()).restored().dtype == torch.bfloat16
    assert torch.equal(pack_activation(torch.full((5,), 3.5)).restored(), torch.full((5,), 3.5))


def test_a_value_that_is_not_finite_does_not_come_back_as_a_number() -> None:
    for bad in (float("nan"), float("inf")):
        assert not torch.isfinite(pack_activation(torch.tensor([0.0, bad, 1.0])).restored()).any()


def network(block: str = "pre", channels: int = 32) -> CUNet:
    config = tiny_config(model={"block": block, "channels": channels, "growth": 16}, crop={"size": 64})
    model = CUNet(config.model, 68)
    initialize(model, torch.Generator().manual_seed(0))
    for module in model.modules():
        if isinstance(module, Head):
            nn.init.normal_(module.conv.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return model.train()


def test_weights_statistics_and_small_tensors_are_left_alone_and_the_rest_is_packed_once() -> None:
    model = network(channels=128)
    keeper = Keeper(model)
    weight = model.down[0].units[0].grow.conv.weight  # type: ignore[union-attr, index]
    assert isinstance(weight, Tensor)
    assert keeper.keep(weight) is weight
    rounded = weight.detach().bfloat16()  # a copy of weights, as autocast makes it
    assert keeper.keep(rounded) is rounded
    small, large = torch.zeros(100), torch.randn(2, 64, 8, 8)
    assert keeper.keep(small) is small
    kept = keeper.keep(large)
    assert isinstance(kept, PackedActivation)
    assert keeper.keep(large) is kept
    large.add_(1)
    assert keeper.keep(large) is not kept


def test_the_indices_of_a_pooling_are_exact() -> None:
    x = torch.randn(1, 64, 32, 32, requires_grad=True)
    keeper = Keeper(nn.Identity())
    _, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(unpack_activation(keeper.keep(indices)), indices)


def step(model: nn.Module, images: Tensor, *, packed: bool) -> tuple[list[Tensor], Tensor]:
    model.zero_grad()
    with eight_bit(model) if packed else nullcontext():
        outputs = model(images)
    torch.stack([(maps - 0.1).square().mean() for maps in outputs]).sum().backward()
    gradients = [value.grad.flatten() for value in model.parameters() if value.grad is not None]
    return outputs, torch.cat(gradients)


@pytest.mark.parametrize("efficient", [False, True])
@pytest.mark.parametrize("block", ["pre", "post"])
def test_outputs_are_the_same_and_gradients_nearly_so(block: str, efficient: bool) -> None:
    model, images = network(block), torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    set_efficient(model, efficient)
    exact, packed = (step(model, images, packed=packed) for packed in (False, True))
    assert all(torch.equal(one, other) for one, other in zip(exact[0], packed[0], strict=True))
    # What is computed again from rounded inputs stops at a ReLU where it did not before, now and then.
    assert torch.cosine_similarity(exact[1], packed[1], dim=0) > (0.97 if efficient else 0.9995)
    assert not torch.equal(exact[1], packed[1])
    assert float(packed[1].norm()) == pytest.approx(float(exact[1].norm()), rel=0.04 if efficient else 0.01)


@pytest.mark.parametrize("block", ["pre", "post"])
def test_a_quantized_network_trains_with_it_too(block: str) -> None:
    parent = float_network(block, size=64)
    model = in_training(parent, QuantConfig(weight_bits=1)).train()
    images = normalize(drawn_crops(make_manifest(parent), 16))
    exact, packed = (step(model, images, packed=packed) for packed in (False, True))
    assert all(torch.equal(one, other) for one, other in zip(exact[0], packed[0], strict=True))
    assert torch.cosine_similarity(exact[1], packed[1], dim=0) > 0.99


def test_weights_are_exact_in_the_backward_pass_under_bfloat16() -> None:
    """The gradient of the image through one convolution hangs on its weights only."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(16, 64, 3)
    gradients: list[Tensor] = []
    for packed in (False, True):
        images = torch.linspace(-1, 1, 16 * 32 * 32).reshape(1, 16, 32, 32).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16), eight_bit(convolution) if packed else nullcontext():
            out = convolution(images)
        out.float().square().mean().backward()
        assert images.grad is not None
        gradients.append(images.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(("efficient", "most"), [(False, 0.3), (True, 0.15)])
def test_what_is_counted_is_a_quarter_and_half_of_that_with_recomputation(efficient: bool, most: float) -> None:
    model, image = network(channels=64), torch.zeros(1, 3, 64, 64)
    plain = saved_activation_bytes(model, image)
    set_efficient(model, efficient)
    kept = saved_activation_bytes(model, image, eight_bit=True)
    assert 0.05 * plain < kept < most * plain
