from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, make_dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from dots import DOTS, TEMPLATE

from cunet_deploy.errors import InputError, MissingDependencyError
from cunet_deploy.landmarks import Landmarks, coco_category
from cunet_deploy.media import Frame


def landmarks(count: int = 2) -> Landmarks:
    points = np.array([TEMPLATE * 20 + [40 + 80 * i, 60 + 1 / 3] for i in range(count)], np.float32).reshape(-1, 5, 2)
    boxes = np.array([[20 + 80 * i, 40, 60 + 80 * i, 90] for i in range(count)], np.float32).reshape(-1, 4)
    scores = np.linspace(0.5, 0.9, 5 * count, dtype=np.float32).reshape(count, 5)
    return Landmarks(points, scores, boxes, DOTS, np.arange(count, dtype=np.int64) + 7)


def test_shapes_that_do_not_fit_are_refused() -> None:
    found = landmarks()
    with pytest.raises(InputError, match=r"Landmarks\.ids must have shape \(2,\)"):
        Landmarks(found.points, found.scores, found.boxes, DOTS, found.ids[:1])


@pytest.mark.parametrize("count", [0, 2])
def test_numpy_has_points_and_scores(count: int) -> None:
    found = landmarks(count)
    array = found.to_numpy()
    assert array.shape == (count, 5, 3)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[:, :, :2], found.points)
    np.testing.assert_array_equal(array[:, :, 2], found.scores)


def test_dict_is_plain() -> None:
    table = json.loads(json.dumps(landmarks().to_dict()))
    assert table["names"] == list(DOTS.landmarks)
    assert [item["id"] for item in table["objects"]] == [7, 8]
    assert table["objects"][1]["box"] == [100, 40, 140, 90]
    assert landmarks(0).to_dict()["objects"] == []


def test_coco_has_an_annotation_for_each_object() -> None:
    first, second = json.loads(json.dumps(landmarks().to_coco(image_id=12, first_id=30)))
    assert (first["id"], second["id"], second["image_id"], second["category_id"]) == (30, 31, 12, 1)
    assert second["bbox"] == [100.5, 40.5, 40, 50]
    assert second["area"] == 2000
    assert second["track_id"] == 8
    assert second["num_keypoints"] == 5
    assert second["keypoints"][:6] == [100, 40.33, 2, 140, 40.33, 2]
    assert len(second["keypoints"]) == 15
    assert second["score"] == pytest.approx(np.mean(second["keypoint_scores"]), abs=1e-3)
    assert landmarks(0).to_coco() == []


def test_coco_says_which_landmarks_are_hidden_where_scores_tell() -> None:
    found = landmarks()
    scores = found.scores.copy()
    scores[1, 2] = 0.2
    (first, second) = replace(found, scores=scores).to_coco(visible_score=0.25)
    assert first["keypoints"][2::3] == [2] * 5
    assert second["keypoints"][2::3] == [2, 2, 1, 2, 2]
    assert second["num_keypoints"] == 5


def test_coco_counts_edges_from_1() -> None:
    category = coco_category(DOTS)
    assert category["keypoints"] == list(DOTS.landmarks)
    assert category["skeleton"] == [[1, 2], [4, 5], [1, 3]]


def test_a_frame_converts_with_its_number_and_time() -> None:
    frame = Frame(3, 120.0, np.zeros((120, 160, 3), np.uint8), landmarks())
    assert list(frame.to_dict()) == ["frame", "time_ms", "objects", "names"]
    named = Frame(0, 0.0, frame.image, landmarks(), "a.jpg")
    assert named.to_dict()["file"] == "a.jpg"
    coco = json.loads(json.dumps(frame.to_coco()))
    assert coco["images"] == [
        {"id": 3, "file_name": "frame_000003", "width": 160, "height": 120, "time_ms": 120.0},
    ]
    assert {item["image_id"] for item in coco["annotations"]} == {3}
    assert coco["categories"] == [coco_category(DOTS)]
    assert named.to_coco()["images"][0]["file_name"] == "a.jpg"


@dataclass
class OldKeyPoints:
    """As in supervision 0.20."""

    xy: np.ndarray
    class_id: np.ndarray | None = None
    confidence: np.ndarray | None = None
    data: dict[str, Any] = field(default_factory=dict)


NewKeyPoints = make_dataclass(
    "NewKeyPoints",
    [(name, Any, None) for name in ("xy", "class_id", "keypoint_confidence", "detection_confidence", "data")],
)
"""As in supervision 0.31."""


@pytest.mark.parametrize(("kind", "name"), [(OldKeyPoints, "confidence"), (NewKeyPoints, "keypoint_confidence")])
def test_supervision_gets_what_its_version_knows(monkeypatch: pytest.MonkeyPatch, kind: Any, name: str) -> None:
    module = ModuleType("supervision")
    module.KeyPoints = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)
    found = landmarks()
    points = found.to_supervision()
    assert isinstance(points, kind)
    np.testing.assert_array_equal(points.xy, found.points)
    np.testing.assert_array_equal(getattr(points, name), found.scores)
    np.testing.assert_array_equal(points.data["track_id"], [7, 8])


def test_without_supervision_the_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match="pip install supervision"):
        landmarks().to_supervision()
