"""View of a head: the turned head, the camera, and which landmarks it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.people import Pose
from cunet_deploy.synthesis.scene import Camera

__all__ = ["COVERED", "HIDDEN", "PIVOT", "VISIBLE", "View", "lamp_projection", "posed", "rotation", "see"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

HIDDEN, COVERED, VISIBLE = 0, 1, 2
"""A landmark is hidden by the head itself, covered by something else, or visible."""

PIVOT = np.array([0.0, 6.6, 0.2])
"""About which heads turn; it becomes the origin."""

_CHEST, _CHIN = 5.75, 6.4  # between these heights the neck takes up the turn
_NEAR = 0.06  # decimetres that a landmark may lie under the surface
_FAR_SIDE = 0.03
_LAMP_REACH = 1.9


def rotation(yaw: float, pitch: float, roll: float) -> Doubles:
    """(3, 3) matrix of a head's pose in degrees, see `Pose`."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def posed(points: Floats, normals: Floats, pose: Pose, *, rigid: bool = False) -> tuple[Floats, Floats]:
    """Points and normals of the shaped head, turned; below the chin they follow the shoulders unless ``rigid``."""
    head = rotation(pose.yaw, pose.pitch, pose.roll)
    moved = (points - PIVOT) @ head.T
    turned = normals @ head.T
    if not rigid:
        body = rotation(pose.body, 0.2 * pose.pitch, pose.lean)
        share = np.clip((points[:, 1] - _CHEST) / (_CHIN - _CHEST), 0, 1)
        share = (share * share * (3 - 2 * share))[:, None]
        moved = moved * share + ((points - PIVOT) @ body.T) * (1 - share)
        turned = turned * share + (normals @ body.T) * (1 - share)
        turned /= np.linalg.norm(turned, axis=1, keepdims=True) + 1e-9
    return moved.astype(np.float32), turned.astype(np.float32)


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera on the z axis.

    Attributes:
        distance: from the origin in decimetres.
        centre: (2,) of the picture, in the plane through the origin.
        scale: pixels per decimetre in that plane.
        size: side of the picture.
    """

    distance: float
    centre: Doubles
    scale: float
    size: int

    @staticmethod
    def around(points: Floats, camera: Camera, size: int) -> View:
        """The view in which (N, 3) points take the wanted share of the picture."""
        distance = 10.0 * camera.distance
        flat = View(distance, np.zeros(2), 1.0, size).plane(points)
        low, high = flat.min(axis=0), flat.max(axis=0)
        extent = float((high - low).max())
        centre = (low + high) / 2 - np.asarray(camera.shift) * extent
        return View(distance, centre, camera.extent * size / extent, size)

    def plane(self, points: Floats) -> Doubles:
        """(..., 2) where the line of sight through each point meets the plane through the origin, y up."""
        depth = self.distance - points[..., 2:3].astype(np.float64)
        return np.asarray(points[..., :2] / depth * self.distance)

    def pixels(self, points: Floats) -> Doubles:
        """(N, 2) pixels, (0, 0) at the centre of the top-left one."""
        flat = (self.plane(points) - self.centre) * self.scale
        half = self.size / 2 - 0.5
        return np.stack([flat[:, 0] + half, half - flat[:, 1]], axis=1)

    def matrix(self) -> Doubles:
        """(4, 4) projection for OpenGL."""
        k, d = 2 * self.scale / self.size, self.distance
        near, far = max(d - 6.0, 0.5), d + 6.0
        x, y = self.centre
        return np.array(
            [
                [k * d, 0, k * x, -k * x * d],
                [0, k * d, k * y, -k * y * d],
                [0, 0, -(far + near) / (far - near), ((far + near) * d - 2 * far * near) / (far - near)],
                [0, 0, -1, d],
            ]
        )

    def depth(self, points: Floats, nearer: float) -> Doubles:
        """(N,) depth in [0, 1] of points moved towards the camera by so many decimetres."""
        ray = np.array([0, 0, self.distance]) - points
        moved = points + ray / np.linalg.norm(ray, axis=1, keepdims=True) * nearer
        clip = np.concatenate([moved, np.ones((len(moved), 1))], axis=1) @ self.matrix().T
        return np.asarray(clip[:, 2] / clip[:, 3] * 0.5 + 0.5)


def lamp_projection(direction: tuple[float, float, float]) -> Doubles:
    """(4, 4) parallel projection of the shadow map of a lamp, around a turned head."""
    d = np.asarray(direction)
    up = np.array([0, 1.0, 0]) if abs(d[1]) < 0.95 else np.array([1.0, 0, 0])
    x = np.cross(up, d)
    x /= np.linalg.norm(x)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([x, np.cross(d, x), d])
    matrix[:3, 3] = -matrix[:3, :3] @ np.array([0.0, 0.5, 0.2])
    return np.asarray(np.diag([1 / _LAMP_REACH, 1 / _LAMP_REACH, -1 / 4, 1]) @ matrix)


def see(
    points: Floats, view: View, head: Floats, everything: Floats, pose: Pose, side: Doubles, *, at_edge: bool
) -> tuple[Doubles, NDArray[np.int64]]:
    """Labels in the picture, and what the camera sees of them.

    Args:
        points: (68, 3) landmarks.
        view: the camera.
        head: (S, S) depth of the skin, eyes and teeth.
        everything: (S, S) depth with hair, clothes and things as well.
        pose: tells the far side.
        side: (68,) how far landmarks lie to the person's left in rest pose.
        at_edge: move what the head hides on its far side to the visible edge that covers it.

    Returns:
        (68, 2) pixels, and (68,) `HIDDEN`, `COVERED` or `VISIBLE`.
    """
    pixels = view.pixels(points)
    depth = view.depth(points, _NEAR)
    hidden = _farthest_near(head, pixels) < depth
    state = np.where(hidden, HIDDEN, np.where(_farthest_near(everything, pixels) < depth, COVERED, VISIBLE))
    if at_edge:
        far = (side * np.sign(pose.yaw) > _FAR_SIDE) & hidden
        step = np.sign(pose.yaw) * np.array([np.cos(np.radians(pose.roll)), -np.sin(np.radians(pose.roll))])
        for number in np.flatnonzero(far):
            pixels[number] = _edge(head, pixels[number], float(depth[number]), step)
    return pixels, state


def _farthest_near(depth: Floats, pixels: Doubles) -> Doubles:
    """(N,) the farthest depth within a pixel of each place; 1 outside the picture."""
    size = depth.shape[0]
    padded = np.pad(depth, 2, constant_values=1.0)
    x, y = (np.clip(np.round(pixels[:, axis]).astype(int) + 2, 1, size + 2) for axis in (0, 1))
    around = [padded[y + dy, x + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.asarray(np.max(around, axis=0), np.float64)


def _edge(depth: Floats, start: Doubles, behind: float, step: Doubles) -> Doubles:
    """From a hidden place, the first one along ``step`` that nothing nearer covers."""
    size = depth.shape[0]
    for distance in np.arange(0.5, size / 3, 0.5):
        place = start + step * distance
        column, row = round(float(place[0])), round(float(place[1]))
        if not (0 <= column < size and 0 <= row < size) or depth[row, column] >= behind:
            return np.asarray(place)
    return start
