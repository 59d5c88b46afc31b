"""Iterative refinement: two passes through the same convolutions, each with its own normalization and heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import small_network

from cunet_deploy.config import ModelConfig, QuantConfig
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.model.cunet import MIN_FACTOR, BatchNorm, CUNet, set_efficient
from cunet_deploy.model.graph import fold
from cunet_deploy.model.networks import build_graph
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.quantize.network import QuantizedNetwork

LANDMARKS = 5


def config(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"num_unets": 3, "order": 2, "channels": 16, "growth": 4, "depth": 2, "passes": 2, **changes})


def network(model_config: ModelConfig) -> CUNet:
    model = small_network(model_config, 5, varied=True)
    assert isinstance(model, CUNet)
    return model


@pytest.mark.parametrize(("unets", "order", "landmarks"), [(2, 1, 68), (4, 1, 16), (4, 3, 68), (8, 0, 16)])
def test_it_costs_a_merge_the_normalizations_and_the_heads_once_more(unets: int, order: int, landmarks: int) -> None:
    """In BN channels: of the units and adapters, and 256 of the merge; heads and the merge have weights, too."""
    with torch.device("meta"):
        one, two = (CUNet(ModelConfig(num_unets=unets, order=order, passes=passes), landmarks) for passes in (1, 2))
    counts = [sum(value.numel() for value in model.parameters()) for model in (one, two)]
    seen = [min(i, order) for i in range(unets)]
    norms = 5408 * unets + 704 * sum(seen) + 128 * sum(1 + m for m in seen[1:])
    merge, heads = 256 * 128 + 2 * 256, unets * (128 * landmarks + 2 * 128)
    assert counts[1] - counts[0] == 2 * norms + merge + heads
    assert counts[1] < 1.08 * counts[0]  # twice the U-Nets would double them


def test_both_passes_are_supervised_at_every_anchor() -> None:
    model = network(config(num_losses=2))
    outputs = model(torch.randn(1, 3, 64, 64))
    assert len(outputs) == 4
    assert len(build_graph(model.config, LANDMARKS, all_heads=True).outputs) == 4
    assert build_graph(model.config, LANDMARKS).outputs == ("heads_again.2",)
    names = {node.output for node in build_graph(model.config, LANDMARKS).nodes}
    assert not any(name.startswith("heads.") for name in names)  # the first pass needs none


@pytest.mark.parametrize("block", ["pre", "post"])
@pytest.mark.parametrize("stem", ["conv7", "conv3x2", "s2d"])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_graph_computes_what_the_network_does(block: str, stem: str, order: int) -> None:
    model, image = network(config(block=block, stem=stem, order=order)), torch.randn(2, 3, 64, 64)
    for all_heads in (True, False):
        graph = build_graph(model.config, LANDMARKS, all_heads=all_heads)
        with torch.no_grad():
            expected = [maps.clamp(min=0) for maps in model(image)]
            found = run_float(graph, fold(graph, model.state_dict()), image)
        assert len(found) == (6 if all_heads else 1)
        for one, other in zip(expected[-len(found) :], found, strict=True):
            assert one.max() > 0
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5 * float(one.max()))


def test_the_second_pass_starts_with_an_empty_history_and_the_merged_features() -> None:
    graph = build_graph(config(), LANDMARKS)
    assert graph.node("merge.cat").inputs[0].startswith("stem")
    assert graph.node("merge.cat").inputs[1] == "up.0.ahead.2"
    assert graph.node("again.down.0.units.0.squeeze.norm").inputs == ("merge",)
    inputs = graph.node("again.down.0.units.2.squeeze.cat").inputs
    assert inputs[1:] == ("again.down.0.units.0.grow", "again.down.0.units.1.grow")


@pytest.mark.parametrize("block", ["pre", "post"])
def test_each_pass_has_statistics_and_factors_of_its_own_and_shares_every_weight(block: str) -> None:
    model = network(config(block=block))
    state = model.state_dict()
    pairs = [(name, name.replace("_again.", ".")) for name in state if ".norm_again." in name]
    norms = 3 * (5 * 3 + 2) + 2  # of the units and adapters of 3 U-Nets of depth 2, and of what is between them
    assert len(pairs) == norms * 5
    assert all(not torch.equal(state[again], state[name]) for again, name in pairs if "num_batches" not in again)
    graph = build_graph(model.config, LANDMARKS, all_heads=True)
    shared = [node for node in graph.nodes if node.shares]
    assert {node.output.removeprefix("again.") for node in shared} == {node.shares for node in shared}
    for node in shared:
        owner = graph.node(node.shares)
        assert node.conv == owner.conv
        assert node.norm == (f"{owner.norm}_again" if owner.norm else "")


def test_efficient_training_updates_the_statistics_of_both_passes_once() -> None:
    results = []
    for efficient in (False, True):
        model = network(config()).train()
        set_efficient(model, efficient)
        outputs = model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
        torch.stack([maps.square().mean() for maps in outputs]).sum().backward()
        norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
        results.append([*outputs, *(norm.running_var for norm in norms), *(p.grad for p in model.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(other, one)


def test_factors_are_kept_positive_since_two_passes_could_not_share_integers_otherwise() -> None:
    model = network(config(block="post"))
    graph = build_graph(model.config, LANDMARKS, all_heads=True)
    with torch.no_grad():
        model.down[0].units[0].squeeze.norm_again.weight[0] = -1.0  # type: ignore[index, union-attr]
    folded = fold(graph, model.state_dict())
    groups = QuantizedNetwork(graph, quant := QuantConfig(), {}).zero_points
    with pytest.raises(InputError, match="opposite signs"):
        QuantizedNetwork.from_float(graph, folded, dict.fromkeys(groups, (-1.0, 1.0)), quant)
    model.keep_positive()
    factors = torch.cat([module.weight.detach() for module in model.modules() if isinstance(module, BatchNorm)])
    assert float(factors.min()) == pytest.approx(MIN_FACTOR)
    QuantizedNetwork.from_float(graph, fold(graph, model.state_dict()), dict.fromkeys(groups, (-1.0, 1.0)), quant)


@pytest.mark.parametrize("passes", [0, 3])
def test_other_numbers_of_passes_are_refused(passes: int) -> None:
    with pytest.raises(ConfigError, match=f"passes must be one of 1, 2, got {passes}"):
        config(passes=passes)
