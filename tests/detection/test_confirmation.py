"""Doubtful detections need landmarks, or an object that is followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from dots import box, scene

from cunet_deploy.detection.confirmation import detect_confirmed
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.base import Session

IMAGE, _ = scene()
OBJECT = box()[0]
EMPTY, ELSEWHERE = np.array([10.0, 10, 80, 80]), np.array([230.0, 150, 310, 230])


@pytest.fixture(scope="module")
def session(dots_model: Path) -> Iterator[Session]:
    session = open_session(dots_model, threads=1)
    yield session
    session.close()


@dataclass
class Sure:
    """Finds what it is told."""

    found: list[tuple[np.ndarray, float]]
    confident_score: float = 0.8
    every, retry, exact = 1, 1, False

    def detect(
        self, image: np.ndarray, index: int = 0, name: str = "", known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        boxes = np.array([place for place, _ in self.found]).reshape(-1, 4)
        return boxes, np.array([score for _, score in self.found])

    def close(self) -> None: ...


def test_a_doubtful_box_needs_landmarks_and_a_sure_one_does_not(session: Session) -> None:
    found = [(EMPTY, 0.79), (OBJECT, 0.4), (ELSEWHERE, 0.8)]
    boxes, sure = detect_confirmed(Sure(found), session, IMAGE)
    np.testing.assert_array_equal(boxes, [OBJECT, ELSEWHERE])
    assert sure.tolist() == [False, True]
    boxes, sure = detect_confirmed(Sure(found, confident_score=0.0), session, IMAGE)
    np.testing.assert_array_equal(boxes, [place for place, _ in found])
    assert not sure.any()


def test_a_doubtful_box_on_what_is_followed_is_believed(session: Session) -> None:
    near, far = np.array([30.0, 10, 100, 80]), np.array([60.0, 10, 130, 80])  # 50 of 90 columns are shared, 20 of 120
    detector = Sure([(near, 0.4), (far, 0.4)])
    boxes, sure = detect_confirmed(detector, session, IMAGE, known=EMPTY[None])
    np.testing.assert_array_equal(boxes, [near])
    assert sure.tolist() == [False]


def test_a_part_of_what_is_followed_says_that_the_whole_is_there(session: Session) -> None:
    part, beside = np.array([20.0, 20, 40, 40]), np.array([70.0, 20, 90, 40])
    followed = np.stack([EMPTY, ELSEWHERE])
    found = detect_confirmed(Sure([(part, 0.4), (beside, 0.4)]), session, IMAGE, known=followed)
    np.testing.assert_array_equal(found.boxes, [EMPTY])
    assert found.sure.tolist() == [False]
