"""Forms in which keypoint networks say where landmarks are, read as pixels of their input.

To add a form, write a function and its row in `FORMS`, and name it in `OutputSpec.form`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import ArtifactError
from cunet_deploy.heatmaps import Decoder, decode
from cunet_deploy.labelling.description import Description

__all__ = ["FORMS", "read_outputs"]

FloatArray = NDArray[np.float64]
Outputs = Sequence[NDArray[np.float32]]


def read_outputs(outputs: Outputs, description: Description) -> tuple[FloatArray, FloatArray]:
    """The landmarks of one picture.

    Args:
        outputs: what the network returned for a batch of one.
        description: of the network.

    Returns:
        points: (K, 2) pixels of the input.
        scores: (K,) in [0, 1].

    Raises:
        ArtifactError: the outputs are not what the description says, or not finite.
    """
    points, scores = FORMS[description.output.form](outputs, description)
    if description.output.activation == "sigmoid":
        scores = 1 / (1 + np.exp(-np.clip(scores, -60, 60)))
    if not (np.isfinite(points).all() and np.isfinite(scores).all()):
        raise ArtifactError(f"{description.file}: returned numbers that are not finite; check [input]")
    return np.asarray(points, np.float64), np.asarray(scores.clip(0, 1), np.float64)


def _heatmap(outputs: Outputs, description: Description) -> tuple[FloatArray, FloatArray]:
    maps = outputs[0]
    if description.output.layout == "NHWC" and maps.ndim == 4:
        maps = maps.transpose(0, 3, 1, 2)
    if maps.ndim != 4 or maps.shape[:2] != (1, len(description.skeleton)):
        raise _unexpected(maps, "heatmap (1, K, height, width)", description)
    cells, scores = decode(maps[0], Decoder())
    stride = np.array([description.input.width / maps.shape[3], description.input.height / maps.shape[2]])
    return (cells + 0.5) * stride - 0.5, np.asarray(scores, np.float64)


def _simcc(outputs: Outputs, description: Description) -> tuple[FloatArray, FloatArray]:
    if len(outputs) < 2:
        raise ArtifactError(f"{description.file}: has one output; simcc has one for x and one for y")
    sides, found, heights = (description.input.width, description.input.height), [], []
    for rows, side in zip(outputs, sides, strict=False):
        if rows.ndim != 3 or rows.shape[:2] != (1, len(description.skeleton)) or rows.shape[2] % side:
            raise _unexpected(rows, f"simcc (1, K, a multiple of {side})", description)
        found.append(rows[0].argmax(axis=1) * side / rows.shape[2])
        heights.append(rows[0].max(axis=1))
    return np.stack(found, axis=1), np.minimum(*heights).astype(np.float64)


def _coordinates(outputs: Outputs, description: Description) -> tuple[FloatArray, FloatArray]:
    columns, count = description.output.columns, len(description.skeleton)
    if outputs[0].size != count * len(columns):
        raise _unexpected(outputs[0], f"coordinates K x {len(columns)}", description)
    table = outputs[0].reshape(count, len(columns)).astype(np.float64)
    points = table[:, [columns.index("x"), columns.index("y")]]
    if description.output.unit == "share":
        points = points * [description.input.width, description.input.height] - 0.5
    return points, table[:, columns.index("score")] if "score" in columns else np.ones(count)


def _unexpected(array: NDArray[np.float32], expected: str, description: Description) -> ArtifactError:
    count = len(description.skeleton)
    return ArtifactError(
        f"{description.file}: output {array.shape} found, expected {expected} with K = {count}; correct its description"
    )


FORMS: dict[str, Callable[[Outputs, Description], tuple[FloatArray, FloatArray]]] = {
    "heatmap": _heatmap,
    "simcc": _simcc,
    "coordinates": _coordinates,
}
"""Readers by ``[output] form``."""
