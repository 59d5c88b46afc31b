"""Pictures of a run: curves, and crops of the validation split with their landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import atomic_path, write_bytes_atomic
from cunet_deploy._optional import require
from cunet_deploy.drawing import FOUND, TRUE, contact_sheet

__all__ = ["main_metric", "metric_name", "save_crops", "save_curves", "save_sheet"]


def main_metric(rows: Sequence[Mapping[str, Any]]) -> str:
    """The key of the first metric that was measured on the validation split; empty where none was."""
    return next((key for row in rows for key in row if key.endswith("_percent")), "")


def metric_name(key: str) -> str:
    """Readable name of the metric of a key such as ``nme_percent``."""
    return key.removesuffix("_percent").replace("_", " ").upper()


def save_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and what was measured on the validation split by epoch, the quantized phase shaded."""
    figures = require("matplotlib.figure", extra="train")
    figure = figures.Figure(figsize=(8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(rows) + 1)
    left.semilogy(epochs, [row["loss"] for row in rows])
    left.set(xlabel="epoch", ylabel="training loss")
    key = main_metric(rows)
    measured = [(epoch, row[key]) for epoch, row in zip(epochs, rows, strict=True) if key in row]
    if measured:
        draw = right.semilogy if key.startswith("nme") else right.plot  # an error, which falls, or a share, which grows
        draw(*zip(*measured, strict=True))
        right.set_title(f"last {measured[-1][1]:.2f} %", fontsize=9)
    right.set(xlabel="epoch", ylabel=f"validation {metric_name(key)} (%)")
    quantized = [epoch for epoch, row in zip(epochs, rows, strict=True) if row["phase"] == "quantized"]
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if quantized:
            axes.axvspan(quantized[0] - 0.5, quantized[-1] + 0.5, alpha=0.15, label="quantized")
            axes.legend(fontsize=8)
    with atomic_path(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def save_crops(
    images: Sequence[NDArray[np.uint8]],
    found: Sequence[NDArray[np.floating]],
    true: Sequence[NDArray[np.floating]],
    path: Path,
    columns: int = 6,
) -> None:
    """Crops in a grid; true landmarks under the ones that were found.

    Args:
        images: (S, S, 3) BGR crops.
        found: for each (K, 2) input coordinates.
        true: for each (K, 2) input coordinates.
        path: of the PNG.
        columns: of the grid.
    """
    zoom = max(1, round(256 / images[0].shape[0]))
    tiles = []
    for image, points, truth in zip(images, found, true, strict=True):
        tile = np.asarray(cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR), np.uint8)
        for group, colour in ((truth, TRUE), (points, FOUND)):
            for x, y in (np.asarray(group)[np.isfinite(group).all(axis=1)] + 0.5) * zoom - 0.5:
                cv2.circle(tile, (round(x), round(y)), 2, colour, -1, cv2.LINE_AA)
        tiles.append(tile)
    save_sheet(tiles, path, columns)


def save_sheet(tiles: Sequence[NDArray[np.uint8]], path: Path, columns: int) -> None:
    """Write pictures of one size in a grid, as a PNG."""
    sheet = contact_sheet(tiles, columns)
    write_bytes_atomic(path, cv2.imencode(".png", sheet)[1].tobytes(), overwrite=True)
