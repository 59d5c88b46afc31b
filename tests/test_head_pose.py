"""Head pose from 68 landmarks: its convention, sides, what is no face, and what it is written into."""

from __future__ import annotations

import csv
import io
import json

import cv2
import numpy as np
import pytest
from dots import DOTS

from cunet_deploy import Frame, Landmarks
from cunet_deploy.head_pose import head_at, head_pose
from cunet_deploy.media.writers.csv_table import csv_header, csv_lines
from cunet_deploy.media.writers.jsonl import json_lines
from cunet_deploy.skeletons import IBUG68


def turned(yaw: float, pitch: float, roll: float, distance: float = 6.0) -> np.ndarray:
    """(68, 2) pixels of a head that is turned about the vertical, then down, then in the picture."""
    head = head_at(yaw)  # x to the right, y up, z to the camera
    for axis, angle in (((0, 1, 0), yaw), ((1, 0, 0), pitch), ((0, 0, 1), roll)):
        head = head @ cv2.Rodrigues(np.radians(angle) * np.array(axis, np.float64))[0].T
    seen = head[:, :2] / (distance - head[:, 2:]) * [1, -1]
    return np.asarray(np.asarray(seen * 700 + [320, 240]))


def found(points: list[np.ndarray]) -> Landmarks:
    count = len(points)
    stacked = np.array(points, np.float32).reshape(count, -1, 2)
    skeleton = IBUG68 if stacked.shape[1] == 68 else DOTS
    scores = np.ones((count, len(skeleton)), np.float32)
    return Landmarks(stacked, scores, np.ones((count, 4), np.float32), skeleton, np.arange(count))


@pytest.mark.parametrize("yaw", range(-90, 91, 30))
def test_a_head_that_was_turned_is_found_turned(yaw: float) -> None:
    poses = [(yaw, pitch, roll) for pitch, roll in ((0, 0), (20, 10), (-25, -30), (5, 170))]
    angles = head_pose(np.stack([turned(*pose) for pose in poses]))
    assert np.abs(angles - poses).max() < 4  # the camera is nearer or farther than is assumed


@pytest.mark.parametrize("distance", [3.0, 12.0])
def test_the_distance_of_the_camera_matters_little(distance: float) -> None:
    angles = head_pose(turned(35, 10, 5, distance)[None])
    assert np.abs(angles[0] - [35, 10, 5]).max() < 6


def test_the_picture_says_which_way_is_positive() -> None:
    right, down = turned(40, 0, 0), turned(0, 30, 0)
    nose, contour = right[30], right[[0, 16]]
    assert nose[0] > contour[:, 0].mean() + 20  # the nose moves to the right of the picture
    assert down[30, 1] > turned(0, 0, 0)[30, 1]
    left_eye, right_eye = turned(0, 0, 20)[[45, 36]]
    assert left_eye[1] < right_eye[1]  # counter-clockwise: the right end of the eyes' line goes up


def test_a_mirror_image_looks_the_other_way() -> None:
    face = turned(55, -12, 8) + np.random.default_rng(0).normal(0, 2, (68, 2))
    mirrored = (face * [-1, 1])[IBUG68.flip_order]
    one, other = head_pose(np.stack([face, mirrored]))
    np.testing.assert_allclose(one, other * [-1, 1, -1], atol=1e-3)


def test_what_is_no_face_has_no_pose() -> None:
    face, rng = turned(0, 0, 0), np.random.default_rng(1)
    partly = face.copy()
    partly[7] = np.nan
    nothing = [partly, np.full((68, 2), 5.0), np.stack([face[:, 0], np.zeros(68)], axis=1), rng.uniform(0, 99, (68, 2))]
    assert np.isnan(head_pose(np.stack(nothing))).all()
    assert head_pose(np.zeros((0, 68, 2))).shape == (0, 3)


def test_landmarks_have_a_pose_when_they_are_asked() -> None:
    faces = found([turned(30, 5, 0), turned(-70, 0, 0)])
    assert "pose" not in vars(faces)
    assert faces.yaw == pytest.approx([30, -70], abs=3)
    np.testing.assert_array_equal(np.stack([faces.yaw, faces.pitch, faces.roll], axis=1), faces.pose)
    assert np.isnan(found([np.ones((5, 2))]).pose).all()
    assert Landmarks.empty(IBUG68).yaw.shape == (0,)


def test_results_of_faces_have_the_angles_and_others_do_not() -> None:
    faces = found([turned(30, 5, -3), np.full((68, 2), 7.0)])
    frame = Frame(4, 160.0, np.zeros((9, 9, 3), np.uint8), faces)
    good, none = map(json.loads, json_lines(frame).splitlines())
    assert [good[key] for key in ("yaw", "pitch", "roll")] == pytest.approx(faces.pose[0].tolist(), abs=0.06)
    assert [none[key] for key in ("yaw", "pitch", "roll")] == [None] * 3
    empty = Frame(5, 200.0, frame.image, Landmarks.empty(IBUG68))
    table = csv_header(IBUG68, named=False) + csv_lines(frame) + csv_lines(empty)
    rows = list(csv.DictReader(io.StringIO(table)))
    assert float(rows[0]["yaw"]) == good["yaw"]
    assert [row["roll"] for row in rows[1:]] == ["", ""]
    assert all(len(row) == 7 + 3 * 68 + 4 and None not in row and row["note"] == "" for row in rows)
    dots = Frame(0, 0.0, frame.image, found([np.ones((5, 2))]))
    assert "yaw" not in json_lines(dots) + csv_header(DOTS, named=True)
