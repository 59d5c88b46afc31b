"""A face before it is rendered: every random choice, made from a seed and a number alone.

Each topic draws from a generator of its own, so leaving one group out changes nothing else: two sets that differ in one
group show the same people in the same light.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from cunet_deploy.synthesis.appearance import Appearance, sample_appearance
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.people import (
    Expression,
    Person,
    Pose,
    sample_expression,
    sample_person,
    sample_pose,
)
from cunet_deploy.synthesis.scene import (
    Background,
    Camera,
    Lens,
    Light,
    sample_background,
    sample_camera,
    sample_lens,
    sample_light,
)
from cunet_deploy.synthesis.wear import Wear, sample_wear

__all__ = ["FaceRecipe", "describe", "sample_face"]


@dataclass(frozen=True)
class FaceRecipe:
    """Everything that decides a picture.

    Attributes:
        number: of the face; with the seed it decides all else.
    """

    number: int
    person: Person
    expression: Expression
    pose: Pose
    appearance: Appearance
    wear: Wear
    light: Light
    background: Background
    camera: Camera
    lens: Lens


def _stream(seed: int, number: int, topic: str) -> np.random.Generator:
    """A generator of its own for each topic of each face."""
    return np.random.default_rng([seed, number, zlib.crc32(topic.encode())])


def sample_face(options: FaceOptions, number: int, names: tuple[str, ...]) -> FaceRecipe:
    """Draw all choices for one face.

    Args:
        options: what is wanted.
        number: of the face, from 0.
        names: of the mesh's targets, see `cunet_deploy.synthesis.mesh.HeadMesh`.
    """

    def streams(*topics: str) -> dict[str, np.random.Generator]:
        return {topic: _stream(options.seed, number, topic) for topic in topics}

    person = sample_person(_stream(options.seed, number, "person"), options, names)
    camera = sample_camera(_stream(options.seed, number, "camera"), options)
    return FaceRecipe(
        number=number,
        person=person,
        expression=sample_expression(_stream(options.seed, number, "expression"), options),
        pose=sample_pose(_stream(options.seed, number, "pose"), options),
        appearance=sample_appearance(streams("skin", "brow", "hair", "beard", "eyes"), options, person),
        wear=sample_wear(streams("cloth", "collar", "glasses", "hat", "hand", "prop"), options, person),
        light=sample_light(_stream(options.seed, number, "light"), options),
        background=sample_background(_stream(options.seed, number, "background"), options),
        camera=camera,
        lens=sample_lens(streams("blur", "noise", "tone", "jpeg"), options, camera),
    )


def describe(recipe: FaceRecipe) -> dict[str, Any]:
    """Describe the recipe for a line of ``faces.jsonl``; degrees, metres, and shares from 0 to 1."""
    wear, appearance, light = recipe.wear, recipe.appearance, recipe.light
    occluders = [
        name
        for name, present in (
            ("fringe", appearance.hair.fringe > 0),
            ("beard", appearance.beard.kind not in ("none", "stubble")),
            ("glasses", wear.glasses is not None),
            ("sunglasses", wear.glasses is not None and wear.glasses.tint > 0.5),
            (f"hat:{wear.hat.kind}" if wear.hat else "", wear.hat is not None),
            (wear.collar.kind if wear.collar else "", wear.collar is not None),
            ("hand", wear.hand is not None),
            (wear.prop.kind if wear.prop else "", wear.prop is not None),
        )
        if present
    ]
    return {
        "yaw": round(recipe.pose.yaw, 2),
        "pitch": round(recipe.pose.pitch, 2),
        "roll": round(recipe.pose.roll, 2),
        "distance_m": round(recipe.camera.distance, 3),
        "age": round(recipe.person.age, 3),
        "male": round(recipe.person.male, 3),
        "expression": recipe.expression.name,
        "units": {name.partition("/")[2]: round(weight, 3) for name, weight in recipe.expression.weights.items()},
        "hair": appearance.hair.kind,
        "beard": appearance.beard.kind,
        "occluders": occluders,
        "light": {
            "key_direction": [round(value, 3) for value in light.key],
            "key_rgb": [round(value, 3) for value in light.key_colour],
            "rim_rgb": [round(value, 3) for value in light.rim_colour],
            "exposure_stops": round(light.exposure, 3),
        },
        "background": recipe.background.kind,
        "heads_behind": recipe.background.heads,
    }
