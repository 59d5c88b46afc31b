"""Activation ranges of a float checkpoint from photos."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.export.crops import Photos
from cunet_deploy.model.device import CPU, exact_device, float32_multiplications
from cunet_deploy.quantize.floats import Ranges, observe
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.quantize.observers import Histogram, RangeRule

__all__ = ["ACTIVATION_BITS", "CALIBRATION_CROPS", "calibrate_checkpoint"]

ACTIVATION_BITS = 8
"""Bits of every tensor that is quantized after training."""

CALIBRATION_CROPS, BATCH = 256, 16


def calibrate_checkpoint(
    checkpoint: Checkpoint,
    photos: Photos,
    rule: RangeRule | None = None,
    *,
    advance: Callable[[int], None] | None = None,
    device: torch.device = CPU,
) -> Ranges:
    """Activation ranges of a float checkpoint over photos.

    Args:
        checkpoint: the float one.
        photos: what the device will see.
        rule: how ranges are chosen; ``None`` covers every value.
        advance: called with the number of crops seen since the last call.
        device: where the network runs; on a GPU ranges differ in their last bits.

    Raises:
        InputError: the checkpoint is quantized, or a photo cannot be read.
        CunetError: the network gives numbers that are not finite.
    """
    graph, device = checkpoint.graph, exact_device(device)
    folded = {name: value.to(device) for name, value in checkpoint.folded().items()}
    histograms: dict[str, Histogram] = {}
    for start in range(0, len(photos), BATCH):
        crops = photos.read(start, start + BATCH)
        with float32_multiplications("ieee"):
            observe(graph, folded, normalize(crops, device), histograms)
        if advance is not None:
            advance(len(crops))
    groups = activation_groups(graph).of
    heatmaps, quant_max = {groups[name] for name in graph.outputs}, 2**ACTIVATION_BITS - 1
    ranges: Ranges = {}
    for group in dict.fromkeys(groups.values()):
        chosen = RangeRule() if rule is None or group in heatmaps else rule
        ranges[group] = chosen.choose(histograms[group], quant_max)
    return ranges
