"""Clothes and things as meshes: collars, scarves, hoods, glasses, hats, hands, microphones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.mesh import EYE_CENTRE, HeadMesh
from cunet_deploy.synthesis.shapes import (
    Neck,
    Shape,
    Skull,
    fan,
    grid_triangles,
    join,
    smoothstep,
    spherical,
    tube,
    with_ao,
)
from cunet_deploy.synthesis.wear import Collar, Glasses, Hand, Hat, Prop

__all__ = ["HandModel", "make_collar", "make_glasses", "make_hat", "make_hood", "make_prop", "surface_front"]

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

_AROUND = np.arange(-180.0, 180.0, 9.0)
_WRIST = 2.5  # height of the left wrist of the base mesh


def make_collar(neck: Neck, vertices: Floats, collar: Collar, seed: int) -> Shape:
    """A shirt's collar, a turtleneck or a scarf around the neck."""
    rng = np.random.default_rng(seed)
    waves = _waves(rng, len(_AROUND))
    rows = np.linspace(0, 1, 9)
    if collar.kind == "shirt":
        y = 5.72 + (0.33 + 0.3 * collar.height) * np.concatenate([rows, rows[-2:3:-1]])
        off = 0.05 + 0.06 * rows
        offset = np.concatenate([off, off[-2:3:-1] + 0.06 + 0.2 * collar.bulk * (1 - rows[-2:3:-1])])
    elif collar.kind == "turtleneck":
        y, offset = 5.6 + (0.5 + 0.38 * collar.height) * rows, 0.05 + 0.09 * collar.bulk + 0.015 * np.sin(rows * 19)
    else:
        turn = rows * 2 * np.pi
        bulk = 0.16 + 0.22 * collar.bulk
        y = 5.85 + 0.3 * collar.height + (0.2 + 0.25 * collar.bulk) * -np.cos(turn)
        offset = bulk * (1 + 0.75 * np.sin(turn))
    spread = offset[:, None] + 0.0 * waves
    spread += waves * (0.05 if collar.kind == "scarf" else 0.012) * np.linspace(0.3, 1, len(y))[:, None]
    heights = np.asarray(y, np.float64)
    points = neck.ring(vertices, heights, spread, _AROUND)  # (R, A, 3)
    points[..., 1] += waves * (0.05 if collar.kind == "scarf" else 0.02)
    columns = np.transpose(points, (1, 0, 2))
    if collar.kind == "shirt":  # open in front: the edges fall down and apart
        open_front = np.exp(-((_AROUND / 22.0) ** 2))[:, None]
        columns[..., 1] -= open_front * (0.18 + 0.2 * collar.fold) * np.linspace(0.2, 1, len(y))
    uv = np.stack(np.broadcast_arrays(_AROUND[:, None] / 40.0, np.linspace(0, 1.5, len(y))[None]), axis=2)
    triangles = grid_triangles(len(_AROUND), len(y), closed=True)[:, ::-1]
    return with_ao(Shape.of(columns, np.ascontiguousarray(triangles), uv), np.array(0.85))


def _waves(rng: np.random.Generator, count: int) -> Doubles:
    """(count,) a smooth periodic wave of unit size."""
    angle = np.arange(count) / count * 2 * np.pi
    parts = [rng.normal(0, 1 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(1, 6)]
    return np.asarray(np.sum(parts, axis=0) / 1.2)


def make_hood(skull: Skull, radii: Doubles, collar: Collar, seed: int) -> Shape:
    """A headscarf or tight hood: cloth around the head with an oval opening for the face."""
    rng = np.random.default_rng(seed)
    azimuth = np.arange(-180.0, 180.0, 6.0)
    rows = np.linspace(3, 150, 40)
    # the opening's edge leans to the chin: wide at the cheeks, closed below
    width, middle, tall = 58 + 16 * collar.height, 101.0, 47 + 7 * collar.fold
    base = skull.sample(radii, azimuth[:, None], rows[None])
    base = np.minimum(base, np.interp(rows, [110, 125, 150], [1.5, 1.25, 1.3])[None])  # not out to the shoulders
    lumps = _waves(rng, len(azimuth))[:, None] * np.linspace(0.2, 1, len(rows))[None]
    offset = 0.05 + 0.12 * collar.bulk + 0.025 * lumps
    offset = offset + 0.10 * np.exp(-(((rows - 95) / 18.0) ** 2)) * np.exp(
        -(((np.abs(azimuth[:, None]) - 92) / 18.0) ** 2)
    )
    points = skull.centre + spherical(azimuth[:, None], rows[None]) * (base + offset)[..., None]
    triangles = grid_triangles(len(azimuth), len(rows), closed=True)
    inside = (azimuth[:, None] / width) ** 2 + ((rows[None] - middle) / tall) ** 2 < 1
    kept = triangles[~inside.reshape(-1)[triangles].any(axis=1)]
    uv = np.stack(np.broadcast_arrays(azimuth[:, None] / 60.0, rows[None] / 60.0), axis=2)
    return with_ao(Shape.of(points, kept, uv), np.array(0.9))


def make_glasses(vertices: Floats, glasses: Glasses, eyes: Floats, ridge: Floats, ears: float) -> tuple[Shape, Shape]:
    """Frame and lenses.

    Args:
        vertices: of the shaped head.
        glasses: their form.
        eyes: (2, 3) centres of the right and the left eyeball.
        ridge: (3,) root of the nose, where they rest.
        ears: half the distance between the ears' roots.
    """
    front = max(float(ridge[2]) + 0.02, float(eyes[:, 2].max()) + 0.24)
    y = float(eyes[:, 1].mean()) - glasses.drop
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    rims = []
    for eye in eyes:
        x = eye[0] * 1.03 + np.sign(cos) * np.abs(cos) ** (2 / glasses.corner) * glasses.width
        rim_y = y + np.sign(sin) * np.abs(sin) ** (2 / glasses.corner) * glasses.height
        rims.append(np.stack([x, rim_y, front - 0.16 * np.abs(x) ** 2], axis=1))
    inner = [float(eyes[0, 0] * 1.03 + glasses.width), float(eyes[1, 0] * 1.03 - glasses.width)]
    bridge = np.array(
        [[inner[0], y + 0.04, front - 0.01], [0, y + 0.07, front + 0.02], [inner[1], y + 0.04, front - 0.01]]
    )
    pieces = [tube(rim, glasses.wire, closed=True) for rim in rims]
    pieces.append(tube(bridge, glasses.wire, closed=False))
    for side in (-1.0, 1.0):
        x = side * (abs(float(eyes[1, 0])) * 1.03 + glasses.width)
        hinge = [x, y + 0.06, front - 0.16 * x * x]
        path = np.array([hinge, [side * ears, y + 0.08, 0.5], [side * ears, y - 0.02, 0.25]])
        pieces.append(tube(path, glasses.wire, closed=False))
    return join(pieces), join([fan(rim) for rim in rims])


def make_hat(skull: Skull, radii: Doubles, hat: Hat, hair: float) -> Shape:
    """A cap, a hat with a brim, a beanie or a headband, over hair of a thickness."""
    azimuth = np.arange(-180.0, 180.0, 10.0)
    edge = np.degrees(np.arctan2(0.95, hat.low - (skull.centre[1] - EYE_CENTRE[1])))
    edge_at = edge + 60.0 * hat.tilt * -np.cos(np.radians(azimuth))
    start = 0.55 if hat.kind == "band" else 0.03
    rows = np.linspace(start, 1.0, 10)
    polar = edge_at[:, None] * rows
    stiff = hat.kind in ("cap", "brim")
    rise = hat.tall * (1 - rows**4) if stiff else 0.12 * hat.tall * (1 - rows**2)
    offset = 0.05 + hair * (0.4 if stiff else 0.25) + rise
    base = skull.sample(radii, azimuth[:, None] + 0 * polar, polar)
    points = skull.centre + spherical(azimuth[:, None], polar) * (base + offset)[..., None]
    uv = np.stack(np.broadcast_arrays(azimuth[:, None] / 40.0, rows[None]), axis=2)
    crown = Shape.of(points, grid_triangles(len(azimuth), len(rows), closed=True), uv)
    if not stiff:
        return crown
    rim = points[:, -1]
    out = rim - skull.centre
    out[:, 1] = 0
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    reach = hat.brim * (smoothstep(75, 25, np.abs(azimuth)) * 1.6 if hat.kind == "cap" else np.ones(len(azimuth)))
    steps = np.linspace(0, 1, 4)
    brim = rim[:, None] + out[:, None] * (reach[:, None] * steps)[..., None]
    brim[..., 1] -= 0.12 * reach[:, None] * steps
    brim_uv = np.stack(np.broadcast_arrays(azimuth[:, None] / 40.0, 1 + steps[None]), axis=2)
    return join([crown, Shape.of(brim, grid_triangles(len(azimuth), len(steps), closed=True), brim_uv)])


def make_prop(prop: Prop, front: float) -> Shape:
    """A thing before the face whose surface is at ``front``."""
    turn = np.radians(prop.turn)
    along = np.array([np.sin(turn), -np.cos(turn), 0.15])
    centre = np.array([prop.x, prop.y, front + 0.25 + prop.size])
    if prop.kind == "rod":
        return tube(centre + np.linspace(-1.5, 1.5, 5)[:, None] * along, prop.size * 0.3, closed=False)
    if prop.kind == "box":
        x, y = prop.size * 1.2, prop.size * 1.8
        corners = np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]])
        cos, sin = np.cos(turn), np.sin(turn)
        return fan(centre + corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]))
    azimuth, polar = np.arange(0.0, 360.0, 24.0), np.linspace(0, 180, 9)
    ball = centre + prop.size * spherical(azimuth[:, None], polar[None])
    head = Shape.of(ball, grid_triangles(len(azimuth), len(polar), closed=True))
    if prop.kind == "ball":
        return head
    handle = tube(
        centre + np.linspace(0.5, 9, 4)[:, None] * prop.size * along, prop.size * 0.45, closed=False, sides=10
    )
    return join([head, handle])


class HandModel:
    """The left hand of the base mesh, laid flat: fingers along y, thumb to -x, the back towards z."""

    def __init__(self, mesh: HeadMesh) -> None:
        part = mesh.parts["hand"]
        self.part = part
        rest = mesh.rest[part.vertices].astype(np.float64)
        hand, forearm = rest[rest[:, 1] < _WRIST], rest[rest[:, 1] >= _WRIST]  # arms hang down
        middle = hand.mean(axis=0)
        fingers = middle - forearm.mean(axis=0)
        fingers /= np.linalg.norm(fingers)
        flattest = np.linalg.svd(hand - middle, full_matrices=False)[2][2]
        back = flattest - (flattest @ fingers) * fingers
        back *= np.sign(back[0]) / np.linalg.norm(back)  # the palms look inward
        thumb = np.cross(fingers, back)
        self.flat = (rest - middle) @ np.stack([thumb, fingers, back], axis=1)

    def place(self, hand: Hand, front: float) -> Shape:
        """The hand before a face whose surface is at ``front``."""
        points = self.flat.copy()
        bend = 0.25 + 0.9 * hand.curl
        ahead = np.maximum(points[:, 1] + 0.1, 0)
        points[:, 2] -= bend * 0.45 * ahead**2
        points[:, 1] -= bend * 0.12 * ahead**2
        if not hand.left:
            points[:, 0] *= -1
        turn, tip = np.radians([hand.turn, hand.tip])
        cos, sin = np.cos(turn), np.sin(turn)
        roll = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        cos, sin = np.cos(tip), np.sin(tip)
        tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        points = points @ (roll @ tilt).T + [hand.x, hand.y, front + 0.12 + hand.gap]
        triangles = self.part.triangles if hand.left else self.part.triangles[:, ::-1]
        return Shape.of(points, np.ascontiguousarray(triangles))


def surface_front(mesh: HeadMesh, vertices: Floats, x: float, y: float) -> float:
    """The foremost depth of the skin near a place of the front view."""
    skin = vertices[mesh.parts["skin"].vertices]
    near = skin[np.hypot(skin[:, 0] - x, skin[:, 1] - y) < 0.3]
    return float(near[:, 2].max()) if len(near) else 1.5
