"""Head pose from the 68 points of a face: a generic head is turned until it projects onto them (`cv2.solvePnP`).

Angles are in degrees. Yaw is positive when the face looks to the right of the picture, pitch when it looks down, roll
counter-clockwise: ``R = Rz(roll) Rx(pitch) Ry(yaw)`` turns a head that looks into the camera, in axes x to the right,
y up and z towards the camera. They are relative to the line of sight to the head; since the camera is not known, a
distance of about 1.4 m is assumed.

``head68.json`` is the mean head of ``cunet-deploy synth faces`` (CC0 shapes), as it is labelled from seven sides:
the contour slides with the view, and what the head hides is labelled at its edge. ``python -m tools.head_pose`` makes
it and measures the errors.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.skeletons import IBUG68

__all__ = ["FOCAL", "head_at", "head_pose", "normalized", "pose_angles"]

FloatArray = NDArray[np.float64]

FOCAL = 8.0
"""Focal length that is assumed, in sides of the face's box: a head of 18 cm at 1.4 m."""
_CAMERA = np.diag([FOCAL, FOCAL, 1.0])
_UP = np.diag([1.0, -1.0, -1.0])
"""From axes with y up and z towards the camera to those of OpenCV."""
_RIGHT, _LEFT, _MIDDLE = slice(0, 4), slice(13, 17), [27, 30, 33]
"""Both ends of the contour, and the nose between them."""
_NOSE, _YAW = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8), (-88, -75, -45, -18, 0, 18, 45, 75, 88)
"""Yaw by the place of the nose: 0 in the middle between the ends of the contour, 0.5 at one of them."""
_CLOSE, _MOST = 8.0, 4
"""The pose is solved again, a few times at most, while its yaw is farther than this from that of the head's view."""
_WORST = 0.12
"""Root mean square distance of points from the projected head, in sides of the box, beyond which they are no face."""


def head_pose(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Yaw, pitch and roll of faces.

    Args:
        points: (N, 68, 2) pixels, x then y.

    Returns:
        (N, 3) degrees; NaN where the points are not those of a face.
    """
    return np.array([_solve(np.asarray(face, np.float64)) for face in points], np.float32).reshape(-1, 3)


def normalized(face: FloatArray) -> FloatArray:
    """(68, 2) points around the middle of their box, in roots of its area."""
    low, high = face.min(axis=0), face.max(axis=0)
    return np.asarray((face - (low + high) / 2) / np.sqrt((high - low).prod()))


def pose_angles(rotation: FloatArray) -> FloatArray:
    """Yaw, pitch and roll in degrees of a (3, 3) rotation in axes with y up and z towards the camera."""
    yaw = np.arctan2(-rotation[2, 0], rotation[2, 2])
    pitch = np.arcsin(np.clip(rotation[2, 1], -1, 1))
    roll = np.arctan2(-rotation[0, 1], rotation[1, 1])
    return np.degrees([yaw, pitch, roll])


def head_at(yaw: float) -> FloatArray:
    """(68, 3) points of the generic head as it is labelled from a side; y up, z out of the face."""
    views = _views()
    place = min(abs(yaw), 90.0) / 90 * (len(views) - 1)
    first = min(int(place), len(views) - 2)
    share = place - first
    head = (1 - share) * views[first] + share * views[first + 1]
    return head if yaw >= 0 else np.asarray(head[IBUG68.flip_order] * [-1, 1, 1])


@functools.cache
def _views() -> FloatArray:
    """(V, 68, 3) heads from yaw 0 to 90 in equal steps."""
    return np.array(json.loads(Path(__file__).with_name("head68.json").read_text("utf-8"))["views"], np.float64)


def _solve(face: FloatArray) -> FloatArray:
    """(3,) angles of one face; NaN where there are none."""
    unknown = np.full(3, np.nan)
    if not np.isfinite(face).all() or np.ptp(face, axis=0).min() <= 0:
        return unknown
    points = normalized(face)
    yaw = _guess(points)
    for _ in range(_MOST):
        head = head_at(yaw)
        solved, turn, shift = cv2.solvePnP(head, points, _CAMERA, None, flags=cv2.SOLVEPNP_SQPNP)
        if not solved:
            return unknown
        rotation = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
        angles = pose_angles(_UP @ rotation)
        if abs(angles[0] - yaw) <= _CLOSE:
            break
        yaw = float(angles[0])
    seen = head @ rotation.T + shift.ravel()
    if seen[:, 2].min() <= 0:
        return unknown
    apart = np.square(FOCAL * seen[:, :2] / seen[:, 2:] - points).sum(axis=1).mean()
    return angles if apart <= _WORST**2 else unknown


def _guess(points: FloatArray) -> float:
    """Yaw in degrees by where the nose lies between both ends of the contour, whatever the roll."""
    right, left = points[_RIGHT].mean(axis=0), points[_LEFT].mean(axis=0)
    across = left - right
    place = (points[_MIDDLE].mean(axis=0) - (right + left) / 2) @ across / max(float(across @ across), 1e-9)
    return float(np.interp(place, _NOSE, _YAW))
