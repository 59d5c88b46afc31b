"""Small networks with plausible statistics, float and quantized, for tests of what is exported from them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from drawn import tiny_config

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint, save_checkpoint
from cunet_deploy.config import Config, ModelConfig, QuantConfig
from cunet_deploy.export import bundle
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.tensorrt import Lowering, write_tensorrt_model
from cunet_deploy.model.cunet import CUNet, Head, initialize
from cunet_deploy.model.graph import fold
from cunet_deploy.model.networks import build_graph, build_network
from cunet_deploy.quantize.floats import calibrate
from cunet_deploy.quantize.network import QuantizedNetwork

BLOCKS = [("pre", "conv7"), ("pre", "conv3x2"), ("post", "conv7"), ("post", "conv3x2")]


def random_checkpoint(config: Config, seed: int = 0, *, heads: float | None = None) -> Checkpoint:
    """A float checkpoint of an untrained network.

    Args:
        config: of the network.
        seed: of its weights.
        heads: spread of the weights of its heads, which begin near zero and else give no peaks.
    """
    generator = torch.Generator().manual_seed(seed)
    model = build_network(config.model, len(config.landmarks))
    initialize(model, generator)
    for head in (module for module in model.modules() if isinstance(module, Head)):
        if heads is not None:
            torch.nn.init.normal_(head.conv.weight, std=heads, generator=generator)
    return Checkpoint.of_float(config, model)


def small_network(
    config: ModelConfig,
    landmarks: int = 68,
    *,
    heads: float = 0.3,
    batches: int = 3,
    size: int = 64,
    varied: bool = False,
) -> torch.nn.Module:
    """A network of any kind that looks trained: with statistics, and heads large enough to give peaks.

    Args:
        config: of the network.
        landmarks: number of its maps.
        heads: spread of the weights of its heads.
        batches: of noise, which its statistics are of.
        size: of those images.
        varied: its normalizations and biases differ from channel to channel and from pass to pass, too.
    """
    torch.manual_seed(0)
    model = build_network(config, landmarks)
    initialize(model, torch.Generator().manual_seed(1))
    for head in (module for module in model.modules() if isinstance(module, Head)):
        torch.nn.init.normal_(head.conv.weight, std=heads)
    for name, value in model.named_parameters() if varied else ():
        if "norm" in name:
            torch.nn.init.uniform_(value, 0.2, 1.0)
        elif name.endswith("bias"):
            torch.nn.init.normal_(value, std=0.1)
    model.train()
    for seed in range(batches):
        model(torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1)
    return model.eval()


@functools.cache
def float_checkpoint(block: str = "post", stem: str = "conv3x2", channels: int = 8, size: int = 64) -> Checkpoint:
    """A network whose heads are large enough to give peaks."""
    model_table: dict[str, object] = {"block": block, "stem": stem, "channels": channels, "growth": channels // 2}
    config = tiny_config(model=model_table, crop={"size": size})
    return Checkpoint.of_float(config, small_network(config.model, batches=5, size=size))


@functools.cache
def paper_checkpoint(block: str) -> Checkpoint:
    """CU-Net 2/128 with 68 landmarks for 256 x 256, quantized: the paper's size, with random weights."""
    table: dict[str, object] = {"block": block, "stem": "conv7", "num_unets": 2, "channels": 128, "growth": 32}
    config = tiny_config(model={**table, "bottleneck": 4, "depth": 4}, crop={"size": 256})
    model = CUNet(config.model, 68)
    initialize(model, torch.Generator().manual_seed(1))
    checkpoint = Checkpoint.of_float(config, model)
    crops = drawn_crops(make_manifest(checkpoint), 1)
    return checkpoint.with_ranges(calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)]), QuantConfig())


@functools.cache
def quantized_checkpoint(block: str = "post", stem: str = "conv3x2", channels: int = 8) -> Checkpoint:
    """`float_checkpoint`, quantized with ranges of drawn faces."""
    checkpoint = float_checkpoint(block, stem, channels)
    crops = drawn_crops(make_manifest(checkpoint), 8)
    ranges = calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)])
    return checkpoint.with_ranges(ranges, QuantConfig())


def lowered(block: str = "post", lowering: Lowering | None = None) -> bytes:
    """`quantized_checkpoint` with 16 channels as a graph for TensorRT."""
    return write_tensorrt_model(quantized_checkpoint(block, channels=16), lowering or Lowering())


def changed(model: bytes, change: Callable[[Any], None]) -> bytes:
    """An ONNX model whose graph was changed in place."""
    loaded = onnx.load_from_string(model)
    change(loaded.graph)
    return bytes(loaded.SerializeToString(deterministic=True))


NETWORKS: dict[str, dict[str, object]] = {
    "post": {"block": "post"},
    "pre": {"block": "pre", "stem": "conv7"},
    "refined post": {"block": "post", "passes": 2},
    "refined pre": {"block": "pre", "passes": 2},
    "hourglass": {"kind": "hourglass", "order": 0, "block": "pre", "stem": "conv7", "channels": 16},
    "dense post": {"kind": "dense_unet", "order": 0, "block": "post"},
    "dense pre": {"kind": "dense_unet", "order": 0, "block": "pre"},
}
"""Every kind of network, as changes to `drawn.tiny_config`."""


@functools.cache
def float_network(name: str, size: int = 32, num_unets: int = 2) -> Checkpoint:
    """One of `NETWORKS`, with plausible statistics and heads large enough to give peaks."""
    config = tiny_config(model={**NETWORKS[name], "num_unets": num_unets}, crop={"size": size})
    return Checkpoint.of_float(config, small_network(config.model, size=size))


@functools.cache
def _ranges(name: str, size: int, num_unets: int) -> dict[str, tuple[float, float]]:
    checkpoint = float_network(name, size, num_unets)
    crops = drawn_crops(make_manifest(checkpoint), 4)
    return calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)])


def quantized(name: str, quant: QuantConfig, size: int = 32, num_unets: int = 2) -> Checkpoint:
    """`float_network`, quantized with ranges of drawn faces."""
    return float_network(name, size, num_unets).with_ranges(_ranges(name, size, num_unets), quant)


def in_training(checkpoint: Checkpoint, quant: QuantConfig) -> QuantizedNetwork:
    """The network of the quantized phase of training, with every supervised head, that starts from a float one."""
    graph = build_graph(checkpoint.config.model, 68, all_heads=True)
    folded = fold(graph, checkpoint.state)
    crops = drawn_crops(make_manifest(checkpoint), 4)
    return QuantizedNetwork.from_float(graph, folded, calibrate(graph, folded, [normalize(crops)]), quant)


def write_models(folder: Path, faces: Path) -> Path:
    """A folder with float.pt, quantized.pt, other.pt (another network) and the bundles float/ and int8/.

    Args:
        folder: where they are written.
        faces: labelled photos, from which ranges are taken.
    """
    parent, other = (random_checkpoint(tiny_config(), seed, heads=0.5) for seed in range(2))
    small = bundle.quantized_checkpoint(parent, QuantConfig(), faces)
    save_checkpoint(parent, folder / "float.pt")
    save_checkpoint(small, folder / "quantized.pt")
    save_checkpoint(bundle.quantized_checkpoint(other, QuantConfig(), faces), folder / "other.pt")
    bundle.export_checkpoint(parent, folder / "float")
    bundle.export_checkpoint(small, folder / "int8")
    return folder
