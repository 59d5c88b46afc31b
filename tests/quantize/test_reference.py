"""Exact integer arithmetic equals the network as it is trained, for every format and kind of network."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from networks import NETWORKS, float_network, in_training, quantized

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import WEIGHT_FORMATS, QuantConfig
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.quantize.reference import run_integer


def quant(name: str, activation_bits: int = 8) -> QuantConfig:
    if name == "ternary":
        return QuantConfig(weight_bits=2, ternary=True, activation_bits=activation_bits)
    return QuantConfig(weight_bits=int(name), activation_bits=activation_bits)


def compare(network: QuantizedNetwork, checkpoint: Checkpoint) -> None:
    crops = drawn_crops(make_manifest(checkpoint), 3)
    with torch.no_grad():
        trained = network.eval()(normalize(crops))
    exact = run_integer(network, torch.from_numpy(crops).permute(0, 3, 1, 2))
    assert len(trained) == len(exact)
    for one, other in zip(trained, exact, strict=True):
        assert other.any()
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("network", "name"),
    [(network, name) for network in NETWORKS for name in WEIGHT_FORMATS if network == "post" or name in "1 ternary 3"],
)
def test_training_computes_what_exact_integers_do(network: str, name: str) -> None:
    checkpoint = quantized(network, quant(name))
    compare(checkpoint.quantized_network(), checkpoint)


@pytest.mark.parametrize("bits", range(2, 8))
@pytest.mark.parametrize("network", ["pre", "refined post", "hourglass"])
def test_activations_of_fewer_bits_are_rounded_alike(network: str, bits: int) -> None:
    checkpoint = quantized(network, quant("8", bits))
    compare(checkpoint.quantized_network(), checkpoint)
    network_of = checkpoint.quantized_network()
    inside = {
        network_of.activation_max(x)
        for node in checkpoint.graph.nodes
        if node.op == "conv"
        for x in node.inputs
        if x != "image"
    }
    assert inside == {2**bits - 1}
    assert network_of.activation_max(checkpoint.graph.outputs[-1]) == 255


@pytest.mark.parametrize("name", ["1", "4"])
@pytest.mark.parametrize("network", ["post", "refined pre", "hourglass"])
def test_every_supervised_head_does_and_the_last_one_alone_gives_the_same(network: str, name: str) -> None:
    parent = float_network(network)
    training = in_training(parent, quant(name, 5))
    compare(training, parent)
    checkpoint = Checkpoint.of_quantized(replace(parent.config, quant=quant(name, 5)), training)
    crops = drawn_crops(make_manifest(parent), 2)
    images = torch.from_numpy(crops).permute(0, 3, 1, 2)
    (alone,), several = run_integer(checkpoint.quantized_network(), images), run_integer(training, images)
    assert torch.equal(alone, several[-1])


@pytest.mark.parametrize("name", ["1", "ternary", "3", "8"])
@pytest.mark.parametrize("network", ["refined pre", "refined post"])
def test_the_second_pass_uses_the_integers_of_the_first_with_scales_of_its_own(network: str, name: str) -> None:
    training = in_training(float_network(network), quant(name))
    shared = [node for node in training.graph.nodes if node.shares]
    assert len(shared) > 20
    own = 0
    for node in shared:
        owner = training.graph.node(node.shares)
        assert torch.equal(training.integers(node)[0], training.integers(owner)[0])
        own += not torch.equal(training.weight_scale(node), training.weight_scale(owner))
    assert own > 5  # where a normalization is folded in


@pytest.mark.parametrize("name", ["1", "ternary", "2", "4"])
@pytest.mark.parametrize("network", ["pre", "refined post"])
def test_freezing_an_averaged_network_changes_no_integer_and_no_scale(network: str, name: str) -> None:
    """The average of many steps is no longer on the grid of any of them."""
    training = in_training(float_network(network), quant(name))
    with torch.no_grad():
        for seed, value in enumerate(training.parameters()):
            if value.requires_grad:
                noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
                value.add_(0.05 * value.abs().mean() * noise + 0.01 * (value.ndim < 2))
    frozen = copy.deepcopy(training)
    frozen.freeze_scales()
    again = copy.deepcopy(frozen)
    again.freeze_scales()
    for node in training.graph.nodes:
        if node.op in ("conv", "affine"):
            for other in (frozen, again):
                for one, two in zip(training.integers(node), other.integers(node), strict=True):
                    assert torch.equal(one, two), node.output
            assert torch.equal(frozen.weight_scale(node), again.weight_scale(node))
            torch.testing.assert_close(frozen.weight_scale(node), training.weight_scale(node), rtol=1e-6, atol=0)
    assert not any(ratio.any() for ratio in frozen.log_ratios.values())
