"""The 68 points of the iBUG scheme on the mesh, as ``landmarks68.toml`` defines them; the contour follows the view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import read_toml
from cunet_deploy._optional import require
from cunet_deploy.skeletons import IBUG68
from cunet_deploy.synthesis.mesh import HeadMesh
from cunet_deploy.synthesis.rays import Anchors, cast_rays

__all__ = ["BrowLine", "Landmarks68", "even_contour", "read_definition"]

Floats = NDArray[np.float32]

_CONTOUR, _BROWS, _CHIN = 17, 10, 8
_STEPS = 200  # of a half of the contour, along which distances are measured
_EAR = 60  # brightness of the ear mask from which on skin belongs to an ear
_FAR_AHEAD = np.array([0.0, 7.0, 1e5])  # rays from here are parallel


def read_definition() -> dict[str, Any]:
    """``landmarks68.toml`` as it stands."""
    return read_toml(Path(__file__).with_name("landmarks68.toml"))


class BrowLine:
    """The middle line of a brow in the front view of the rest pose.

    Attributes:
        x, y: (5,) from the tail to the head of the brow on the person's right; the other is its mirror image.
        width: how broad the brow is.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], width: float) -> None:
        self.x, self.y, self.width = x, y, width

    def sample(self, count: int) -> NDArray[np.float64]:
        """(count, 2) points at equal distances along the line."""
        fine = np.linspace(0, 1, 81)
        steps = np.linspace(0, 1, len(self.x))
        line = np.stack([_smooth(np.interp(fine, steps, values)) for values in (self.x, self.y)], axis=1)
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        where = np.linspace(0, length[-1], count)
        return np.stack([np.interp(where, length, line[:, axis]) for axis in (0, 1)], axis=1)

    def labels(self) -> NDArray[np.float64]:
        """(5, 2) the scheme's points: at equal distances, a quarter of the width above the middle line."""
        return np.asarray(self.sample(5) + np.array([0.0, 0.25 * self.width]))


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round off the bends of a polyline of 81 points, ends kept."""
    result = values.copy()
    kernel = np.ones(9) / 9
    result[4:-4] = np.convolve(values, kernel, "valid")
    return result


class Landmarks68:
    """Finds the landmarks of a shaped and turned head.

    Args:
        mesh: the base mesh.
        ear: (P,) brightness of the ear mask at each vertex of the skin part; ears are no part of the contour.
    """

    def __init__(self, mesh: HeadMesh, ear: NDArray[np.float64]) -> None:
        definition = read_definition()
        skin = mesh.parts["skin"]
        self._rest = mesh.rest
        self._skin = skin.vertices[skin.triangles]
        no_ear = self._skin[(ear[skin.triangles] <= _EAR).all(axis=1)]
        self._pairs = {a: b for pair in IBUG68.flip_pairs for a, b in (pair, pair[::-1])}
        self._fixed = self._fixed_points(mesh, definition)
        numbers = [int(key) for key in definition["ridge"]]
        heights = np.array(list(definition["ridge"].values()))
        self._ridge = numbers, self._front_view(np.stack([np.full(len(heights), 5e-4), heights], axis=1))
        self._strips, self._outward = self._contour(no_ear, definition["contour"])
        self.brow_x = np.array(definition["brow"]["x"])
        self.brow_y = np.array(definition["brow"]["y"])
        self._brow_grid = self._cast_brow_grid()

    def _fixed_points(self, mesh: HeadMesh, definition: dict[str, Any]) -> dict[int, tuple[Any, Any]]:
        """Vertices and weights of each point; mirrored for the other side."""
        skin = np.unique(mesh.parts["skin"].vertices)
        points = {}
        for key, rows in definition["points"].items():
            vertices = mesh.lookup[[number for number, _ in rows]]
            weights = np.array([weight for _, weight in rows], np.float32)
            points[int(key)] = vertices, weights
            if int(key) in self._pairs:
                mirrored = mesh.rest[vertices] * [-1, 1, 1]
                gaps = np.linalg.norm(mesh.rest[skin][None] - mirrored[:, None], axis=2)
                points[self._pairs[int(key)]] = skin[gaps.argmin(axis=1)], weights
        return points

    def _front_view(self, xy: NDArray[np.float64]) -> Anchors:
        """The foremost points of the skin at (N, 2) places of the front view."""
        front = self._skin[(self._rest[self._skin][:, :, 2] > 0.6).all(1)]
        directions = np.column_stack([xy, np.zeros(len(xy))]) - _FAR_AHEAD
        return cast_rays(self._rest, front, _FAR_AHEAD, directions, farthest=False)[0]

    def _contour(self, skin: NDArray[np.int32], table: dict[str, Any]) -> tuple[list[Anchors], NDArray[np.float64]]:
        """A strip for each of the 17 points, and (17, 2) directions outward."""
        rear = np.array(table["rear"])
        length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(rear[:, :2], axis=0), axis=1))])
        where = np.linspace(0, length[-1], len(table["front"]))
        start = np.stack([np.interp(where, length, rear[:, axis]) for axis in range(3)], axis=1)
        share = np.linspace(0, 1, table["steps"])[:, None]
        right = []
        for rear_point, front_point in zip(start, np.array(table["front"]), strict=True):
            targets = rear_point * (1 - share) + front_point * share
            right.append(targets - table["centre"])
        left = [rays * [-1, 1, 1] for rays in right[-2::-1]]
        strips = []
        for rays in right + left:
            anchors, hit = cast_rays(self._rest, skin, np.array(table["centre"]), rays, farthest=True)
            reached = np.linalg.norm(anchors.at(self._rest) - table["centre"], axis=1) > 0.95 * np.linalg.norm(
                rays, axis=1
            )
            strips.append(anchors[hit & reached])  # where an ear was taken away, a ray may meet something deeper
        outward = np.array(table["outward"])
        return strips, np.concatenate([outward, outward[-2::-1] * [-1, 1]])

    def _cast_brow_grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64], Anchors]:
        """A grid over both brows, so that a brow of any form can be found without casting rays again."""
        x, y = np.arange(0.02, 0.74, 0.03), np.arange(7.26, 7.72, 0.03)
        places = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        both = np.concatenate([places * [-1, 1], places])
        return x, y, self._front_view(both).reshape(2, len(x), len(y))

    def brow_points(self, vertices: Floats, brow: BrowLine) -> Floats:
        """(10, 3) labels 17 to 26 on the moved mesh."""
        xs, ys, grid = self._brow_grid
        surface = grid.at(vertices)  # (2, X, Y, 3)
        labels = brow.labels()
        column = np.clip((-labels[:, 0] - xs[0]) / (xs[1] - xs[0]), 0, len(xs) - 1.001)
        row = np.clip((labels[:, 1] - ys[0]) / (ys[1] - ys[0]), 0, len(ys) - 1.001)
        i, j = column.astype(int), row.astype(int)
        a, b = (column - i)[:, None], (row - j)[:, None]

        def one(side: Floats) -> NDArray[np.floating[Any]]:
            low = (1 - a) * side[i, j] + a * side[i + 1, j]
            return np.asarray((1 - b) * low + b * ((1 - a) * side[i, j + 1] + a * side[i + 1, j + 1]))

        return np.concatenate([one(surface[0]), one(surface[1])[::-1]]).astype(np.float32)

    def locate(self, vertices: Floats, brow: BrowLine, project: Any, roll: float) -> Floats:
        """(68, 3) landmarks of a turned head, the contour as it is seen, at equal distances from ear to chin.

        Args:
            vertices: (V, 3) of the turned mesh.
            brow: the brow as it was painted.
            project: maps (N, 3) points to (N, 2) in the picture plane, y up.
            roll: of the head, in degrees, counter-clockwise in the picture.
        """
        points = np.zeros((68, 3), np.float32)
        for number, (corners, weights) in self._fixed.items():
            points[number] = weights @ vertices[corners]
        numbers, ridge = self._ridge
        points[numbers] = ridge.at(vertices)
        points[_CONTOUR : _CONTOUR + _BROWS] = self.brow_points(vertices, brow)
        cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
        outward = self._outward @ np.array([[cos, sin], [-sin, cos]])
        for number, strip in enumerate(self._strips):
            candidates = strip.at(vertices)
            points[number] = candidates[np.argmax(project(candidates) @ outward[number])]
        points[:_CONTOUR] = even_contour(points[:_CONTOUR], project)
        return points


def even_contour(points: Floats, project: Any) -> Floats:
    """Spread the contour: ends and chin stay, between them points lie at equal distances of the picture.

    Args:
        points: (17, 3) of the contour, in order.
        project: maps (N, 3) points to (N, 2) in the picture plane.

    Returns:
        (17, 3) on a smooth curve through the points.
    """
    # Centripetal: a curve by chord length would overshoot where points nearly meet, as behind a face in profile.
    chords = np.sqrt(np.linalg.norm(np.diff(project(points), axis=0), axis=1))
    knots = np.concatenate([[0.0], np.cumsum(chords + 1e-3 * chords.mean() + np.finfo(np.float32).tiny)])
    curve = require("scipy.interpolate", "synth").CubicSpline(knots, points)
    halves = []
    for first, last in ((0, _CHIN), (_CHIN, _CONTOUR - 1)):
        where = np.linspace(knots[first], knots[last], _STEPS)
        gaps = np.linalg.norm(np.diff(project(curve(where)), axis=0), axis=1)
        length = np.concatenate([[0.0], np.cumsum(gaps)])
        halves.append(np.interp(np.linspace(0, length[-1], last - first + 1), length, where))
    return np.asarray(curve(np.concatenate([halves[0], halves[1][1:]])), np.float32)
