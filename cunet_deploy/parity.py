"""Parity of two sessions in pixels: the same crops in, the distance of the landmarks out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.sessions.base import Session

__all__ = ["Parity", "compare_sessions", "locate_in_crops", "measure"]


@dataclass(frozen=True)
class Parity:
    """Distance between the landmarks that two networks find in the same crops.

    Attributes:
        crops: how many were compared.
        mean_px: mean distance over all landmarks, in pixels of the network's input.
        worst_crop_px: largest mean over the landmarks of one crop.
        max_px: largest distance of a landmark.
        heatmap_mean: mean absolute difference of the heatmaps, which are about 1 at a peak.
    """

    crops: int
    mean_px: float
    worst_crop_px: float
    max_px: float
    heatmap_mean: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, rounded to what is meant."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def locate_in_crops(
    session: Session, crops: NDArray[np.uint8], batch: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Landmarks and heatmaps of (N, S, S, 3) crops.

    Returns:
        points: (N, K, 2) input coordinates.
        heatmaps: (N, K, H, W).
    """
    maps = np.concatenate([session.run(crops[start : start + batch]) for start in range(0, len(crops), batch)])
    return session.manifest.read(maps)[0], maps


def compare_sessions(reference: Session, other: Session, crops: NDArray[np.uint8]) -> Parity:
    """Run both on (N, S, S, 3) uint8 crops and measure how far apart their landmarks are.

    Raises:
        InputError: there are no crops.
    """
    if not len(crops):
        raise InputError("parity needs at least one crop to compare")
    expected, expected_maps = locate_in_crops(reference, crops)
    found, maps = locate_in_crops(other, crops)
    return measure(expected, expected_maps, found, maps)


def measure(
    expected: NDArray[np.floating],
    expected_maps: NDArray[np.floating],
    found: NDArray[np.floating],
    maps: NDArray[np.floating],
) -> Parity:
    """Parity of landmarks (N, K, 2) and heatmaps (N, K, H, W) that are known already."""
    distance = np.linalg.norm(np.asarray(found, np.float64) - expected, axis=-1)
    return Parity(
        crops=len(distance),
        mean_px=float(distance.mean()),
        worst_crop_px=float(distance.mean(axis=1).max()),
        max_px=float(distance.max()),
        heatmap_mean=float(np.abs(np.asarray(maps, np.float64) - expected_maps).mean()),
    )
