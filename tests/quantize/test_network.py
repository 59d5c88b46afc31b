"""The quantized network: groups, scales, and agreement with exact integers."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import small_network

from cunet_deploy.config import ModelConfig, QuantConfig
from cunet_deploy.errors import InputError
from cunet_deploy.model.graph import fold
from cunet_deploy.model.networks import build_graph
from cunet_deploy.quantize.floats import calibrate, run_float
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.quantize.reference import run_integer

LANDMARKS = 5


def config(block: str) -> ModelConfig:
    return ModelConfig(num_unets=2, channels=16, growth=4, depth=2, block=block, stem="conv3x2")  # type: ignore[arg-type]


def quantized(block: str, *, all_heads: bool = False) -> tuple[QuantizedNetwork, torch.Tensor]:
    """A quantized network with plausible statistics, and the uint8 images that it was calibrated on."""
    model = small_network(config(block), LANDMARKS, heads=0.2, size=32)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    graph = build_graph(config(block), LANDMARKS, all_heads=all_heads)
    folded = fold(graph, model.state_dict())
    ranges = calibrate(graph, folded, [(images.float() - 128) / 128])
    return QuantizedNetwork.from_float(graph, folded, ranges, QuantConfig()).eval(), images


@pytest.mark.parametrize("block", ["pre", "post"])
def test_tensors_that_are_concatenated_share_a_scale_where_their_signs_agree(block: str) -> None:
    graph = build_graph(config(block), LANDMARKS)
    groups = activation_groups(graph)
    mixed = 0
    for node in graph.nodes:
        if node.op in ("max_pool", "upsample"):
            assert groups.of[node.output] == groups.of[node.inputs[0]]
        if node.op == "concat":
            signs = {groups.of[x] in groups.signed for x in node.inputs}
            mixed += len(signs) == 2
            alike = {groups.of[x] for x in node.inputs if (groups.of[x] in groups.signed) == (True in signs)}
            assert alike == {groups.of[node.output]}
    assert (mixed > 0) == (block == "pre")  # only the stem of "pre" blocks meets signed features


def test_post_blocks_have_no_signed_tensor_and_pre_blocks_quantize_unsigned_before_each_convolution() -> None:
    assert not activation_groups(build_graph(config("post"), LANDMARKS)).signed
    graph = build_graph(config("pre"), LANDMARKS)
    groups = activation_groups(graph)
    for node in graph.nodes:
        if node.op == "conv" and node.inputs != (graph.input,):
            assert groups.of[node.inputs[0]] not in groups.signed


@pytest.mark.parametrize("block", ["pre", "post"])
def test_quantizing_costs_little(block: str) -> None:
    network, images = quantized(block)
    x = (images.float() - 128) / 128
    model = quantized(block)[0]
    folded = {name.replace("/", "."): value for name, value in model.weights.items()}
    weights = {f"{name}.weight": value for name, value in folded.items()}
    weights |= {f"{name.replace('/', '.')}.bias": value for name, value in model.biases.items()}
    with torch.no_grad():
        expected, found = run_float(network.graph, weights, x)[-1], network(x)[-1]
    error = (found - expected).norm() / expected.norm()
    assert 0 < error < 0.15


@pytest.mark.parametrize("block", ["pre", "post"])
def test_training_computes_what_exact_integer_arithmetic_does(block: str) -> None:
    network, images = quantized(block)
    with torch.no_grad():
        trained, exact = network((images.float() - 128) / 128)[-1], run_integer(network, images)[-1]
    assert exact.any()
    assert torch.equal(trained, exact)


def test_learned_scales_are_frozen_without_changing_the_network() -> None:
    network, images = quantized("post")
    with torch.no_grad():
        for ratio in network.log_ratios.values():
            ratio.add_(0.05)
    frozen = copy.deepcopy(network)
    frozen.freeze_scales()
    assert all(not ratio.any() for ratio in frozen.log_ratios.values())
    assert torch.equal(run_integer(network, images)[-1], run_integer(frozen, images)[-1])


def test_weights_biases_and_scales_all_learn() -> None:
    network, images = quantized("pre", all_heads=True)
    outputs = network.train()((images.float() - 128) / 128)
    assert len(outputs) == 2
    torch.stack([maps.square().mean() for maps in outputs]).sum().backward()
    still = [
        name
        for name, value in network.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.any())
    ]
    assert not still


def test_a_large_bias_beside_tiny_weights_survives() -> None:
    network, _ = quantized("post")
    node = next(node for node in network.graph.nodes if node.op == "conv" and node.relu)
    name = node.output.replace(".", "/")
    with torch.no_grad():
        network.weights[name][0] = 1e-9
        network.base_scales[f"{name}/weight"][0] = 1e-11
        network.biases[name][0] = 3.0
        _, biases = network.integers(node)
        grid = network.weight_scale(node) * network.activation_qparams(node.inputs[0])[0]
    assert float(biases[0] * grid[0]) == pytest.approx(3.0, rel=1e-3)


def test_a_missing_range_is_named() -> None:
    graph = build_graph(config("post"), LANDMARKS)
    ranges = {group: (0.0, 1.0) for group in activation_groups(graph).of.values() if not group.startswith("down.0")}
    with pytest.raises(InputError, match=r"no range for 'down\.0"):
        QuantizedNetwork.from_float(graph, {}, ranges, QuantConfig())
