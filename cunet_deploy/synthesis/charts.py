"""Pictures to look at: the numbered landmarks on the base mesh, and sheets of renders."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.drawing import contact_sheet
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.people import Expression, Person, Pose
from cunet_deploy.synthesis.recipe import FaceRecipe
from cunet_deploy.synthesis.render import FaceRenderer
from cunet_deploy.synthesis.view import HIDDEN, VISIBLE

__all__ = ["draw_definition", "draw_faces", "plain_recipe"]

Picture = NDArray[np.uint8]

_COLOURS = {HIDDEN: (40, 40, 255), VISIBLE: (60, 220, 60)}
_COVERED_COLOUR = (0, 200, 255)
_BARE = ("hair", "beards", "glasses", "hats", "collars", "hands", "objects", "heads", "stage-light")
_YAWS = (0.0, 40.0, 65.0, 90.0)
_SUB = 8  # OpenCV draws at an eighth of a pixel


def plain_recipe(recipe: FaceRecipe, pose: Pose) -> FaceRecipe:
    """The base mesh itself in a pose: no one's shape, no expression, the usual brows; the rest as in ``recipe``."""
    brow = replace(recipe.appearance.brow, lift=0.0, arch=0.0, slope=0.0, inner=0.0, outer=0.0)
    return replace(
        recipe,
        person=Person({}, 0.5, 0.5, (1.0, 0.0, 0.0)),
        expression=Expression("neutral", {}),
        pose=pose,
        appearance=replace(recipe.appearance, brow=brow),
        camera=replace(recipe.camera, distance=2.0, shift=(0.0, 0.0)),
    )


def draw_definition(size: int = 512) -> Picture:
    """(2 size, 2 size, 3) BGR: the numbered landmarks from four sides; red ones are hidden by the head itself."""
    with FaceRenderer(FaceOptions(size=size, without=_BARE)) as renderer:
        usual = renderer.sample(0)
        light = replace(usual.light, key=(0.35, 0.45, 0.82), key_colour=(0.9, 0.9, 0.9), rim_colour=(0, 0, 0), tint=0.0)
        usual = replace(usual, light=replace(light, exposure=0.2), camera=replace(usual.camera, extent=0.72))
        tiles = []
        for yaw in _YAWS:
            layer = renderer.layer(plain_recipe(usual, Pose(yaw, 0.0, 0.0, 0.8 * yaw, 0.0)))
            alpha = layer.image[..., 3:].astype(np.float32) / 255
            tile = np.clip(layer.image[..., :3] + 245 * (1 - alpha), 0, 255).astype(np.uint8)
            _mark(tile, layer.points, layer.visibility, size / 170)
            for number, (x, y) in enumerate(layer.points):
                place = (round(x + size / 100), round(y - size / 200))
                cv2.putText(
                    tile, str(number), place, cv2.FONT_HERSHEY_SIMPLEX, size / 1500, (120, 20, 20), 1, cv2.LINE_AA
                )
            tiles.append(tile)
    return contact_sheet(tiles, 2, 255)


def draw_faces(options: FaceOptions, count: int, columns: int, *, landmarks: bool) -> Picture:
    """The first renders side by side.

    Args:
        options: what to render.
        count: number of faces.
        columns: of the sheet.
        landmarks: draw them: green visible, yellow covered, red hidden by the head itself.
    """
    tiles = []
    with FaceRenderer(options) as renderer:
        for number in range(count):
            rendered = renderer.render(number)
            tile = rendered.image.copy()
            if landmarks:
                _mark(tile, rendered.points, rendered.visibility, 1.3 * options.size / 192)
            tiles.append(tile)
    return contact_sheet(tiles, columns, 255)


def _mark(image: Picture, points: NDArray[np.float64], visibility: NDArray[np.int64], radius: float) -> None:
    for (x, y), state in zip(points, visibility, strict=True):
        colour = _COLOURS.get(int(state), _COVERED_COLOUR)
        cv2.circle(image, (round(x * _SUB), round(y * _SUB)), round(radius * _SUB), colour, -1, cv2.LINE_AA, 3)
