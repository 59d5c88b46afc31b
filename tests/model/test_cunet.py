"""The architecture: its counts, its modes, and the graph that stands for it at inference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import small_network
from torch import Tensor, nn

from cunet_deploy.config import ModelConfig
from cunet_deploy.errors import ConfigError
from cunet_deploy.model.cunet import BatchNorm, CUNet, set_efficient
from cunet_deploy.model.graph import fold
from cunet_deploy.model.networks import build_graph
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.train.memory import saved_activation_bytes

# P, N, K, all parameters, convolution weights, 3x3 weights, GMACs at 256 px with every head
PUBLISHED = [
    (16, 1, 0, 908_736, 897_408, 331_776, 1.410),
    (16, 2, 0, 1_815_040, 1_792_384, 663_552, 2.578),
    (16, 2, 1, 1_923_200, 1_898_880, 663_552, 2.757),
    (16, 4, 0, 3_627_648, 3_582_336, 1_327_104, 4.915),
    (16, 4, 1, 3_952_128, 3_901_824, 1_327_104, 5.451),
    (16, 4, 2, 4_168_448, 4_114_816, 1_327_104, 5.808),
    (16, 4, 3, 4_276_608, 4_221_312, 1_327_104, 5.987),
    (16, 8, 0, 7_252_864, 7_162_240, 2_654_208, 9.589),
    (16, 8, 1, 8_009_984, 7_907_712, 2_654_208, 10.840),
    (16, 8, 2, 8_658_944, 8_546_688, 2_654_208, 11.912),
    (16, 8, 3, 9_199_744, 9_079_168, 2_654_208, 12.805),
    (16, 8, 7, 10_281_344, 10_144_128, 2_654_208, 14.591),
    (16, 16, 0, 14_503_296, 14_322_048, 5_308_416, 18.937),
    (16, 16, 1, 16_125_696, 15_919_488, 5_308_416, 21.617),
    (16, 16, 2, 17_639_936, 17_410_432, 5_308_416, 24.118),
    (16, 16, 3, 19_046_016, 18_794_880, 5_308_416, 26.441),
    (16, 16, 7, 23_588_736, 23_267_712, 5_308_416, 33.944),
    (16, 16, 15, 27_482_496, 27_101_568, 5_308_416, 40.375),
    (68, 2, 1, 1_936_512, 1_912_192, 663_552, 2.811),
    (68, 4, 1, 3_978_752, 3_928_448, 1_327_104, 5.560),
    (68, 8, 1, 8_063_232, 7_960_960, 2_654_208, 11.058),
    (68, 16, 1, 16_232_192, 16_025_984, 5_308_416, 22.053),
]


def small(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"num_unets": 3, "order": 2, "channels": 16, "growth": 4, "depth": 2, **changes})


@pytest.mark.parametrize(
    ("landmarks", "unets", "order", "total", "convs", "convs3", "gmacs"),
    PUBLISHED,
    ids=[f"P{row[0]}-N{row[1]}-K{row[2]}" for row in PUBLISHED],
)
def test_counts_equal_those_of_the_published_network(
    landmarks: int, unets: int, order: int, total: int, convs: int, convs3: int, gmacs: float
) -> None:
    config = ModelConfig(num_unets=unets, order=order)
    with torch.device("meta"):
        model = CUNet(config, landmarks)
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert sum(value.numel() for value in model.parameters()) == total
    assert sum(weight.numel() for weight in weights) == convs
    assert sum(weight.numel() for weight in weights if weight.shape[-1] == 3) == convs3
    assert build_graph(config, landmarks, all_heads=True).macs(256) / 1e9 == pytest.approx(gmacs, abs=6e-4)


def test_anchors_round_half_up_and_always_hold_the_last_unet() -> None:
    assert ModelConfig(num_unets=5, order=1, num_losses=2).anchors == (2, 4)  # 2.5 and 5, one-based 3 and 5
    assert ModelConfig(num_unets=4).anchors == (0, 1, 2, 3)
    assert ModelConfig(num_unets=8, num_losses=1).anchors == (7,)


@pytest.mark.parametrize("changes", [{"order": 3}, {"num_losses": 4}, {"channels": 15}, {"depth": 0}])
def test_impossible_architectures_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        small(**changes)


@pytest.mark.parametrize("block", ["pre", "post"])
@pytest.mark.parametrize("stem", ["conv7", "conv3x2", "s2d"])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_the_graph_computes_what_the_network_does(block: str, stem: str, order: int) -> None:
    config = small(block=block, stem=stem, order=order)
    model, image = small_network(config, 5, varied=True), torch.randn(2, 3, 64, 64)
    graph = build_graph(config, 5, all_heads=True)
    with torch.no_grad():
        expected = [maps.clamp(min=0) for maps in model(image)]
        found = run_float(graph, fold(graph, model.state_dict()), image)
    assert len(found) == 3
    for one, other in zip(expected, found, strict=True):
        assert one.max() > 0
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5 * float(one.max()))


def test_the_last_unet_sees_the_order_k_before_it_and_no_more() -> None:
    graph = build_graph(ModelConfig(num_unets=4, order=2), 5)
    inputs = graph.node("down.0.units.3.squeeze.cat").inputs
    assert inputs == ("inter.2", "down.0.units.1.grow", "down.0.units.2.grow")


@pytest.mark.parametrize("block", ["pre", "post"])
def test_efficient_training_gives_the_same_outputs_gradients_and_statistics(block: str) -> None:
    def step(efficient: bool) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        model = small_network(small(block=block), 5, varied=True).train()
        set_efficient(model, efficient)
        outputs = model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
        sum(maps.square().mean() for maps in outputs).backward()
        norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
        statistics = [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]
        return outputs, [p.grad for p in model.parameters() if p.grad is not None], statistics

    for plain, efficient in zip(step(False), step(True), strict=True):
        assert len(plain) == len(efficient) > 0
        for one, other in zip(plain, efficient, strict=True):
            torch.testing.assert_close(other, one)


@pytest.mark.parametrize(
    ("unets", "order", "plain", "efficient"), [(1, 0, 80.6, 48.7), (2, 1, 155.2, 78.6), (4, 3, 336.2, 138.5)]
)
def test_efficient_training_saves_the_published_bytes(unets: int, order: int, plain: float, efficient: float) -> None:
    model = CUNet(ModelConfig(num_unets=unets, order=order), 16).train()
    image = torch.zeros(1, 3, 256, 256)
    assert saved_activation_bytes(model, image) / 2**20 == pytest.approx(plain, rel=0.05)
    set_efficient(model, True)
    assert saved_activation_bytes(model, image) / 2**20 == pytest.approx(efficient, rel=0.05)
