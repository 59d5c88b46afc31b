"""Ambient occlusion of the mesh in rest pose, from depth maps of many directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.gl import Graphics

__all__ = ["ambient_occlusion"]

Floats = NDArray[np.float32]

_DIRECTIONS = 128
_REACH = np.diag([1 / 2.6, 1 / 2.6, -1 / 4, 1])
_CENTRE = np.array([0.0, 6.9, 0.3])


def ambient_occlusion(graphics: Graphics, vertices: Floats, normals: Floats, triangles: NDArray[np.int32]) -> Floats:
    """(V,) share of the sky, weighted by cosine, that each vertex sees.

    Args:
        graphics: draws the depth maps.
        vertices: (V, 3).
        normals: (V, 3).
        triangles: (T, 3) that throw shadows.
    """
    surface = graphics.surface(triangles, vertices, {})
    graphics.move(surface, vertices, normals)
    number = np.arange(_DIRECTIONS) + 0.5
    polar, around = np.arccos(1 - 2 * number / _DIRECTIONS), np.pi * (1 + 5**0.5) * number
    directions = np.stack([np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], axis=1)
    seen, total = np.zeros(len(vertices)), np.full(len(vertices), 1e-6)
    lifted = np.concatenate([vertices + 0.015 * normals, np.ones((len(vertices), 1))], axis=1)
    for direction in directions:
        matrix = _REACH @ _look_along(direction)
        depth = graphics.depths([surface], matrix)
        clip = lifted @ matrix.T
        size = depth.shape[0]
        column = np.clip(((clip[:, 0] + 1) * size / 2).astype(int), 0, size - 1)
        row = np.clip(((1 - clip[:, 1]) * size / 2).astype(int), 0, size - 1)
        free = clip[:, 2] * 0.5 + 0.5 <= depth[row, column] + 0.004
        weight = np.maximum(normals @ direction, 0)
        seen += weight * free
        total += weight
    graphics.release(surface)
    return np.asarray(seen / total, np.float32)


def _look_along(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) rotation that turns a direction to the z axis, about the head."""
    up = np.array([0, 1.0, 0]) if abs(direction[1]) < 0.9 else np.array([1.0, 0, 0])
    x = np.cross(up, direction)
    x /= np.linalg.norm(x)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([x, np.cross(direction, x), direction])
    matrix[:3, 3] = -matrix[:3, :3] @ _CENTRE
    return matrix
