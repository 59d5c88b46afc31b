"""Training with few bits: every latent weight moves, every gradient survives, formats change on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from networks import float_network, in_training
from torch import Tensor

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.quantize.network import QuantizedNetwork

FORMATS = {
    "1": QuantConfig(weight_bits=1),
    "ternary": QuantConfig(weight_bits=2, ternary=True),
    "4": QuantConfig(weight_bits=4),
}


def step(network: QuantizedNetwork, seed: int = 0) -> dict[str, Tensor]:
    """Gradients of a loss on drawn faces, rounded as the configuration wants."""
    network.train().seed_gradients(seed)
    network.zero_grad()
    images = normalize(drawn_crops(make_manifest(float_network("pre")), 4))
    torch.stack([(maps - 0.1).square().mean() for maps in network(images)]).sum().backward()
    network.round_gradients()
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("bits", [8, 32])
@pytest.mark.parametrize("name", FORMATS)
def test_nearly_every_latent_weight_moves(name: str, bits: int) -> None:
    """With latents on a grid of gradient bits, none would: a step is smaller than half of the grid's."""
    network = in_training(float_network("pre"), replace(FORMATS[name], gradient_bits=bits))
    before = {key: value.detach().clone() for key, value in network.weights.items()}
    optimizer = torch.optim.AdamW([value for value in network.parameters() if value.requires_grad], lr=1e-4)
    for seed in range(6):
        step(network, seed)
        optimizer.step()
    moved = torch.cat([(network.weights[key] != value).flatten() for key, value in before.items()])
    assert moved.float().mean() > 0.97


@pytest.mark.parametrize("name", FORMATS)
def test_gradients_survive_rounding_to_eight_bits_in_every_layer(name: str) -> None:
    """On a fixed grid of 1 / 128 nearly all of them would be zero: they are smaller than that by far."""
    network = in_training(float_network("pre"), replace(FORMATS[name], gradient_bits=8))
    gradients = step(network)
    weights = {key: value for key, value in gradients.items() if key.startswith("weights.")}
    assert len(weights) == len(network.weights)
    everything = torch.cat([value.flatten() for value in weights.values()])
    assert (everything.abs() < 1 / 256).float().mean() > 0.9
    assert (everything != 0).float().mean() > 0.5
    for value in weights.values():
        levels = value / (value.abs().max() / 127)
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
        assert len(levels.round().unique()) <= 255


def test_rounded_gradients_point_where_exact_ones_do() -> None:
    exact, rounded = (
        step(in_training(float_network("post"), replace(FORMATS["4"], gradient_bits=bits))) for bits in (32, 8)
    )
    for key in exact:
        if key.startswith("weights."):
            assert torch.cosine_similarity(exact[key].flatten(), rounded[key].flatten(), dim=0) > 0.95, key


def test_the_seed_repeats_a_step_exactly() -> None:
    network = in_training(float_network("post"), replace(FORMATS["1"], gradient_bits=6))
    one, same, other = (step(network, seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_formats_are_passed_through_and_the_checkpoint_has_the_last() -> None:
    quant = QuantConfig(weight_bits=1, progressive=("8", "4"))
    parent = float_network("post")
    network = in_training(parent, quant)
    inside = network.graph.node("neck.units.0.grow")
    assert (network.weight_format(inside).name, int(network.integers(inside)[0].abs().max())) == ("8", 127)
    network.set_weight_format("4", fit_scales=True)
    assert int(network.integers(inside)[0].abs().max()) == 7
    checkpoint = Checkpoint.of_quantized(replace(parent.config, quant=quant), network)
    assert checkpoint.quantized_network().integers(inside)[0].abs().unique().tolist() == [1]
    assert network.weight_format(inside).name == "4"  # and training goes on as it was
    edge = network.graph.node("stem.conv")
    assert int(checkpoint.quantized_network().integers(edge)[0].abs().max()) == 127


def test_a_scale_is_fitted_again_only_where_the_format_changes() -> None:
    network = in_training(float_network("post"), QuantConfig(weight_bits=4, progressive=("8",)))
    inside, edge = network.graph.node("neck.units.0.grow"), network.graph.node("stem.conv")
    with torch.no_grad():
        for ratio in network.log_ratios.values():
            ratio.fill_(0.1)
    before = [network.weight_scale(node).detach().clone() for node in (inside, edge)]
    network.set_weight_format("4", fit_scales=True)
    assert torch.equal(network.weight_scale(edge), before[1])
    assert (network.weight_scale(inside) > 5 * before[0]).all()
