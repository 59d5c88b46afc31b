"""Small meshes by code: grids, tubes, and what is laid around a skull or a neck. Lengths are decimetres."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.mesh import HeadMesh, vertex_normals
from cunet_deploy.synthesis.rays import Anchors, cast_rays

__all__ = [
    "NECK_TOP",
    "Neck",
    "Shape",
    "Skull",
    "fan",
    "grid_triangles",
    "join",
    "smoothstep",
    "spherical",
    "tube",
    "with_ao",
]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

NECK_TOP = 6.1
"""Above this height a neck has no front: there is the chin."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh in the space of the head before it is turned.

    Attributes:
        points: (N, 3).
        triangles: (T, 3).
        uv: (N, 2) texture coordinates.
        extra: (N,) for the shader.
        ao: (N,) share of the surroundings that each vertex sees.
    """

    points: Floats
    triangles: NDArray[np.int32]
    uv: Floats
    extra: Floats
    ao: Floats

    @staticmethod
    def of(points: Doubles, triangles: NDArray[np.int32], uv: Doubles | None = None) -> Shape:
        """A mesh with neither extra nor occlusion."""
        flat = np.asarray(points, np.float32).reshape(-1, 3)
        count = len(flat)
        texture = np.zeros((count, 2), np.float32) if uv is None else np.asarray(uv, np.float32).reshape(-1, 2)
        return Shape(flat, triangles, texture, np.zeros(count, np.float32), np.ones(count, np.float32))

    def normals(self) -> Floats:
        """(N, 3) unit normals."""
        return vertex_normals(self.points, self.triangles)


def join(shapes: list[Shape]) -> Shape:
    """One mesh of several."""
    offsets = np.cumsum([0] + [len(shape.points) for shape in shapes[:-1]])
    triangles = [shape.triangles + offset for shape, offset in zip(shapes, offsets, strict=True)]
    return Shape(
        np.concatenate([shape.points for shape in shapes]),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate([shape.uv for shape in shapes]),
        np.concatenate([shape.extra for shape in shapes]),
        np.concatenate([shape.ao for shape in shapes]),
    )


def smoothstep(low: float, high: float, value: Doubles) -> Doubles:
    """0 below ``low``, 1 above ``high``, smooth between; ``high`` may be the smaller one."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def grid_triangles(columns: int, rows: int, *, closed: bool) -> NDArray[np.int32]:
    """Triangles between the points of a (columns, rows) grid; ``closed`` joins the last column with the first."""
    column = np.arange(columns if closed else columns - 1)
    i, j = (part.reshape(-1) for part in np.meshgrid(column, np.arange(rows - 1), indexing="ij"))
    k = (i + 1) % columns
    a, b, c, d = i * rows + j, k * rows + j, k * rows + j + 1, i * rows + j + 1
    return np.stack([np.stack([a, c, b], 1), np.stack([a, d, c], 1)], axis=1).reshape(-1, 3).astype(np.int32)


def fan(outline: Doubles) -> Shape:
    """A flat piece inside a closed (N, 3) outline."""
    points = np.concatenate([outline.mean(axis=0, keepdims=True), outline])
    ring = np.arange(len(outline))
    triangles = np.stack([np.zeros_like(ring), 1 + ring, 1 + (ring + 1) % len(ring)], axis=1)
    return Shape.of(points, triangles.astype(np.int32))


def tube(path: Doubles, radius: float, *, closed: bool, sides: int = 6) -> Shape:
    """A round tube along an (N, 3) path."""
    along = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0) if closed else np.gradient(path, axis=0)
    along = along / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    across = np.cross(along, [0.01, 0.02, 1.0])
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    other = np.cross(along, across)
    angle = np.arange(sides) / sides * 2 * np.pi
    ring = np.cos(angle)[None, :, None] * across[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    points = path[:, None] + radius * ring  # (N, sides, 3)
    around = np.concatenate([points, points[:, :1]], axis=1)
    count = len(path)
    if closed:
        around = np.concatenate([around, around[:1]], axis=0)
        count += 1
    return Shape.of(around, grid_triangles(count, sides + 1, closed=False))


_SHOULDERS = 5.9  # a skull's rays end above


class Skull:
    """The surface of the head as rays from its middle see it: azimuth from the front, polar angle from the crown.

    Attributes:
        azimuth: (A,) degrees from -180, clockwise from above: positive is the person's left.
        polar: (B,) degrees from the crown.
        centre: (3,) where the rays start.
    """

    centre = np.array([0.0, 7.42, 0.45])

    def __init__(self, mesh: HeadMesh, no_ear: NDArray[np.int32]) -> None:
        self.azimuth = np.arange(-180.0, 180.0, 6.0)
        self.polar = np.linspace(3.0, 150.0, 29)
        directions = spherical(self.azimuth[:, None], self.polar[None])
        upper = no_ear[mesh.rest[no_ear][:, :, 1].max(axis=1) > _SHOULDERS]
        anchors, hit = cast_rays(mesh.rest, upper, self.centre, directions.reshape(-1, 3), farthest=True)
        self._anchors = anchors.reshape(len(self.azimuth), len(self.polar))
        self._missed = ~hit.reshape(len(self.azimuth), len(self.polar))

    def radii(self, vertices: Floats) -> Doubles:
        """(A, B) distance of the skin from the centre; holes, as where the ears were, are filled from above."""
        radii: Doubles = np.linalg.norm(self._anchors.at(vertices) - self.centre, axis=2).astype(np.float64)
        for row in range(1, radii.shape[1]):
            bad = self._missed[:, row] | (radii[:, row] < 0.8 * radii[:, row - 1])
            radii[bad, row] = radii[bad, row - 1]
        return np.asarray(radii, np.float64)

    def sample(self, radii: Doubles, azimuth: Doubles, polar: Doubles) -> Doubles:
        """Radius at any angles, between the grid's."""
        a = (azimuth + 180.0) / 6.0
        i = np.floor(a).astype(int)
        b = np.clip((polar - self.polar[0]) / (self.polar[1] - self.polar[0]), 0, len(self.polar) - 1.001)
        j = b.astype(int)
        u, v, n = a - i, b - j, len(self.azimuth)
        low = (1 - u) * radii[i % n, j] + u * radii[(i + 1) % n, j]
        high = (1 - u) * radii[i % n, j + 1] + u * radii[(i + 1) % n, j + 1]
        return np.asarray((1 - v) * low + v * high)

    def angles(self, points: Floats) -> tuple[Doubles, Doubles]:
        """Azimuth and polar angle of (N, 3) points, in degrees."""
        d = points.astype(np.float64) - self.centre
        return np.degrees(np.arctan2(d[:, 0], d[:, 2])), np.degrees(np.arctan2(np.hypot(d[:, 0], d[:, 2]), d[:, 1]))


def spherical(azimuth: Doubles, polar: Doubles) -> Doubles:
    """Unit vectors of angles in degrees, with a last axis of 3."""
    a, p = np.radians(np.broadcast_arrays(azimuth, polar))
    return np.stack([np.sin(a) * np.sin(p), np.cos(p), np.cos(a) * np.sin(p)], axis=-1)


class Neck:
    """The surface of the neck, by height and azimuth."""

    heights = np.linspace(5.4, NECK_TOP, 8)

    def __init__(self, mesh: HeadMesh) -> None:
        self.azimuth = np.arange(-180.0, 180.0, 10.0)
        skin = mesh.parts["skin"]
        triangles = skin.vertices[skin.triangles]
        angle = np.radians(self.azimuth)
        flat = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=1)
        rings = [cast_rays(mesh.rest, triangles, origin, flat, farthest=False) for origin in self.axis(self.heights)]
        self._anchors = Anchors(
            *(np.stack([getattr(ring, name) for ring, _ in rings]) for name in ("vertices", "weights"))
        )
        self._missed = ~np.stack([hit for _, hit in rings])

    @staticmethod
    def axis(y: Doubles) -> Doubles:
        """(N, 3) middle of the neck at (N,) heights; it leans forward."""
        return np.stack([np.zeros_like(y), y, 0.05 + 0.22 * (y - 5.4)], axis=1)

    def ring(self, vertices: Floats, y: Doubles, offset: Doubles, azimuth: Doubles) -> Doubles:
        """(R, A, 3) points around the neck at (R,) heights, (R, A) decimetres off the skin, at (A,) azimuths."""
        centres = self.axis(self.heights)
        radii = np.linalg.norm(self._anchors.at(vertices)[..., [0, 2]] - centres[:, None, [0, 2]], axis=2)
        usual = np.median(radii[~self._missed])
        radii = np.where(self._missed, usual, np.minimum(radii, 1.35))
        level = np.clip((y - self.heights[0]) / (self.heights[1] - self.heights[0]), 0, len(self.heights) - 1.001)
        low = level.astype(int)
        share = (level - low)[:, None]
        at = (1 - share) * radii[low] + share * radii[low + 1]
        wrapped = np.concatenate([at, at[:, :1]], axis=1)
        grid = np.append(self.azimuth, 180.0)
        turned = (azimuth + 180.0) % 360.0 - 180.0
        r = np.stack([np.interp(turned, grid, row) for row in wrapped]) + offset
        angle = np.radians(turned)
        points = self.axis(y)[:, None] + np.zeros((len(y), len(azimuth), 3))
        points[..., 0] += r * np.sin(angle)
        points[..., 2] += r * np.cos(angle)
        return points


def with_ao(shape: Shape, ao: Doubles) -> Shape:
    """The same mesh, seeing only a share of the surroundings."""
    return replace(shape, ao=np.broadcast_to(ao, len(shape.points)).astype(np.float32))
