"""Golden inputs of a bundle: what any device must reproduce."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._arrays import read_arrays
from cunet_deploy.errors import ArtifactError, InputError

__all__ = ["Golden", "read_golden"]


@dataclass(frozen=True, eq=False)
class Golden:
    """Crops, and what the trained network gave for them at export.

    Attributes:
        images: (N, S, S, 3) uint8 BGR, N at least 1.
        points: (N, K, 2) landmarks in input coordinates.
        heatmaps: (N, K, H, W).
    """

    images: NDArray[np.uint8]
    points: NDArray[np.floating]
    heatmaps: NDArray[np.floating]


def read_golden(path: Path) -> Golden:
    """Read the ``golden.npz`` of a bundle.

    Raises:
        InputError: it is missing.
        ArtifactError: it is damaged or holds something else.
    """
    try:
        arrays = read_arrays(path)
        golden = Golden(arrays["images"], arrays["points"], arrays["heatmaps"])
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; export the bundle again: cunet-deploy export CKPT -o DIR") from error
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: is damaged ({error}); export the bundle again") from error
    shapes = [golden.images.shape, golden.points.shape, golden.heatmaps.shape]
    numbers = np.issubdtype(golden.points.dtype, np.floating) and np.issubdtype(golden.heatmaps.dtype, np.floating)
    whole = [len(shape) for shape in shapes] == [4, 3, 4] and len({shape[0] for shape in shapes}) == 1
    finite = numbers and np.isfinite(golden.points).all() and np.isfinite(golden.heatmaps).all()
    if golden.images.dtype != np.uint8 or not finite or not whole or not golden.images.size:
        raise ArtifactError(f"{path}: holds other arrays than golden inputs; export the bundle again")
    return golden
