"""Jitter and exchanged sides of paths that are known."""

from __future__ import annotations

import numpy as np

from cunet_deploy.metrics import exchanged_pairs, second_differences
from cunet_deploy.skeletons import LSP14

LEFT, RIGHT = (LSP14.landmarks.index(f"{side}_knee") for side in ("left", "right"))
PAIR = next(n for n, pair in enumerate(LSP14.flip_pairs) if set(pair) == {LEFT, RIGHT})


def standing(frames: int) -> np.ndarray:
    points = np.arange(28, dtype=np.float64).reshape(14, 2) * 10
    points[LEFT], points[RIGHT] = (0, 0), (40, 0)
    return np.repeat(points[None], frames, axis=0)


def test_an_even_motion_has_no_jitter_and_a_shift_of_one_frame_has_it_three_times() -> None:
    points = standing(6) + np.arange(6)[:, None, None] * 3.0
    np.testing.assert_allclose(second_differences(points), np.zeros((4, 14)), atol=1e-9)
    points[3, LEFT] += (0, 5)
    np.testing.assert_allclose(second_differences(points)[:, LEFT], [0, 5, 10, 5], atol=1e-9)
    assert second_differences(points[:1]).shape == (0, 14)


def test_a_swap_of_one_frame_is_two_exchanges_of_this_pair_alone() -> None:
    points = standing(5)
    points[2, [LEFT, RIGHT]] = points[2, [RIGHT, LEFT]]
    found = exchanged_pairs(points, LSP14, 20)
    assert np.argwhere(found).tolist() == [[1, PAIR], [2, PAIR]]


def test_joints_at_one_place_do_not_exchange() -> None:
    points = standing(3)
    points[1, [LEFT, RIGHT]] = points[1, [RIGHT, LEFT]]
    assert not exchanged_pairs(points, LSP14, 41).any()


def test_a_joint_that_comes_to_the_other_one_is_no_exchange() -> None:
    points = standing(3)
    points[1:, LEFT] = (35, 0)
    assert not exchanged_pairs(points, LSP14, 2).any()


def test_limbs_that_pass_each_other_slowly_do_not_exchange() -> None:
    points = standing(9)
    points[:, LEFT, 0] = np.linspace(0, 40, 9)
    points[:, RIGHT, 0] = np.linspace(40, 0, 9)
    assert not exchanged_pairs(points, LSP14, 8).any()
