"""Hair as one sheet around the skull: every column runs from the crown over the hairline to the tips."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.appearance import Hair
from cunet_deploy.synthesis.shapes import Shape, Skull, grid_triangles, smoothstep, spherical

__all__ = ["grow_hair", "hairline", "scalp_degrees"]

Doubles = NDArray[np.float64]

# Polar angle of the hairline, in degrees from the crown, by azimuth from the front: forehead, temple, sideburn, above
# the ear, behind it, nape. Read off the mesh.
_LINE = np.array(
    [[0, 57], [22, 58], [42, 66], [58, 88], [70, 104], [84, 93], [104, 95], [122, 117], [150, 132], [180, 136]]
)
_ROWS_ON_SKULL, _ROWS_BELOW = 14, 12
_CLOSEST = 0.014  # to the skin
_RADIUS = 0.95  # of a head, decimetres: turns lengths into angles


def hairline(hair: Hair, azimuth: Doubles) -> Doubles:
    """Polar angle of the hairline at azimuths in degrees."""
    side = np.abs(azimuth)
    line = np.interp(side, _LINE[:, 0], _LINE[:, 1]) + hair.hairline * smoothstep(75, 40, side)
    return np.asarray(line - hair.recess * smoothstep(8, 30, side) * smoothstep(62, 42, side))


def scalp_degrees(hair: Hair, azimuth: Doubles, polar: Doubles) -> Doubles:
    """Measure how far inside the hairline points are, in degrees; negative on the face."""
    return np.asarray(hairline(hair, azimuth) - polar)


def grow_hair(skull: Skull, radii: Doubles, hair: Hair, seed: int) -> Shape | None:
    """The sheet of hair in the space of the head, or ``None`` for a bald one.

    Args:
        skull: grid of the head.
        radii: of this head, see `Skull.radii`.
        hair: how it is worn.
        seed: of its lumps.
    """
    if hair.volume <= 0:
        return None
    azimuth = np.arange(-180.0, 180.0, 5.0)
    side = np.abs(azimuth)
    line = hairline(hair, azimuth)
    hang = hair.length * _hanging(hair, side)
    fringe = hair.fringe * smoothstep(64, 44, side) * (1 - 0.25 * np.cos(np.radians(azimuth - hair.part)))
    on_skull = np.linspace(0.02, 1, _ROWS_ON_SKULL)
    below = np.linspace(0, 1, _ROWS_BELOW + 1)[1:]
    polar = np.concatenate(
        [line[:, None] * on_skull, line[:, None] + np.degrees(fringe / _RADIUS)[:, None] * below], axis=1
    )  # (A, rows)
    swept = azimuth[:, None] + np.zeros_like(polar)
    swept[:, _ROWS_ON_SKULL:] += hair.sweep * below * smoothstep(64, 44, side)[:, None]
    offset = _offset(hair, side, fringe + hang, on_skull, below)
    offset = np.maximum(offset + _lumps(polar.shape, hair, seed), _CLOSEST)
    points = skull.centre + spherical(swept, polar) * (skull.sample(radii, swept, polar) + offset)[..., None]
    _hang_down(points, hang, below, side, hair)
    length = np.cumsum(np.linalg.norm(np.diff(points, axis=1, prepend=points[:, :1]), axis=2), axis=1)
    share = length / np.maximum(length[:, -1:], 1e-6)
    uv = np.stack([azimuth[:, None] + np.zeros_like(share), share], axis=2)
    triangles = grid_triangles(len(azimuth), polar.shape[1], closed=True)
    ao = 0.55 + 0.45 * smoothstep(0.0, 0.12, offset)
    shape = Shape.of(points, triangles, uv)
    return Shape(
        shape.points, triangles, shape.uv, length.reshape(-1).astype(np.float32), ao.reshape(-1).astype(np.float32)
    )


def _hanging(hair: Hair, side: Doubles) -> Doubles:
    """Share of the length that hangs below the hairline, by azimuth: none before the face."""
    return smoothstep(46, 66, side) if hair.ear else smoothstep(84, 104, side)


def _offset(hair: Hair, side: Doubles, beyond: Doubles, on_skull: Doubles, below: Doubles) -> Doubles:
    """(A, rows) distance from the skin: thick on top, thin where hair ends at the hairline."""
    ends_thin = 1 - smoothstep(0.0, 0.12, beyond)[:, None]
    front = smoothstep(75, 30, side)[:, None]
    top = hair.volume * (0.75 + 0.25 * np.sin(np.pi * np.minimum(on_skull, 1)))[None]
    taper = 1 - ends_thin * smoothstep(0.55 - 0.0, 1.0, on_skull)[None] * (1 - 0.45 * front)
    above = 0.015 + top * taper
    lower = above[:, -1:] * (1 - (0.75 * below * front)) + 0.02
    return np.concatenate([above, lower], axis=1)


def _lumps(shape: tuple[int, int], hair: Hair, seed: int) -> Doubles:
    """(A, rows) unevenness: locks, or curls."""
    rng = np.random.default_rng(seed)
    columns, rows = (36, 16) if hair.kind == "curly" else (18, 4)
    rough = rng.normal(0, 1, (columns, rows)).astype(np.float32)
    wrapped = np.concatenate([rough[-2:], rough, rough[:2]])
    full = cv2.resize(wrapped, (shape[1], round(shape[0] * (columns + 4) / columns)), interpolation=cv2.INTER_CUBIC)
    start = round(2 * shape[0] / columns)
    size = hair.curl if hair.kind == "curly" else 0.02 + hair.curl + 0.06 * hair.volume
    return np.asarray(size * full[start : start + shape[0]], np.float64)


def _hang_down(points: Doubles, hang: Doubles, below: Doubles, side: Doubles, hair: Hair) -> None:
    """Let the rows below the hairline of hanging columns fall straight down, a little inward at the tips."""
    root = points[:, _ROWS_ON_SKULL - 1]
    out = root - np.array([0.0, 0.0, 0.3])
    out[:, 1] = 0
    out /= np.linalg.norm(out, axis=1, keepdims=True) + 1e-9
    over_ear = smoothstep(60, 85, side) * smoothstep(125, 100, side) * (0.16 if hair.ear else 0.0)
    curve = np.sin(np.pi * np.minimum(below * 1.1, 1.0))
    fallen = root[:, None] + out[:, None] * (over_ear[:, None] * np.minimum(below * 4, 1) + 0.08 * curve)[..., None]
    fallen[..., 1] -= hang[:, None] * below
    share = smoothstep(0.02, 0.3, hang)[:, None, None]
    points[:, _ROWS_ON_SKULL:] = points[:, _ROWS_ON_SKULL:] * (1 - share) + fallen * share
