"""Loss functions of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.config import Config
from cunet_deploy.heatmaps import encode, input_to_map

__all__ = [
    "Mean",
    "Targets",
    "alone",
    "heatmap_loss",
    "landmark_loss",
    "make_targets",
    "match_heights",
    "soft_points",
    "total_loss",
    "trust",
]

Mean = Callable[[Tensor], Tensor]
"""The mean of a count over the processes that train together."""

WINDOW = 3.0
"""Standard deviation, in map cells, of the window in which `landmark_loss` looks for the landmark."""


class Targets(NamedTuple):
    """Targets of a batch.

    Attributes:
        maps: (B, K, H, W) Gaussians.
        known: (B, K) 1.0 where a landmark is labelled or known to be absent: the others do not count. Between 0 and 1
            where a label counts less.
        points: (B, K, 2) map coordinates, 0 where there is no point to find.
        present: (B, K) 1.0 where a labelled landmark lies inside the map, or how much its label counts.
        open_height: (B, K) 1.0 where nobody knows whether the landmark is visible, so how high its peak should be.
    """

    maps: Tensor
    known: Tensor
    points: Tensor
    present: Tensor
    open_height: Tensor


def make_targets(
    points: NDArray[np.float64],
    config: Config,
    weights: NDArray[np.float64] | None = None,
    visible: NDArray[np.float64] | None = None,
) -> Targets:
    """Targets of (B, K, 2) input coordinates.

    Args:
        points: NaN is not labelled, infinite is known to be absent.
        config: of the maps.
        weights: (B, K) how much each label counts, absent ones too; ``None``: all count alike.
        visible: (B, K) 1 where a landmark is seen, 0 where it is hidden: its peak is as high as ``[heatmap]
            hidden_peak``; NaN where that is not known. ``None``: all are seen.
    """
    size = config.crop.size // config.model.stride
    cells = input_to_map(points, config.model.stride)
    present = np.all(np.isfinite(cells) & (cells > 0) & (cells < size - 1), axis=-1)
    known = ~np.isnan(points).any(axis=-1) | (config.train.unlabelled == "empty")
    count = np.ones(known.shape) if weights is None else weights
    seen = np.ones(known.shape) if visible is None else visible
    maps = encode(cells, size, config.heatmap.sigma)
    maps *= np.where(seen == 0, config.heatmap.hidden_peak, 1).astype(np.float32)[..., None, None]
    return Targets(
        maps=torch.from_numpy(maps),
        known=torch.from_numpy(known * count).float(),
        points=torch.from_numpy(np.where(np.expand_dims(present, -1), cells, 0)).float(),
        present=torch.from_numpy(present * count).float(),
        open_height=torch.from_numpy(np.isnan(seen)).float(),
    )


def match_heights(heatmaps: Tensor, targets: Targets, hidden_peak: float) -> Targets:
    """Targets in which a peak of unknown height is as high as the network's own, between hidden and visible.

    So photos whose labels do not say what is hidden teach places only, and those that say so teach the heights.

    Args:
        heatmaps: (B, K, H, W) of the network as it is.
        targets: of the batch.
        hidden_peak: height of a hidden landmark's peak.
    """
    maps = targets.maps
    own = (heatmaps.detach().float() * maps).sum(dim=(-2, -1)) / maps.square().sum(dim=(-2, -1)).clamp(min=1e-6)
    height = torch.where(targets.open_height > 0, own.clamp(hidden_peak, 1), 1)
    return targets._replace(maps=maps * height[:, :, None, None])


def alone(count: Tensor) -> Tensor:
    """The mean of a count over the processes that train together, of one that trains alone."""
    return count


def heatmap_loss(heatmaps: Tensor, targets: Targets, foreground_weight: float, mean: Mean = alone) -> Tensor:
    """Mean of (1 + w target) (prediction - target)^2 over the cells of the known landmarks.

    Heatmaps are nearly empty; without the weight the all-zero map is a plateau on which training stays for epochs.

    Args:
        heatmaps: (B, K, H, W).
        targets: of the batch.
        foreground_weight: w.
        mean: of a count over the processes that train together.
    """
    weight = (1 + foreground_weight * targets.maps) * targets.known[:, :, None, None]
    count = mean(targets.known.sum()).clamp(min=1) * heatmaps.shape[-1] * heatmaps.shape[-2]
    return (weight * (heatmaps.float() - targets.maps).square()).sum() / count


def soft_points(heatmaps: Tensor, around: Tensor) -> Tensor:
    """Centroids of the positive part of maps under a Gaussian window: differentiable landmarks.

    Args:
        heatmaps: (B, K, H, W).
        around: (B, K, 2) centres of the windows in map cells.

    Returns:
        (B, K, 2) map coordinates.
    """
    cells = torch.arange(heatmaps.shape[-1], dtype=torch.float32, device=heatmaps.device)
    window = torch.exp(-((cells - around[..., None]) ** 2) / (2 * WINDOW**2))  # (B, K, 2, size)
    mass = heatmaps.float().clamp(min=0) * window[:, :, 1, :, None] * window[:, :, 0, None, :] + 1e-6
    total = mass.sum(dim=(-2, -1))
    x = (mass.sum(dim=-2) * cells).sum(-1) / total
    y = (mass.sum(dim=-1) * cells).sum(-1) / total
    return torch.stack([x, y], dim=-1)


def landmark_loss(heatmaps: Tensor, targets: Targets, mean: Mean = alone) -> Tensor:
    """Smooth L1 distance, in map cells, between the centroids of prediction and target.

    The squared error of a map hardly notices a peak that is a tenth of a cell off; this does. Both centroids are taken
    in the same window around the true landmark, so a perfect map has no loss.
    """
    error = F.smooth_l1_loss(
        soft_points(heatmaps, targets.points), soft_points(targets.maps, targets.points), reduction="none", beta=0.1
    )
    return (error.sum(-1) * targets.present).sum() / mean(targets.present.sum()).clamp(min=1)


def trust(heatmaps: Tensor, targets: Targets, robust: float) -> Tensor:
    """Weight of each label: the lower, the more confident the network is of another place.

    Labels of crowd workers put a joint on the wrong side, or on somebody else. A network that has learnt from many
    people tells such a label by a high peak of its own that is far from it, while a landmark that is merely hard gives
    a low peak.

    Args:
        heatmaps: (B, K, H, W) of the network as it is.
        targets: of the batch.
        robust: by how much a label counts less at a peak of 1.

    Returns:
        (B, K) in [0, 1]; 1 where the peak is near the label, or where there is nothing to find.
    """
    maps = heatmaps.detach().float()
    peaks, places = maps.flatten(2).max(dim=2)
    found = torch.stack([places % maps.shape[-1], places // maps.shape[-1]], dim=-1)
    elsewhere = (found - targets.points).norm(dim=-1) > WINDOW
    doubt: Tensor = robust * peaks.clamp(0, 1) * elsewhere * targets.present
    return 1 - doubt


def total_loss(heatmaps: Sequence[Tensor], targets: Targets, config: Config, mean: Mean = alone) -> Tensor:
    """Mean over the supervised U-Nets of the heatmap loss and the weighted landmark loss."""
    if config.train.robust > 0:
        targets = targets._replace(known=targets.known * trust(heatmaps[-1], targets, config.train.robust))
    losses = []
    for maps in heatmaps:
        own = targets
        if config.heatmap.hidden_peak < 1:
            own = match_heights(maps, targets, config.heatmap.hidden_peak)
        loss = heatmap_loss(maps, own, config.heatmap.foreground_weight, mean)
        if config.train.coordinate_weight > 0:
            loss = loss + config.train.coordinate_weight * landmark_loss(maps, own, mean)
        losses.append(loss)
    return torch.stack(losses).mean()
