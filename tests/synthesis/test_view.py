from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy.synthesis.people import Pose
from cunet_deploy.synthesis.scene import Camera
from cunet_deploy.synthesis.view import COVERED, HIDDEN, PIVOT, VISIBLE, View, posed, rotation, see

STRAIGHT = Pose(0, 0, 0, 0, 0)
POINTS = np.array([[-1, 0, 0], [1, 0, 0], [0, 1, 0.5], [0, -1, -0.5]], np.float32)


def test_positive_yaw_looks_to_the_right_of_the_picture() -> None:
    assert (rotation(30, 0, 0) @ [0, 0, 1])[0] == pytest.approx(0.5)


def test_positive_pitch_looks_down_and_positive_roll_is_counter_clockwise() -> None:
    assert (rotation(0, 30, 0) @ [0, 0, 1])[1] == pytest.approx(-0.5)
    assert (rotation(0, 0, 90) @ [1, 0, 0])[1] == pytest.approx(1)


def test_the_chest_follows_the_shoulders_and_the_face_the_head() -> None:
    ahead = np.array([[0, 7.2, 1.2], [0, 5.0, 1.2]], np.float32)
    moved, _ = posed(ahead, np.array([[0, 0, 1], [0, 0, 1]], np.float32), Pose(90, 0, 0, 0, 0))
    np.testing.assert_allclose(moved[0], rotation(90, 0, 0) @ (ahead[0] - PIVOT), atol=1e-6)
    np.testing.assert_allclose(moved[1], ahead[1] - PIVOT, atol=1e-6)


@pytest.mark.parametrize("distance", [0.5, 4.0])
def test_the_matrix_and_the_pixels_are_the_same_projection(distance: float) -> None:
    view = View.around(POINTS, Camera(distance, 0.6, (0.03, -0.02)), 200)
    clip = np.concatenate([POINTS, np.ones((4, 1))], axis=1) @ view.matrix().T
    ndc = clip[:, :2] / clip[:, 3:]
    expected = np.stack([(ndc[:, 0] + 1) * 100 - 0.5, (1 - ndc[:, 1]) * 100 - 0.5], axis=1)
    np.testing.assert_allclose(view.pixels(POINTS), expected, atol=1e-9)


def test_points_take_the_wanted_share_of_the_picture() -> None:
    pixels = View.around(POINTS, Camera(2.0, 0.5, (0.0, 0.0)), 200).pixels(POINTS)
    assert (pixels.max(axis=0) - pixels.min(axis=0)).max() == pytest.approx(100, abs=1e-6)
    np.testing.assert_allclose((pixels.max(axis=0) + pixels.min(axis=0)) / 2, [99.5, 99.5], atol=1e-6)


def _scene(yaw: float, *, at_edge: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Three points at depth 0 behind, beside and before a wall that covers the left half of the picture."""
    view = View(20.0, np.zeros(2), 50.0, 100)
    points = np.zeros((3, 3), np.float32)
    points[:, 0] = [-0.2, 0.4, -0.4]
    points[2, 2] = 2.0
    wall = view.depth(np.array([[0, 0, 1.0]], np.float32), 0.0)[0]
    head = np.full((100, 100), 2.0, np.float32)
    head[:, :50] = wall
    things = head.copy()
    things[:, 60:] = wall
    pose = Pose(yaw, 0, 0, 0, 0)
    return see(points, view, head, things, pose, np.array([0.3, 0.3, 0.3]), at_edge=at_edge)


def test_landmarks_are_hidden_covered_or_visible() -> None:
    _, state = _scene(60, at_edge=False)
    assert state.tolist() == [HIDDEN, COVERED, VISIBLE]


def test_a_hidden_landmark_of_the_far_side_moves_to_the_edge_that_covers_it() -> None:
    through, _ = _scene(60, at_edge=False)
    edge, _ = _scene(60, at_edge=True)
    assert through[0, 0] == pytest.approx(39.5)
    assert edge[0, 0] == pytest.approx(50, abs=0.6)
    assert edge[0, 1] == through[0, 1]
    np.testing.assert_array_equal(edge[1:], through[1:])


def test_what_the_near_side_hides_stays() -> None:
    np.testing.assert_array_equal(_scene(-60, at_edge=True)[0], _scene(-60, at_edge=False)[0])
