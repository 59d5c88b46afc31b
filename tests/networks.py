"""Small networks with plausible statistics, float and quantized, for tests of what is exported from them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import onnx
import torch
from drawn import tiny_config

from cunet_deploy.checkpoint import Checkpoint, make_manifest, normalize
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.tensorrt import Lowering, write_tensorrt_model
from cunet_deploy.model.cunet import CUNet, initialize
from cunet_deploy.quantize.floats import calibrate

BLOCKS = [("pre", "conv7"), ("pre", "conv3x2"), ("post", "conv7"), ("post", "conv3x2")]


@functools.cache
def float_checkpoint(block: str = "post", stem: str = "conv3x2", channels: int = 8, size: int = 64) -> Checkpoint:
    """A network whose heads are large enough to give peaks."""
    model_table: dict[str, object] = {"block": block, "stem": stem, "channels": channels, "growth": channels // 2}
    config = tiny_config(model=model_table, crop={"size": size})
    torch.manual_seed(0)
    model = CUNet(config.model, 68)
    initialize(model, torch.Generator().manual_seed(1))
    for head in model.heads:
        torch.nn.init.normal_(head.conv.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    model.train()
    for seed in range(5):
        model(torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1)
    return Checkpoint.of_float(config, model)


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
