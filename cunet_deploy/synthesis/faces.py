"""Faces with 68 landmarks, one a picture, in the layout of 300-W."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cunet_deploy.landmarks import format_pts
from cunet_deploy.synthesis.dataset import Product
from cunet_deploy.synthesis.lens import encode_jpeg
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.recipe import describe
from cunet_deploy.synthesis.render import FaceRenderer

__all__ = ["FaceJob", "FaceMaker"]


@dataclass(frozen=True)
class FaceJob:
    """Faces as `FaceOptions` describes them, see `cunet_deploy.synthesis.dataset.Job`."""

    options: FaceOptions
    name = "faces"

    def as_json(self) -> dict[str, Any]:
        """All options."""
        return self.options.as_json()

    def user_folders(self) -> list[str]:
        """Backgrounds and environments, where given."""
        return [folder for folder in (self.options.backgrounds, self.options.environments) if folder]

    def open(self) -> FaceMaker:
        """A renderer."""
        return FaceMaker(self.options)

    def finish(self, folder: Path, lines: list[str]) -> None:
        """Nothing: the lines are all there is."""


class FaceMaker:
    """Makes faces, see `cunet_deploy.synthesis.dataset.Maker`.

    Attributes:
        renderer: the name of what draws, as OpenGL gives it.
    """

    def __init__(self, options: FaceOptions) -> None:
        self._renderer = FaceRenderer(options)
        self.renderer = self._renderer.graphics.renderer

    def make(self, number: int) -> Product:
        """A face, its landmarks, and what its line says."""
        recipe = self._renderer.sample(number)
        rendered = self._renderer.render(number)
        picture = encode_jpeg(rendered.image, recipe.lens.quality, recipe.lens.twice)
        visibility = [int(state) for state in rendered.visibility]
        files = {".jpg": picture, ".pts": format_pts(rendered.points).encode()}
        return Product(files, {**describe(recipe), "visibility": visibility})

    def close(self) -> None:
        """Free the graphics context."""
        self._renderer.close()
