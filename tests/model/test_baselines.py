"""The networks that CU-Net is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from networks import NETWORKS, float_network, small_network
from torch import Tensor

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.config import ModelConfig
from cunet_deploy.errors import ConfigError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.model.baselines.dense_unet import DenseUNet
from cunet_deploy.model.cunet import BatchNorm, CatConv, set_efficient
from cunet_deploy.model.graph import fold
from cunet_deploy.model.networks import build_graph, build_network
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.train.memory import saved_activation_bytes

LANDMARKS = 5


def config(kind: str, **changes: Any) -> ModelConfig:
    table = {"kind": kind, "num_unets": 3, "order": 0, "channels": 16, "growth": 4, "depth": 2, **changes}
    return ModelConfig(**table)


def parameters(kind: Any, **changes: Any) -> int:
    with torch.device("meta"):
        model = build_network(ModelConfig(kind=kind, order=0, **changes), 16)
    return sum(value.numel() for value in model.parameters())


def test_eight_stacks_of_256_features_have_the_published_size() -> None:
    assert parameters("hourglass", num_unets=8, channels=256) == pytest.approx(25.6e6, rel=0.01)


def test_cunet_has_at_least_65_percent_fewer_parameters_than_as_many_hourglasses() -> None:
    for stages in (2, 4, 8, 16):
        with torch.device("meta"):
            mine = sum(value.numel() for value in build_network(ModelConfig(num_unets=stages), 16).parameters())
        assert mine < 0.35 * parameters("hourglass", num_unets=stages, channels=256)


def test_a_dense_unet_of_eight_units_counts_as_its_definition_says() -> None:
    """Unit j of a block takes its input and j times 32 channels; adapters take all of them."""

    def block(channels: int, adapters: int) -> int:
        inputs = [channels + 32 * j for j in range(8)]
        units = sum(2 * x + x * 128 + 2 * 128 + 128 * 32 * 9 for x in inputs)
        end = channels + 256
        return units + adapters * (2 * end + end * 128)

    stem, head = 3 * 128 * 49 + 2 * 128, 2 * 128 + 128 * 16
    assert parameters("dense_unet", num_unets=8) == stem + 4 * block(128, 2) + block(128, 1) + 4 * block(256, 1) + head


CASES = [("hourglass", "pre", "conv7"), ("dense_unet", "pre", "conv7"), ("dense_unet", "post", "conv3x2")]


@pytest.mark.parametrize(("kind", "block", "stem"), CASES)
@pytest.mark.parametrize("all_heads", [True, False])
def test_the_graph_computes_what_the_network_does(kind: str, block: str, stem: str, all_heads: bool) -> None:
    model_config = config(kind, block=block, stem=stem)
    model, image = small_network(model_config, 5, varied=True), torch.randn(2, 3, 64, 64)
    graph = build_graph(model_config, LANDMARKS, all_heads=all_heads)
    with torch.no_grad():
        expected = model(image)
        found = run_float(graph, fold(graph, model.state_dict()), image)
    assert len(expected) == (3 if kind == "hourglass" else 1)
    assert len(found) == (len(expected) if all_heads else 1)
    for one, other in zip(expected[-len(found) :], found, strict=True):
        assert one.shape == (2, LANDMARKS, 16, 16)
        assert one.max() > 0
        # What is fed back keeps its sign; only the last heatmaps are clamped.
        clamped = one.clamp(min=0) if other is found[-1] else one
        torch.testing.assert_close(other, clamped, rtol=1e-4, atol=1e-5 * float(one.max()))


def test_the_hourglass_is_supervised_where_the_configuration_says() -> None:
    model_config = config("hourglass", num_unets=4, num_losses=2)
    assert len(small_network(model_config, 5, varied=True)(torch.randn(1, 3, 64, 64))) == 2
    assert build_graph(model_config, LANDMARKS, all_heads=True).outputs == ("heads.1", "heads.3")


def test_heatmaps_of_the_hourglass_go_into_the_next_stack() -> None:
    graph = build_graph(config("hourglass"), LANDMARKS)
    assert graph.node("stacks.0.feedback").inputs == ("heads.0",)
    assert graph.node("stacks.0.out").op == "add"
    assert not any(node.output.startswith("stacks.2.feedback") for node in graph.nodes)


@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in ("pre", "post")])
def test_the_float_export_equals_torch(network: str) -> None:
    checkpoint = float_network(network)
    crops = drawn_crops(make_manifest(checkpoint), 3)
    session = ort.InferenceSession(write_model(checkpoint), providers=["CPUExecutionProvider"])
    expected = TorchSession(checkpoint).run(crops)
    assert expected.max() > 0
    np.testing.assert_allclose(session.run(None, {"image": crops})[0], expected, atol=1e-4 * expected.max())


def test_efficient_training_of_a_dense_unet_gives_the_same_and_keeps_less() -> None:
    results, kept = [], []
    for efficient in (False, True):
        model = small_network(config("dense_unet"), 5, varied=True).train()
        assert isinstance(model, DenseUNet)
        set_efficient(model, efficient)
        assert any(module.efficient for module in model.modules() if isinstance(module, CatConv)) == efficient
        kept.append(saved_activation_bytes(model, torch.zeros(1, 3, 64, 64)))
        outputs = model(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
        outputs[0].square().mean().backward()
        norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
        gradients: list[Tensor | None] = [value.grad for value in model.parameters()]
        results.append([*outputs, *(norm.running_mean for norm in norms), *gradients])
    assert kept[1] < 0.7 * kept[0]
    for one, other in zip(*results, strict=True):
        assert one is not None
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "hourglass", "order": 1}, "comes with order = 0 only, got 1"),
        ({"kind": "dense_unet", "order": 1}, "comes with order = 0 only, got 1"),
        ({"kind": "hourglass", "passes": 2}, "comes with passes = 1 only, got 2"),
        ({"kind": "hourglass", "block": "post"}, 'comes with block = "pre" only'),
        ({"kind": "hourglass", "stem": "conv3x2"}, 'comes with stem = "conv7" only'),
        ({"kind": "hourglass", "channels": 18}, "must be a multiple of 4, got 18"),
    ],
    ids=str,
)
def test_what_a_baseline_does_not_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**changes)
