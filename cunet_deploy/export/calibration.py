"""Activation ranges of a float checkpoint from photos; an interrupted calibration goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.checkpoint.storage import Checkpoint, normalize
from cunet_deploy.errors import InputError
from cunet_deploy.export.crops import Photos
from cunet_deploy.export.progress import ResumeFile
from cunet_deploy.quantize.floats import Ranges, observe
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.quantize.observers import Histogram, RangeRule

__all__ = ["ACTIVATION_BITS", "CALIBRATION_CROPS", "calibrate_checkpoint"]

ACTIVATION_BITS = 8
"""Of every tensor that is quantized after training."""

CALIBRATION_CROPS, BATCH = 256, 16


def calibrate_checkpoint(
    checkpoint: Checkpoint,
    photos: Photos,
    rule: RangeRule | None = None,
    *,
    partial: ResumeFile | None = None,
    advance: Callable[[int], None] | None = None,
) -> Ranges:
    """Activation ranges of a float checkpoint over photos.

    Args:
        checkpoint: the float one.
        photos: what the device will see.
        rule: how ranges are chosen; ``None`` covers every value.
        partial: where progress is kept and looked for; the result is the same as without an interruption. It is the
            caller's to remove once the ranges are safe.
        advance: called with the number of crops seen since the last call.

    Raises:
        InputError: the checkpoint is quantized, a photo cannot be read, or the progress belongs to something else.
        CunetError: the network gives numbers that are not finite.
    """
    graph, folded = checkpoint.graph, checkpoint.folded()
    seen, histograms = (0, {}) if partial is None else _unpacked(partial)
    if advance is not None:
        advance(seen)
    while seen < len(photos):
        crops = photos.read(seen, seen + BATCH)
        observe(graph, folded, normalize(crops), histograms)
        seen += len(crops)
        if partial is not None:
            partial.save(_packed(seen, histograms))
        if advance is not None:
            advance(len(crops))
    groups = activation_groups(graph).of
    heatmaps, quant_max = {groups[name] for name in graph.outputs}, 2**ACTIVATION_BITS - 1
    ranges: Ranges = {}
    for group in dict.fromkeys(groups.values()):
        chosen = RangeRule() if rule is None or group in heatmaps else rule
        ranges[group] = chosen.choose(histograms[group], quant_max)
    return ranges


def _packed(seen: int, histograms: Mapping[str, Histogram]) -> dict[str, NDArray[np.generic]]:
    """Progress as arrays: a histogram's ends as float64, the rest of it as int64."""
    arrays: dict[str, NDArray[np.generic]] = {"seen": np.array(seen, np.int64)}
    for group, item in histograms.items():
        arrays[f"{group}/ends"] = np.array([item.low, item.high], np.float64)
        arrays[f"{group}/place"] = np.array([item.zeros, item.exponent, item.first], np.int64)
        arrays[f"{group}/counts"] = item.counts
    return arrays


def _unpacked(partial: ResumeFile) -> tuple[int, dict[str, Histogram]]:
    """The inverse of `_packed`: crops seen and histograms."""
    arrays = partial.load()
    if not arrays:
        return 0, {}
    try:
        histograms = {}
        for group in (name.removesuffix("/ends") for name in arrays if name.endswith("/ends")):
            low, high = (float(end) for end in arrays[f"{group}/ends"].tolist())
            zeros, exponent, first = (int(number) for number in arrays[f"{group}/place"].tolist())
            counts = arrays[f"{group}/counts"].astype(np.int64)
            histograms[group] = Histogram(low, high, zeros, exponent, first, counts)
        return int(arrays["seen"].item()), histograms
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{partial.path}: is no progress of a calibration; delete it to begin anew") from error
