"""Clips of one head that turns to profile and back, with known landmarks in every frame, to test trackers with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import format_pts
from cunet_deploy.synthesis.dataset import Product
from cunet_deploy.synthesis.lens import encode_jpeg, take_picture
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.people import Expression, Pose
from cunet_deploy.synthesis.recipe import FaceRecipe
from cunet_deploy.synthesis.render import FaceRenderer

__all__ = ["TurnJob", "TurnOptions", "turned"]

_CALM = ("hands", "objects", "heads", "low-light", "blur", "stage-light", "hats")  # what would hide the motion
_SWAY_SECONDS = 5.3
_SYLLABLES = 3.1  # a second
_BLINK_SECONDS, _BLINK = 3.7, 0.24
_NOISE = 1.5  # grey levels, new in every frame


@dataclass(frozen=True)
class TurnOptions:
    """Options of a clip to render.

    Attributes:
        faces: how the head looks; ``yaw`` is how far it turns, ``seed`` who it is.
        fps: frames a second.
        seconds: from straight to one side, back, to the other side and back.

    Raises:
        InputError: a value is out of range.
    """

    faces: FaceOptions = field(default_factory=FaceOptions)
    fps: float = 25.0
    seconds: float = 6.0

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 240:
            raise InputError(f"fps is {self.fps:g}; expected 1 to 240")
        if not 0.5 <= self.seconds <= 120:
            raise InputError(f"seconds is {self.seconds:g}; expected 0.5 to 120")
        if not self.frames:
            raise InputError(f"{self.fps:g} frames a second for {self.seconds:g} seconds are none; give more of either")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return round(self.fps * self.seconds)


def turned(recipe: FaceRecipe, options: TurnOptions, frame: int) -> FaceRecipe:
    """The same person a moment later: turned, nodding a little, talking and blinking.

    Args:
        recipe: the person.
        options: how fast and how far.
        frame: number from 0, at which the head looks straight ahead.
    """
    time = frame / options.fps
    yaw = float(options.faces.yaw * np.sin(2 * np.pi * time / options.seconds))
    sway = float(np.sin(2 * np.pi * time / _SWAY_SECONDS))
    pose = Pose(yaw, 2.0 + 5.0 * sway, 4.0 * sway, 0.45 * yaw, 0.0)
    units = {"unit/jawOpen": 0.18 * float(1 - np.cos(2 * np.pi * _SYLLABLES * time)) / 2}
    shut = max(0.0, 1.0 - abs((time % _BLINK_SECONDS) - _BLINK) / (_BLINK / 2))
    units |= {"unit/eyeBlinkLeft": shut, "unit/eyeBlinkRight": shut}
    lens = replace(recipe.lens, noise=_NOISE, shot=0.0, seed=frame, defocus=0.5, motion=0.0, pixels=1.0, twice=0)
    expression = Expression("talk", {name: weight for name, weight in units.items() if weight > 0})
    return replace(recipe, pose=pose, expression=expression, lens=replace(lens, quality=92))


@dataclass(frozen=True)
class TurnJob:
    """The frames of a clip, see `cunet_deploy.synthesis.dataset.Job`."""

    options: TurnOptions
    name = "frames"

    def as_json(self) -> dict[str, Any]:
        """All options."""
        return {**self.options.faces.as_json(), "fps": self.options.fps, "seconds": self.options.seconds}

    def user_folders(self) -> list[str]:
        """Backgrounds and environments, where given."""
        return [folder for folder in (self.options.faces.backgrounds, self.options.faces.environments) if folder]

    def open(self) -> _TurnMaker:
        """A renderer."""
        return _TurnMaker(self.options)

    def finish(self, folder: Path, lines: list[str]) -> None:
        """Nothing: the lines are all there is."""


class _TurnMaker:
    def __init__(self, options: TurnOptions) -> None:
        calm = tuple(dict.fromkeys((*options.faces.without, *_CALM)))
        self._options = options
        self._renderer = FaceRenderer(replace(options.faces, without=calm))
        self._person = self._renderer.sample(0)
        self._view = self._renderer.view(turned(self._person, options, 0))

    def close(self) -> None:
        self._renderer.close()

    def make(self, number: int) -> Product:
        """A frame; the camera stands still."""
        recipe = turned(self._person, self._options, number)
        layer = self._renderer.layer(recipe, self._view)
        image = self._renderer.before_background(recipe, layer)
        rendered = take_picture(image, recipe.lens)
        line = {
            "frame": number,
            "time_ms": round(1000 * number / self._options.fps, 3),
            "yaw": round(recipe.pose.yaw, 2),
            "pitch": round(recipe.pose.pitch, 2),
            "roll": round(recipe.pose.roll, 2),
            "visibility": [int(state) for state in layer.visibility],
        }
        files = {".jpg": encode_jpeg(rendered, recipe.lens.quality), ".pts": format_pts(layer.points).encode()}
        return Product(files, line)
