"""Renders a recipe: builds the meshes, draws them, and finds the labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.assets import AssetLibrary
from cunet_deploy.synthesis.environment import Surroundings
from cunet_deploy.synthesis.figure import Figure, Studio
from cunet_deploy.synthesis.gl import Graphics
from cunet_deploy.synthesis.lens import take_picture
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.recipe import FaceRecipe, sample_face
from cunet_deploy.synthesis.view import View, lamp_projection, see

__all__ = ["FaceRenderer", "Layer", "Rendered"]

_OTHERS = 1_000_000_000  # numbers of faces behind others begin here
_UNSEEN = 2.0  # a depth beyond every surface


@dataclass(frozen=True, eq=False)
class Layer:
    """A head on nothing.

    Attributes:
        image: (S, S, 4) BGRA uint8, colours multiplied by alpha.
        points: (68, 2) landmarks in pixels, (0, 0) at the centre of the top-left one.
        visibility: (68,) 0 hidden by the head itself, 1 covered by something else, 2 visible.
    """

    image: NDArray[np.uint8]
    points: NDArray[np.float64]
    visibility: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rendered:
    """A finished picture: (S, S, 3) BGR uint8, and the labels as in `Layer`."""

    image: NDArray[np.uint8]
    points: NDArray[np.float64]
    visibility: NDArray[np.int64]


class FaceRenderer:
    """Renders faces; one for each process. Use it as a context manager.

    Args:
        options: what is wanted.
        library: where the assets come from; what was loaded can be seen there afterwards.

    Raises:
        MissingDependencyError: ``anny`` or ``moderngl`` is not installed.
        ArtifactError: OpenGL cannot be opened.
    """

    def __init__(self, options: FaceOptions, library: AssetLibrary | None = None) -> None:
        self.options = options
        self.library = library or AssetLibrary()
        self.graphics = Graphics(options.size)
        self.studio = Studio(self.library, self.graphics)
        self.surroundings = Surroundings(options)

    def __enter__(self) -> FaceRenderer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphics context."""
        self.graphics.close()

    def sample(self, number: int) -> FaceRecipe:
        """All random choices for one face, see `sample_face`."""
        return sample_face(self.options, number, self.studio.mesh.target_names)

    def render(self, number: int) -> Rendered:
        """The finished picture of one face."""
        recipe = self.sample(number)
        layer = self.layer(recipe)
        image = self.before_background(recipe, layer)
        return Rendered(take_picture(image, recipe.lens), layer.points, layer.visibility)

    def before_background(self, recipe: FaceRecipe, layer: Layer) -> NDArray[np.float32]:
        """(S, S, 3) BGR in [0, 255]: a head before what lies behind it."""
        behind = self.surroundings.behind(
            recipe.background, recipe.light.environment, recipe.light.turn, self.options.size
        )
        if self.options.style == "infrared":
            behind *= 0.35
        for other in range(recipe.background.heads):
            self._put_behind(behind, recipe, other)
        alpha = layer.image[..., 3:].astype(np.float32) / 255
        return np.asarray(layer.image[..., :3].astype(np.float32) + behind * (1 - alpha), np.float32)

    def _put_behind(self, picture: NDArray[np.float32], recipe: FaceRecipe, other: int) -> None:
        """Another head somewhere in the background, smaller and out of focus."""
        rng = np.random.default_rng([recipe.background.seed, other])
        number = (recipe.number + 1) * 8 + other + _OTHERS
        one = self.sample(number)
        one = replace(one, camera=replace(one.camera, distance=max(one.camera.distance, 1.5), shift=(0.0, 0.0)))
        layer = self.layer(one).image.astype(np.float32)
        size = picture.shape[0]
        side = int(size * rng.uniform(0.35, 0.9))
        layer = np.asarray(cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA), np.float32)
        blur = max(recipe.background.blur * size * 0.6, 0.3)
        layer = np.asarray(cv2.GaussianBlur(layer, (0, 0), blur), np.float32)
        layer[..., :3] *= rng.uniform(0.5, 1.0)
        x, y = int(rng.uniform(-0.3, 0.9) * size), int(rng.uniform(-0.2, 0.5) * size)
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + side, size), min(y + side, size)
        if left < right and top < bottom:
            piece = layer[top - y : bottom - y, left - x : right - x]
            window = picture[top:bottom, left:right]
            window *= 1 - piece[..., 3:] / 255
            window += piece[..., :3]

    def view(self, recipe: FaceRecipe) -> View:
        """The camera that `layer` uses when none is given."""
        figure = self.studio.build(recipe)
        try:
            return self._view(figure, recipe)
        finally:
            figure.close()

    def layer(self, recipe: FaceRecipe, view: View | None = None) -> Layer:
        """One head on nothing, with its labels, as a camera sees it that is aimed at the face or given."""
        graphics, options = self.graphics, self.options
        figure = self.studio.build(recipe)
        try:
            view = self._view(figure, recipe) if view is None else view
            points = figure.landmarks(view.plane)
            self._set_light(recipe, view, figure.skin_brightness)
            graphics.shadows(figure.opaque, lamp_projection(recipe.light.key))
            graphics.begin()
            figure.draw(infrared=options.style == "infrared")
            image = graphics.end()
            head = graphics.depths(figure.head, view.matrix())
            everything = graphics.depths(figure.covering, view.matrix(), clear=False) if figure.covering else head
            head = np.where(head >= 1, np.float32(_UNSEEN), head)
            everything = np.where(everything >= 1, np.float32(_UNSEEN), everything)
            pixels, state = see(
                points, view, head, everything, recipe.pose, figure.sides, at_edge=options.hidden == "edge"
            )
        finally:
            figure.close()
        return Layer(image, pixels, state)

    def _view(self, figure: Figure, recipe: FaceRecipe) -> View:
        """The camera's view of the landmarks; they depend on it a little, through perspective."""
        distance = 10.0 * recipe.camera.distance
        first = figure.landmarks(View(distance, np.zeros(2), 1.0, self.options.size).plane)
        return View.around(first, recipe.camera, self.options.size)

    def _set_light(self, recipe: FaceRecipe, view: View, brightness: float) -> None:
        light = recipe.light
        harmonics = self.surroundings.light(light.environment, light.turn, light.tint)
        if self.options.style == "infrared":
            harmonics = harmonics * 0.25
        key, rim = np.asarray(light.key_colour), np.asarray(light.rim_colour)
        strength = 0.5 + 0.45 * float(key.mean()) + 0.15 * float(rim.mean())
        right = 0.62 * np.clip((0.42 / brightness) ** 0.45, 0.7, 1.6) / strength
        values: dict[str, Any] = {
            "view_projection": view.matrix(),
            "light_projection": lamp_projection(light.key),
            "harmonics": harmonics,
            "key": light.key,
            "key_colour": light.key_colour,
            "rim": light.rim,
            "rim_colour": light.rim_colour,
            "camera": (0.0, 0.0, view.distance),
            "exposure": float(right * 2.0**light.exposure),
            "occlusion": light.occlusion,
            "shell": 0.0,
            "comb": (0.0, 0.0, 0.0),
            "layer": 0.0,
        }
        self.graphics.set(**values)
