from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from dots import box, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from cunet_deploy.errors import InputError
from cunet_deploy.locate import MAX_BATCH, check_boxes, locate
from cunet_deploy.sessions import Session, open_session


@pytest.fixture(scope="module")
def session(dots_model: Path) -> Session:
    return open_session(dots_model, threads=1)


def test_landmarks_are_where_the_dots_are(session: Session) -> None:
    image, points = scene()
    found, scores = locate(session, image, box())
    assert np.abs(found[0] - points).max() < 0.5
    assert scores.min() > 0.8


@settings(max_examples=25)
@given(
    st.integers(-80, 80),
    st.integers(-60, 60),
    st.floats(-4, 4),
    st.floats(-4, 4),
    st.sampled_from([0.5, 1.0, 2.0, 3.0]),
)
def test_landmarks_move_with_the_picture_and_the_box(
    session: Session, shift_x: int, shift_y: int, dx: float, dy: float, zoom: float
) -> None:
    image, _ = scene()
    boxes = box() + np.tile([dx, dy], 2)
    found, _ = locate(session, image, boxes)
    # whole pixels, and pixel centres: x -> (x + 0.5) * zoom - 0.5
    size = (round(320 * zoom), round(240 * zoom))
    moved = cv2.warpAffine(
        image, np.array([[1, 0, shift_x], [0, 1, shift_y]], np.float64), (320, 240), borderValue=(128,) * 3
    )
    large = cv2.resize(moved, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    shift = np.tile([shift_x, shift_y], 2)
    again, _ = locate(session, np.asarray(large, np.uint8), (boxes + shift + 0.5) * zoom - 0.5)
    inside = ((found[0] + shift[:2] > 8) & (found[0] + shift[:2] < np.array([311, 231]))).all(axis=1)
    expected = (found[0] + shift[:2] + 0.5) * zoom - 0.5
    # enlarged, crops begin at other whole pixels
    tolerance = 0.05 if zoom == 1 else 0.6 * max(zoom, 1)
    assert np.abs(again[0] - expected)[inside].max(initial=0) < tolerance


@pytest.mark.parametrize("reach", [1e3, 1e5, 1e7, 1e9])
def test_a_box_far_larger_than_the_image_is_looked_at_without_finding(session: Session, reach: float) -> None:
    points, scores = locate(session, scene()[0], check_boxes([[-reach, -reach, reach, reach]]))
    assert np.isfinite(points).all()
    assert scores.mean() < 0.2


def test_many_boxes_give_what_each_gives_alone(session: Session) -> None:
    image, _ = scene()
    boxes = np.concatenate([box() + np.tile([i / 4, -i / 5], 2) for i in range(2 * MAX_BATCH + 3)])
    together, scores = locate(session, image, boxes)
    assert len(together) == len(boxes)
    for index in (0, MAX_BATCH - 1, MAX_BATCH, len(boxes) - 1):
        alone, score = locate(session, image, boxes[index : index + 1])
        np.testing.assert_allclose(together[index], alone[0], atol=1e-4)
        np.testing.assert_allclose(scores[index], score[0], atol=1e-5)


def test_no_boxes_give_no_landmarks(session: Session) -> None:
    points, scores = locate(session, scene()[0], np.zeros((0, 4)))
    assert points.shape == (0, 5, 2)
    assert scores.shape == (0, 5)


def test_a_box_outside_the_image_scores_nothing(session: Session) -> None:
    points, scores = locate(session, scene()[0], [[-500, -500, -400, -400], [900, 50, 1000, 150]])
    assert np.isfinite(points).all()
    assert scores.max() < 0.2


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([1, 2, 3, 4], r"shape \(N, 4\)"),
        ([[1, 2, 3]], r"shape \(N, 4\)"),
        ([[1, 2, 3, 4], [5, 6, 7, np.nan]], "box 1"),
        ([[10, 10, 10, 20]], "x0 < x1"),
        ([[50, 60, 20, 10]], "xyxy, not xywh"),
        ("boxes", "must be numbers"),
        ([[1, 2, 3, 4], [5]], "must be numbers"),
    ],
)
def test_boxes_of_another_form_are_refused(boxes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_boxes(boxes)


def test_an_empty_list_is_no_boxes() -> None:
    assert check_boxes([]).shape == (0, 4)
