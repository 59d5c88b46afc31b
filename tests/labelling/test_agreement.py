"""Agreement of opinions, on joints made of nothing but numbers."""

from __future__ import annotations

import numpy as np
import pytest
from bodies import UPRIGHT

from cunet_deploy.errors import InputError
from cunet_deploy.labelling.agreement import Consensus, Rule, agree, default_rule
from cunet_deploy.skeletons import IBUG68, LSP14

TORSO = float(np.linalg.norm(UPRIGHT[2] - UPRIGHT[9]))
PERSON = UPRIGHT + 80
WRIST, NECK = LSP14.landmarks.index("left_wrist"), LSP14.landmarks.index("neck")


def opinions(*teachers: np.ndarray, score: float = 0.9, **rule: float) -> Consensus:
    scores = [np.where(np.isfinite(own).all(axis=-1), score, np.nan) for own in teachers]
    return agree(list(teachers), scores, LSP14, Rule(0.2, "torso", **rule), 160, 160)


def test_views_that_fall_together_are_kept_and_one_that_is_elsewhere_is_told_in_torsos() -> None:
    views = np.repeat(PERSON[None], 5, axis=0)
    views[3, WRIST] += (0.5 * TORSO, 0)
    found = opinions(views)
    assert found.apart[WRIST] == pytest.approx(0.5)
    assert not found.kept[WRIST]
    assert np.delete(found.kept, WRIST).all()
    np.testing.assert_allclose(found.points, PERSON)  # the median does not follow one view


def test_a_joint_that_is_far_off_makes_an_object_no_more_doubtful_than_one_that_is_a_torso_off() -> None:
    for away in (1.0, 9.0):
        views = np.repeat(PERSON[None], 5, axis=0)
        views[3, WRIST] += (away * TORSO, 0)
        assert opinions(views).doubt == pytest.approx(1 / len(LSP14))


def test_two_teachers_are_averaged_where_they_agree() -> None:
    first = np.repeat(PERSON[None], 3, axis=0)
    second = first + np.array([0.1 * TORSO, 0])
    second[:, WRIST, 0] += 0.2 * TORSO
    found = opinions(first, second)
    np.testing.assert_allclose(found.points[NECK], PERSON[NECK] + np.array([0.05 * TORSO, 0]))
    assert found.kept[NECK]
    assert not found.kept[WRIST]  # 0.3 apart
    assert found.apart[WRIST] == pytest.approx(0.3)


def test_a_joint_that_only_one_teacher_knows_needs_its_views_alone() -> None:
    first, second = np.repeat(PERSON[None], 3, axis=0), np.repeat(PERSON[None], 3, axis=0)
    second[:, NECK] = np.nan
    found = opinions(first, second)
    assert found.kept.all()
    first[0, NECK] += TORSO
    assert not opinions(first, second).kept[NECK]


def test_a_joint_that_nobody_knows_is_no_joint() -> None:
    views = np.repeat(PERSON[None], 3, axis=0)
    views[:, NECK] = np.nan
    found = opinions(views)
    assert not found.known[NECK]
    assert not found.kept[NECK]
    assert found.agreed_share == 1
    np.testing.assert_allclose(found.box[1], PERSON[:, 1].min())


def test_unsure_joints_and_those_outside_the_photo_are_not_kept() -> None:
    views = np.repeat(PERSON[None], 3, axis=0)
    assert not opinions(views, score=0.1).kept.any()
    assert opinions(views, score=0.1, min_score=0.05).kept.all()
    views += (90, 0)
    np.testing.assert_array_equal(opinions(views).kept, views[0, :, 0] <= 159.5)


def test_nothing_is_kept_of_an_object_without_extent() -> None:
    found = opinions(np.full((3, len(LSP14), 2), 50.0))
    assert not found.kept.any()
    assert found.doubt == 1


def test_the_usual_distance_is_that_of_pck_for_bodies_and_a_share_of_the_box_else() -> None:
    assert default_rule(LSP14) == Rule(0.2, "torso")
    assert default_rule(IBUG68).size == "box"
    with pytest.raises(InputError, match="within must be"):
        Rule(0.0, "torso")
