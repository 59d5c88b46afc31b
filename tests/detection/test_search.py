from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dots import RADIUS, TEMPLATE, box, draw, scene
from hypothesis import given
from hypothesis import strategies as st

from cunet_deploy.detection.search import CoarseToFineSearch, plausible, windows
from cunet_deploy.geometry import box_iou, landmark_boxes
from cunet_deploy.locate import locate
from cunet_deploy.sessions import Session, open_session


@pytest.fixture(scope="module")
def session(dots_model: Path) -> Session:
    return open_session(dots_model, threads=1)


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1.0, 0.7, 0.5, 0.35]))
def test_windows_cover_the_frame_and_overlap_by_half(width: int, height: int, share: float) -> None:
    squares = windows(width, height, (share,))
    side = max(min(width, height), max(width, height) / 8) * share
    own = squares[np.isclose(squares[:, 2] - squares[:, 0], side)]
    for axis, length in ((0, width), (1, height)):
        starts = np.unique(own[:, axis].round(6))
        assert starts[0] <= -0.5 + 1e-6 or side >= length
        assert starts[-1] + side >= length - 0.5 - 1e-6
        assert len(starts) == 1 or np.diff(starts).max() <= side / 2 + 1e-6


def test_a_usual_frame_takes_few_windows() -> None:
    assert len(windows(640, 480, (1.0, 0.7, 0.5))) <= 30


@pytest.mark.parametrize("size", [(3000, 2), (1, 500), (65000, 60)])
def test_a_long_and_narrow_frame_does_not_take_thousands(size: tuple[int, int]) -> None:
    assert len(windows(*size, (1.0, 0.7, 0.5, 0.35))) <= 150


@pytest.mark.parametrize("half", [14, 25, 45, 80])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.3, 0.35), (0.72, 0.6)], ids=["middle", "left", "right"])
def test_one_object_is_found_wherever_it_is(session: Session, half: int, place: tuple[float, float]) -> None:
    center = tuple(np.clip(np.array(place) * (320, 240), half * 1.2, np.array([320, 240]) - half * 1.2))
    image, points = scene(center, half)
    boxes, scores = CoarseToFineSearch(session).detect(image)
    assert len(boxes) == len(scores) == 1
    assert box_iou(boxes, landmark_boxes(points[None]))[0, 0] > 0.9


def test_the_frame_may_be_huge(session: Session) -> None:
    image, points = scene((2600, 1900), 900, (3700, 5400))
    boxes, scores = CoarseToFineSearch(session).detect(image)
    assert box_iou(boxes, landmark_boxes(points[None]))[0, 0] > 0.9
    middle, expected = ((one[:2] + one[2:]) / 2 for one in (boxes[0], landmark_boxes(points)))
    assert np.abs(middle - expected).max() < 3  # where 19 pixels were searched as one
    assert scores[0] < 0.9 < locate(session, image, boxes)[1].mean()  # the lowest of several looks


def test_what_is_followed_comes_best_first_while_it_is_there(session: Session) -> None:
    image, _ = scene()
    near = box() + 3
    boxes, scores = CoarseToFineSearch(session).detect(image, known=np.concatenate([near, box()]))
    np.testing.assert_array_equal(boxes, np.concatenate([box(), near]))
    assert scores[0] > scores[1] >= 0.5


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((240, 320, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8),
        np.full((8, 8, 3), 200, np.uint8),
        np.full((1, 1, 3), 200, np.uint8),
    ],
    ids=["black", "noise", "tiny", "one pixel"],
)
def test_nothing_is_found_where_nothing_is(session: Session, image: np.ndarray) -> None:
    boxes, scores = CoarseToFineSearch(session).detect(image)
    assert boxes.shape == (0, 4)
    assert scores.shape == (0,)


def test_an_object_too_small_to_be_sure_of_is_not_found(session: Session) -> None:
    image, _ = scene((160, 120), 3)
    assert len(CoarseToFineSearch(session).detect(image)[0]) == 0


@pytest.mark.parametrize("spot", [(160.0, 120.0), (163.7, 118.2), (141.3, 101.9), (170.5, 139.1)])
def test_dots_without_their_arrangement_are_not_an_object(session: Session, spot: tuple[float, float]) -> None:
    # all five colours in one spot: every heatmap has a peak, but the landmarks span nothing
    image = draw(np.tile(spot, (5, 1)) + TEMPLATE, 3 / RADIUS, (240, 320))
    assert len(CoarseToFineSearch(session).detect(image)[0]) == 0


def test_landmarks_that_collapse_are_not_plausible() -> None:
    boxes = np.array([[0, 0, 100, 100]] * 3, np.float64)
    spread = TEMPLATE * 45 + 50
    points = np.stack([spread, spread * 0.1, spread * [1, 0.05]])
    assert plausible(landmark_boxes(points), boxes).tolist() == [True, False, False]
