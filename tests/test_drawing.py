from __future__ import annotations

import numpy as np
import pytest
from dots import DOTS, TEMPLATE

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks


def _landmarks(*centers: tuple[float, float], half: float = 30) -> Landmarks:
    points = np.array([TEMPLATE * half + np.array(center) for center in centers], np.float32).reshape(-1, 5, 2)
    count = len(points)
    boxes = np.zeros((count, 4), np.float32)
    return Landmarks(points, np.ones((count, 5), np.float32), boxes, DOTS, np.arange(count, dtype=np.int64))


def test_plot_draws_into_a_copy() -> None:
    image = np.full((200, 200, 3), 90, np.uint8)
    drawn = _landmarks((100, 100)).plot(image)
    assert drawn.shape == image.shape
    assert (image == 90).all()
    assert (drawn != 90).any()


def test_every_landmark_and_edge_is_visible() -> None:
    result = _landmarks((100, 100))
    drawn = result.plot(np.full((200, 200, 3), 90, np.uint8)).astype(int)
    for x, y in result.points[0].round().astype(int):
        assert np.abs(drawn[y, x] - 90).max() > 60
    for a, b in DOTS.edges:
        x, y = result.points[0][[a, b]].mean(axis=0).round().astype(int)
        assert np.abs(drawn[y, x] - 90).max() > 60


def test_no_object_changes_nothing() -> None:
    image = np.full((20, 30, 3), 90, np.uint8)
    np.testing.assert_array_equal(Landmarks.empty(DOTS).plot(image), image)


def test_lines_grow_with_the_object() -> None:
    def share(size: int) -> float:
        image = np.full((size, size, 3), 90, np.uint8)
        return float((_landmarks((size / 2, size / 2), half=size / 3).plot(image) != 90).any(axis=2).mean())

    assert share(2000) > 0.3 * share(500)


def test_numbers_stand_beside_several_objects_only() -> None:
    image = np.full((200, 400, 3), 90, np.uint8)
    one, two = (image != _landmarks(*centers).plot(image) for centers in (((100, 100),), ((100, 100), (300, 100))))
    assert two[:, :200].sum() > one[:, :200].sum()


def test_landmarks_far_outside_do_no_harm() -> None:
    _landmarks((1e9, -1e9)).plot(np.zeros((20, 20, 3), np.uint8))


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_plot_needs_a_colour_image(image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\(H, W, 3\) BGR"):
        _landmarks((4, 4)).plot(image)
