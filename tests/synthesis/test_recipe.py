from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from synthesis_names import TARGET_NAMES

from cunet_deploy.synthesis.options import GROUPS, FaceOptions
from cunet_deploy.synthesis.recipe import FaceRecipe, describe, sample_face

MANY = 300


def _faces(**options: object) -> list[FaceRecipe]:
    chosen = FaceOptions(seed=5, **options)  # type: ignore[arg-type]
    return [sample_face(chosen, number, TARGET_NAMES) for number in range(MANY)]


@pytest.fixture(scope="module")
def usual() -> list[FaceRecipe]:
    return _faces()


def test_a_face_depends_on_seed_and_number_alone(usual: list[FaceRecipe]) -> None:
    assert sample_face(FaceOptions(seed=5), 17, TARGET_NAMES) == usual[17]
    assert sample_face(FaceOptions(seed=6), 17, TARGET_NAMES) != usual[17]
    assert usual[17] != usual[18]


def _kept(face: FaceRecipe) -> dict[str, object]:
    """Properties that no group but the one for children may change."""
    return {
        "pose": face.pose,
        "camera": face.camera,
        "skin": face.appearance.skin,
        "iris": face.appearance.iris,
        "cloth": face.wear.cloth,
        "neckline": face.wear.neckline,
        "key": face.light.key,
        "environment": face.light.environment,
        "background": (face.background.seed, face.background.blur),
        "noise": face.lens.seed,
        "tone": (face.lens.contrast, face.lens.white),
    }


@pytest.mark.parametrize("group", [name for name in GROUPS if name != "children"])
def test_leaving_a_group_out_keeps_the_rest(usual: list[FaceRecipe], group: str) -> None:
    for face, without in zip(usual, _faces(without=(group,)), strict=True):
        assert _kept(without) == _kept(face)


GONE: dict[str, Callable[[FaceRecipe], bool]] = {
    "children": lambda face: face.person.age >= 0.45,
    "laughs": lambda face: face.expression.name != "laugh",
    "hair": lambda face: face.appearance.hair.kind == "bald" and face.appearance.hair.volume == 0,
    "fringes": lambda face: face.appearance.hair.fringe == 0,
    "beards": lambda face: face.appearance.beard.kind == "none",
    "glasses": lambda face: face.wear.glasses is None,
    "hats": lambda face: face.wear.hat is None,
    "collars": lambda face: face.wear.collar is None,
    "hands": lambda face: face.wear.hand is None,
    "objects": lambda face: face.wear.prop is None,
    "stage-light": lambda face: min(face.light.key_colour) >= 0.6 * max(face.light.key_colour),
    "heads": lambda face: face.background.heads == 0,
    "environments": lambda face: face.background.kind == "drawn",
    "blur": lambda face: (face.lens.defocus, face.lens.motion, face.lens.pixels) == (0, 0, 1),
    "low-light": lambda face: face.lens.noise <= 1 and face.lens.shot == 0,
    "jpeg": lambda face: face.lens.quality == 95 and face.lens.twice == 0,
}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_there_until_it_is_left_out(usual: list[FaceRecipe], group: str) -> None:
    assert not all(GONE[group](face) for face in usual)
    assert all(GONE[group](face) for face in _faces(without=(group,)))


def test_heads_turn_to_both_sides_as_far_as_asked() -> None:
    turns = np.array([face.pose.yaw for face in _faces(yaw=75.0)])
    assert turns.min() < -60
    assert turns.max() > 60
    assert np.abs(turns).max() <= 75


def test_shoulders_follow_a_turned_head(usual: list[FaceRecipe]) -> None:
    assert all(abs(face.pose.yaw - face.pose.body) <= 55 for face in usual)


def test_elevation_and_distance_are_kept(usual: list[FaceRecipe]) -> None:
    faces = _faces(elevation=(10.0, 20.0), distance=(0.5, 0.7))
    assert all(10 <= face.pose.pitch <= 20 and 0.5 <= face.camera.distance <= 0.7 for face in faces)


def test_a_long_focal_length_keeps_more_detail() -> None:
    short, long = (np.mean([face.lens.pixels for face in _faces(focal=focal)]) for focal in (300.0, 900.0))
    assert short < long


def test_infrared_is_grey_and_lit_from_the_camera() -> None:
    for face in _faces(style="infrared"):
        assert face.lens.grey
        assert face.light.key[2] > 0.7
        assert len(set(face.light.key_colour)) == 1


def test_noise_stays_below_the_limit() -> None:
    assert all(face.lens.noise <= 4 and face.lens.shot == 0 for face in _faces(noise=4.0))


def test_children_have_no_beards_and_no_grey_hair(usual: list[FaceRecipe]) -> None:
    children = [face for face in usual if face.person.age < 0.4]
    assert children
    assert all(face.appearance.beard.kind == "none" for face in children)


def test_a_description_is_json_and_names_what_covers_the_face(usual: list[FaceRecipe]) -> None:
    face = next(face for face in usual if face.wear.glasses is not None and face.wear.collar is not None)
    line = json.loads(json.dumps(describe(face)))
    assert "glasses" in line["occluders"]
    assert face.wear.collar is not None
    assert face.wear.collar.kind in line["occluders"]
    assert line["yaw"] == round(face.pose.yaw, 2)
    assert "hand" not in describe(replace(face, wear=replace(face.wear, hand=None)))["occluders"]
