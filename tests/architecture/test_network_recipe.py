"""The recipes "a network" and "an operation" of docs/architecture.md, followed with dummies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from drawn import tiny_config
from torch import Tensor, nn

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession, normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import ModelConfig, QuantConfig, parse_config
from cunet_deploy.config.networks import NETWORK_RULES, NetworkRules
from cunet_deploy.errors import ConfigError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.export.targets.tensorrt import LoweredSession, Lowering, write_tensorrt_model
from cunet_deploy.model.cunet import Head, Stem, initialize
from cunet_deploy.model.graph import Builder, Graph, Node
from cunet_deploy.model.networks import NETWORKS, Network, build_network
from cunet_deploy.model.operations import OPERATIONS, Operation
from cunet_deploy.quantize.floats import calibrate


class StemOnly(nn.Module):
    """A stem, of whose cells every second one is kept and doubled, and a head."""

    def __init__(self, config: ModelConfig, num_landmarks: int) -> None:
        super().__init__()
        self.stem, self.heads = Stem(config), nn.ModuleList([Head(config, num_landmarks)])

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.interpolate(F.max_pool2d(self.stem(image), 1, 2), scale_factor=2)
        return [self.heads[0](x)]


def build_stem_only_graph(config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph:
    build = Builder(config, num_landmarks)
    x = build.stem()
    x = build.add(Node("every_second", (x,), "half", build.channels[x], build.strides[x] * 2))
    heatmaps = build.head(build.upsample(x, "upsample"), 0)
    return Graph(tuple(build.nodes), (heatmaps,))


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation and a network, registered as the recipes say, and gone after the test."""
    every_second = Operation(
        "copy", "MaxPool", lambda inputs: F.max_pool2d(inputs[0], 1, 2), {"kernel_shape": [1, 1], "strides": [2, 2]}
    )
    monkeypatch.setitem(OPERATIONS, "every_second", every_second)
    monkeypatch.setitem(NETWORKS, "stem_only", Network(StemOnly, build_stem_only_graph))
    monkeypatch.setitem(NETWORK_RULES, "stem_only", NetworkRules({"order": 0}, has_one_head=True))


def stem_only(**changes: Any) -> Checkpoint:
    config = tiny_config(model={"kind": "stem_only", "order": 0, **changes}, crop={"size": 32})
    torch.manual_seed(0)
    model = build_network(config.model, 68)
    initialize(model, torch.Generator().manual_seed(1))
    for head in (module for module in model.modules() if isinstance(module, Head)):
        nn.init.normal_(head.conv.weight, std=0.3)
    model.train()(torch.rand(4, 3, 32, 32) * 2 - 1)
    return Checkpoint.of_float(config, model)


@pytest.mark.usefixtures("dummy")
@pytest.mark.parametrize("block", ["pre", "post"])
def test_a_new_network_of_a_new_operation_is_trained_quantized_and_exported(block: str) -> None:
    checkpoint = stem_only(block=block)
    assert parse_config(checkpoint.config.to_dict()) == checkpoint.config
    crops = drawn_crops(make_manifest(checkpoint), 3)
    trained = build_network(checkpoint.config.model, 68).eval()
    trained.load_state_dict(checkpoint.state)
    with torch.inference_mode():
        expected = trained(normalize(crops))[-1].clamp(min=0).numpy()
    assert expected.max() > 0.1
    np.testing.assert_allclose(TorchSession(checkpoint).run(crops), expected, atol=1e-5)
    np.testing.assert_allclose(_run(write_model(checkpoint), crops), expected, atol=1e-5)

    ranges = calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)])
    quantized = checkpoint.with_ranges(ranges, QuantConfig())
    exact = TorchSession(quantized).run(crops)
    assert np.abs(exact - expected).max() < 0.1 * expected.max()
    np.testing.assert_array_equal(_run(write_model(quantized), crops), exact)
    lowered = LoweredSession(write_tensorrt_model(quantized, Lowering()))
    assert np.abs(lowered.run(crops) - exact).max() < 0.1 * expected.max()
    lowered.close()


@pytest.mark.usefixtures("dummy")
def test_the_rules_of_a_new_network_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"kind 'stem_only' comes with order = 0 only, got 1"):
        tiny_config(model={"kind": "stem_only", "order": 1})


def test_nothing_of_the_dummies_is_left() -> None:
    with pytest.raises(ConfigError, match=r"kind must be one of 'cunet', 'hourglass', 'dense_unet', got 'stem_only'"):
        replace(ModelConfig(), kind="stem_only")
    assert NETWORKS.keys() == NETWORK_RULES.keys()
    assert "every_second" not in OPERATIONS


def _run(model: bytes, crops: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["heatmaps"], {"image": crops})[0]
