"""Points of a surface by ray casting: found once on the mesh in rest pose, they then move with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Anchors", "cast_rays"]

_EDGE = 1e-6  # a ray through an edge hits at least one of its triangles


@dataclass(frozen=True, eq=False)
class Anchors:
    """Points of a surface.

    Attributes:
        vertices: (..., 3) corners of the triangle that holds each point.
        weights: (..., 3) barycentric weights.
    """

    vertices: NDArray[np.int32]
    weights: NDArray[np.float32]

    def at(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., 3) where the points are on the moved mesh of (V, 3) vertices."""
        return np.asarray((self.weights[..., None] * vertices[self.vertices]).sum(axis=-2), np.float32)

    def __getitem__(self, item: Any) -> Anchors:
        return Anchors(self.vertices[item], self.weights[item])

    def reshape(self, *shape: int) -> Anchors:
        """The same points as an array of another shape."""
        return Anchors(self.vertices.reshape(*shape, 3), self.weights.reshape(*shape, 3))


def cast_rays(
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    origin: NDArray[np.float64],
    directions: NDArray[np.float64],
    *,
    farthest: bool,
) -> tuple[Anchors, NDArray[np.bool_]]:
    """Intersect rays from one point with a surface.

    Args:
        vertices: (V, 3).
        triangles: (T, 3).
        origin: (3,) of all rays.
        directions: (N, 3), of any length.
        farthest: take the last triangle that a ray meets instead of the first.

    Returns:
        N anchors, and (N,) whether a ray met anything; the anchor of one that did not is meaningless.
    """
    # Möller and Trumbore's intersection; from one origin all its terms are linear in the direction
    corner = vertices[triangles[:, 0]].astype(np.float64)
    edge1, edge2 = (vertices[triangles[:, k]] - corner for k in (1, 2))
    to_origin = origin - corner
    other = np.cross(to_origin, edge1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / (directions @ np.cross(edge2, edge1).T)  # (N, T)
        u = (directions @ np.cross(edge2, to_origin).T) * inverse
        v = (directions @ other.T) * inverse
        distance = (other * edge2).sum(axis=1) * inverse
        inside = (u >= -_EDGE) & (v >= -_EDGE) & (u + v <= 1 + _EDGE) & (distance > 0) & np.isfinite(distance)
    best = np.where(inside, distance, -np.inf).argmax(1) if farthest else np.where(inside, distance, np.inf).argmin(1)
    row = np.arange(len(directions))
    first, second = u[row, best], v[row, best]
    weights = np.nan_to_num(np.stack([1 - first - second, first, second], axis=1), posinf=0.0, neginf=0.0)
    return Anchors(triangles[best], weights.astype(np.float32)), inside.any(axis=1)
