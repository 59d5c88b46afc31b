"""Head pose from the 68 points of a face: a generic head is fitted to them by linear least squares.

Perspective is taken out of the points first, as POSIT does (DeMenthon and Davis 1995), by the depths of the generic
head; what is left is a parallel projection, and the rotation is the one closest to it.

Angles are in degrees. Yaw is positive when the face looks to the right of the picture, pitch when it looks down, roll
counter-clockwise: ``R = Rz(roll) Rx(pitch) Ry(yaw)`` turns a head that looks into the camera, in axes x to the right,
y up and z towards the camera. They are relative to the line of sight to the head; since the camera is not known, a
distance of about 1.4 m is assumed.

``head68.json`` is the mean head of ``cunet-deploy synth faces`` (CC0 shapes), as it is labelled from seven sides:
the contour slides with the view, and what the head hides is labelled at its edge. ``python -m tools.head_pose`` makes
it and measures the errors.

A frame of a video takes 2 ms in all, so the pose may take a few hundredths of that: numbers are Python's, arrays are
left to what has 68 points. `cv2.solvePnP` takes several times as long and is no more accurate.
"""

from __future__ import annotations

import functools
import json
from bisect import bisect
from math import asin, atan2, cos, degrees, isfinite, radians, sin, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.skeletons import IBUG68

__all__ = ["FOCAL", "head_at", "head_pose", "normalized"]

FloatArray = NDArray[np.float64]

FOCAL = 8.0
"""Focal length that is assumed, in sides of the face's box: a head of 18 cm at 1.4 m."""
_MIDPOINTS = np.zeros((3, 68))
"""Averaging weights of 68 points: the midpoints of both ends of the contour, and of the nose."""
_MIDPOINTS[0, 0:4] = _MIDPOINTS[1, 13:17] = 1 / 4
_MIDPOINTS[2, [27, 30, 33]] = 1 / 3
_NOSE, _YAW = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8), (-88, -75, -45, -18, 0, 18, 45, 75, 88)
"""Yaw by the place of the nose: 0 in the middle between the ends of the contour, 0.5 at one of them."""
_CLOSE, _MOST = 8.0, 3
"""The head is fitted again, a few times at most, while its yaw is farther than this from that of the head's view."""
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


@functools.cache
def _view_at(yaw: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Points, pseudo-inverse and depths of the generic head at a yaw in degrees.

    Returns:
        head: (68, 4) homogeneous points.
        inverse: (4, 68) pseudo-inverse of it.
        depths: (68, 1) distances from the camera as shares of that of the head.
    """
    head = head_at(yaw)
    across, away = head @ [cos(radians(yaw)), 0, sin(radians(yaw))], head @ [sin(radians(yaw)), 0, -cos(radians(yaw))]
    depths = 1 + away / (FOCAL * sqrt(np.ptp(across) * np.ptp(head[:, 1])))
    homogeneous = np.column_stack([head, np.ones(len(head))])
    return homogeneous, np.linalg.pinv(homogeneous), depths[:, None]


def _solve(face: FloatArray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of one (68, 2) face; NaN where there are none."""
    unknown = (np.nan, np.nan, np.nan)
    (left, top), (right, bottom) = face.min(axis=0).tolist(), face.max(axis=0).tolist()
    if not (isfinite(left + top + right + bottom) and left < right and top < bottom):
        return unknown
    points = face - ((left + right) / 2, (top + bottom) / 2)
    yaw = _guess(points)
    for _ in range(_MOST):
        head, inverse, depths = _view_at(round(yaw))
        parallel = points * depths
        (x0, y0), (x1, y1), (x2, y2), shift = (inverse @ parallel).tolist()
        x, y, scale = _orthonormal((x0, x1, x2), (y0, y1, y2))
        z = (x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0])
        turned = degrees(atan2(z[0], -z[2]))
        if abs(turned - yaw) <= _CLOSE:
            break
        yaw = max(-90.0, min(90.0, turned))
    drawn = head @ [*((scale * a, scale * b) for a, b in zip(x, y, strict=True)), shift]
    apart = (drawn - parallel).ravel()
    if apart @ apart > len(face) * _WORST**2 * (right - left) * (bottom - top):
        return unknown
    return turned, degrees(asin(max(-1.0, min(1.0, -z[1])))), degrees(atan2(-x[1], -y[1]))


_Axis = tuple[float, float, float]


def _orthonormal(a: _Axis, b: _Axis) -> tuple[_Axis, _Axis, float]:
    """The two orthogonal axes of length 1 that are closest to two others, and the scale between them.

    They are the rows of ``(M M^T)^-1/2 M``, whose 2 x 2 root is written out.
    """
    aa, bb = sum(part * part for part in a), sum(part * part for part in b)
    ab = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    area = sqrt(max(aa * bb - ab * ab, 1e-12 * aa * bb)) or 1e-9
    trace = sqrt(aa + bb + 2 * area)
    along, across, other = (bb + area) / (area * trace), (aa + area) / (area * trace), -ab / (area * trace)
    first = (along * a[0] + other * b[0], along * a[1] + other * b[1], along * a[2] + other * b[2])
    second = (other * a[0] + across * b[0], other * a[1] + across * b[1], other * a[2] + across * b[2])
    return first, second, trace / 2


def _guess(points: FloatArray) -> float:
    """Yaw in degrees by where the nose lies between both ends of the contour, whatever the roll."""
    (right_x, right_y), (left_x, left_y), (nose_x, nose_y) = (_MIDPOINTS @ points).tolist()
    x, y = left_x - right_x, left_y - right_y
    along = (nose_x - (right_x + left_x) / 2) * x + (nose_y - (right_y + left_y) / 2) * y
    place = along / max(x * x + y * y, 1e-9)
    above = min(max(bisect(_NOSE, place), 1), len(_NOSE) - 1)
    share = (place - _NOSE[above - 1]) / (_NOSE[above] - _NOSE[above - 1])
    return float(max(-90.0, min(90.0, _YAW[above - 1] + share * (_YAW[above] - _YAW[above - 1]))))
