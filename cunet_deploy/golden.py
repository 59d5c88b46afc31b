"""Golden inputs of a bundle: what any device must reproduce."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            golden = Golden(archive["images"], archive["points"], archive["heatmaps"])
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; export the bundle again: cunet-deploy export CKPT -o DIR") from error
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"{path}: is damaged ({error}); export the bundle again") from error
    count = len(golden.images)
    if golden.images.dtype != np.uint8 or not count or len(golden.points) != count or len(golden.heatmaps) != count:
        raise ArtifactError(f"{path}: holds other arrays than golden inputs; export the bundle again")
    return golden
