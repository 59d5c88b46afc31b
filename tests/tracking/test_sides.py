"""Left and right joints keep their places, unless most of what was seen says otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.skeletons import IBUG68, LSP14
from cunet_deploy.tracking.one_euro import Smoother, smooth_clip
from cunet_deploy.tracking.sides import SideConsistency, has_sides

LEFT, RIGHT = (LSP14.landmarks.index(f"{side}_shoulder") for side in ("left", "right"))
STEP = 0.04


def body(*, exchanged: bool = False, apart: float = 60) -> np.ndarray:
    """Joints on a circle of 200 pixels, the shoulders beside each other."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 100
    places = [RIGHT, LEFT] if exchanged else [LEFT, RIGHT]
    points[places] = [[-apart / 2, 0], [apart / 2, 0]]
    return points


def shown(sides: SideConsistency, points: np.ndarray, seconds: float = STEP) -> bool:
    """Whether the left shoulder is shown on the left; all other joints stay what they are."""
    order = sides.update(points, seconds)
    others = [index for index in range(14) if index not in (LEFT, RIGHT)]
    assert order[others].tolist() == others
    return bool(points[order[LEFT], 0] < points[order[RIGHT], 0])


def test_a_pair_that_is_exchanged_for_a_moment_is_put_back() -> None:
    sides = SideConsistency(LSP14)
    seen = [False, True, False, True, True, False, True, False] * 12
    assert all(shown(sides, body(exchanged=one)) for one in seen)


def test_what_the_network_says_for_most_of_a_second_is_believed_and_stays() -> None:
    sides = SideConsistency(LSP14)
    assert shown(sides, body())
    after = [shown(sides, body(exchanged=True)) for _ in range(40)]
    turned = after.index(False)
    assert 0.6 <= (turned + 1) * STEP <= 0.8
    assert not any(after[turned:])
    assert not any(shown(sides, body(exchanged=one)) for one in (False, True, False, True) * 5)


def test_sides_that_were_just_believed_are_not_given_up_at_once() -> None:
    sides = SideConsistency(LSP14)
    assert shown(sides, body())
    while shown(sides, body(exchanged=True)):
        pass
    assert not any(shown(sides, body(exchanged=one)) for one in (False, True, False, False, True) * 3)


def test_joints_at_one_place_are_left_alone_and_say_nothing() -> None:
    sides = SideConsistency(LSP14)
    assert shown(sides, body(apart=8))
    assert not any(shown(sides, body(exchanged=True, apart=8)) for _ in range(40))
    assert shown(sides, body(apart=60))


def test_limbs_that_pass_each_other_are_followed() -> None:
    sides = SideConsistency(LSP14)
    walked = [shown(sides, body(apart=apart)) for apart in np.linspace(60, -60, 41) if apart]
    assert walked == [True] * 20 + [False] * 20


@pytest.mark.parametrize("fps", [10, 15, 30, 60])
@pytest.mark.parametrize(("period", "reach"), [(1.1, 88.0), (0.7, 100.0)], ids=["walking", "running"])
def test_limbs_that_swing_past_each_other_within_a_frame_are_followed(fps: int, period: float, reach: float) -> None:
    sides, rng = SideConsistency(LSP14), np.random.default_rng(4)
    wrong = 0
    for index in range(8 * fps):
        points = body()
        swing = reach * np.sin(2 * np.pi * index / fps / period + 0.3)
        points[LEFT], points[RIGHT] = (swing, 10), (-swing, 10)
        points += rng.normal(0, 2, points.shape)
        order = sides.update(points, 1 / fps)
        wrong += order[LEFT] != LEFT
    assert wrong == 0


def test_joints_of_another_shape_and_numbers_that_are_none_are_refused() -> None:
    sides = SideConsistency(LSP14)
    with pytest.raises(InputError, match=r"finite joints of shape \(14, 2\) expected, got shape \(13, 2\)"):
        sides.update(body()[:13], STEP)
    with pytest.raises(InputError, match="finite joints"):
        sides.update(np.full((14, 2), np.nan), STEP)


def test_scores_go_with_their_joints_forwards_and_both_ways() -> None:
    frames = []
    for index in range(20):
        points = body(exchanged=index % 5 == 3)[None].astype(np.float32)
        scores = np.full((1, 14), 0.5, np.float32)
        scores[0, RIGHT if index % 5 == 3 else LEFT] = 0.9
        frames.append(Landmarks(points, scores, np.zeros((1, 4), np.float32), LSP14, np.zeros(1, np.int64)))
    times, smoother = [40.0 * index for index in range(20)], Smoother()
    forwards = [smoother.update(frame, time_ms) for frame, time_ms in zip(frames, times, strict=True)]
    for steady in (forwards, smooth_clip(frames, times)):
        for found in steady:
            assert found.scores[0, [LEFT, RIGHT]].tolist() == pytest.approx([0.9, 0.5])
            np.testing.assert_allclose(found.points[0], body(), atol=1e-4)


def test_faces_have_no_sides_to_keep() -> None:
    assert has_sides(LSP14)
    assert not has_sides(IBUG68)
