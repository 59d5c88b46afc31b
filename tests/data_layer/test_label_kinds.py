"""Labels as people have them: what can be understood is read, the rest is named row by row, and no number is wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.checks import usable_examples
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import MPII16, Skeleton

NAMES = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
TORSO = Skeleton("torso", NAMES, (), ())
KEYPOINTS = [10, 10, 2, 30, 10, 2, 14, 50, 2, 28, 50, 2]
POINTS = [[10, 10], [30, 10], [14, 50], [28, 50]]


def photo(path: Path, width: int = 64, height: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def write(folder: Path, *changes: dict[str, Any], images: list[dict[str, Any]] | None = None, **more: Any) -> Path:
    """Two photos with a person each, by default; ``changes`` are those of the annotations."""
    for name in ("a.jpg", "b.jpg"):
        photo(folder / "images" / name)
    named = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    rows = [
        {"id": 7 + number, "image_id": 1 + number, "category_id": 1, "keypoints": KEYPOINTS, "bbox": [8, 8, 26, 46]}
        | change
        for number, change in enumerate(changes or ({}, {}))
    ]
    table = {
        "images": images or named,
        "annotations": rows,
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
        **more,
    }
    (folder / "labels.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


def read(folder: Path) -> tuple[list[Example], list[str]]:
    """Usable objects of a folder, and what is named as unusable; without ``--skip-bad`` that is the first error."""
    bad: list[str] = []
    found = usable_examples(read_examples(folder, TORSO, bad=bad), PhotoCache(), bad)
    if bad:
        with pytest.raises(InputError) as caught:
            usable_examples(read_examples(folder, TORSO), PhotoCache(), None)
        assert str(caught.value).startswith(bad[0])
    assert len(set(bad)) == len(bad)
    return found, bad


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": "1"},
        {"category_id": "1"},
        {"category_id": None},
        {"bbox": None},
        {"bbox": []},
        {"bbox": [0, 0, 0, 0]},
        {"area": None},
        {"iscrowd": None},
        {"unheard": {"of": [1]}},
    ],
    ids=str,
)
def test_what_can_be_understood_is_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    (first, second), bad = read(write(tmp_path, changes, {}))
    assert first.points.tolist() == second.points.tolist() == POINTS
    assert first.box.tolist() == ([10, 10, 30, 50] if "bbox" in changes else [7.5, 7.5, 33.5, 53.5])
    assert not bad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 9}, "id 7 is of image_id 9, and no image has that id"),
        ({"image_id": None}, "id 7 is of image_id None"),
        ({"category_id": 5}, "id 7 is of category_id 5, and no category has that id"),
        ({"bbox": [8, 8, 26, -46]}, r"id 7 has the bbox \[8.0, 8.0, 26.0, -46.0\]"),
        ({"bbox": [8, 8, 26]}, r"id 7 has the bbox"),
        ({"bbox": [8, 8, 26, float("nan")]}, "expected float, got null"),
        ({"keypoints": KEYPOINTS[:-1]}, "id 7 has 11 numbers in keypoints, expected 12"),
        ({"keypoints": ["10", *KEYPOINTS[1:]]}, "keypoints"),
        ({"keypoints": [float("inf"), *KEYPOINTS[1:]]}, "keypoints"),
        ({"keypoints": [4000, *KEYPOINTS[1:]]}, r"a label at \(4000, 10\) lies far outside the photo"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_row_is_named_and_the_others_are_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (second,), (line,) = read(write(tmp_path, changes, {}))
    assert second.image.name == "b.jpg"
    assert line.startswith(f"{tmp_path / 'labels.json'}, annotation ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(line)


@pytest.mark.parametrize("name", ["gone.jpg", "a\0.jpg"], ids=["missing", "no name that a file can have"])
def test_a_row_of_a_photo_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    images = [{"id": index, "file_name": file} for index, file in enumerate([name, "b.jpg"], 1)]
    (second,), (line,) = read(write(tmp_path, {}, {}, images=images))
    assert second.image.name == "b.jpg"
    assert line.startswith(f"{tmp_path / 'labels.json'}, annotation ")
    assert line.endswith(".jpg: is missing")


@pytest.mark.parametrize(
    "name",
    ["images\\a.jpg", "C:\\data\\images\\a.jpg", "/elsewhere/a.jpg", "http://images.example/train/a.jpg?size=1"],
)
def test_names_of_other_machines_lead_to_the_photo(tmp_path: Path, name: str) -> None:
    images = [{"id": 1, "file_name": name}, {"id": 2, "file_name": "b.jpg"}]
    (first, second), _ = read(write(tmp_path, images=images))
    assert (first.image, first.photo, second.photo) == (tmp_path / "images" / "a.jpg", "a", "b")


@pytest.mark.parametrize(("width", "height", "turned"), [(32, 64, False), (640, 480, False), (64, 80, True)])
def test_a_stated_size_that_is_not_the_photos_is_told(tmp_path: Path, width: int, height: int, turned: bool) -> None:
    images = [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}, {"id": 2, "file_name": "b.jpg"}]
    folder = write(tmp_path, images=images)
    if turned:
        photo(folder / "images" / "a.jpg", height, width)
    (second,), (line,) = read(folder)
    assert second.image.name == "b.jpg"
    assert f"the labels are of a photo of {width} x {height} pixels" in line
    assert "annotation id 7" in line
    assert ("EXIF" in line) is turned


def test_a_byte_order_mark_and_rows_without_keypoints_are_nothing_special(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {}, {"keypoints": None}, {"keypoints": [], "image_id": 1}, {"image_id": 2, "num_keypoints": 0}
    )
    path = folder / "labels.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    examples, bad = read(folder)
    assert [example.image.name for example in examples] == ["a.jpg", "b.jpg"]
    assert len(examples[0].others) == 2
    assert not bad


def test_of_several_categories_those_with_the_landmarks_count(tmp_path: Path) -> None:
    categories = [
        {"id": 1, "name": "person", "keypoints": NAMES},
        {"id": 2, "name": "car"},
        {"id": 3, "name": "mouse", "keypoints": ["snout", "tail"]},
    ]
    changes: list[dict[str, Any]] = [
        {},
        {"category_id": 2, "keypoints": None},
        {"category_id": 3, "keypoints": [1, 2, 2, 3, 4, 2]},
    ]
    rows = [{"image_id": 1, **change} for change in changes]
    (example,), bad = read(write(tmp_path, *rows, categories=categories))
    assert example.points.tolist() == POINTS
    assert not bad


def test_landmarks_that_a_category_lacks_have_no_weight(tmp_path: Path) -> None:
    folder = write(tmp_path)
    example = read_examples(folder, Skeleton("more", (*NAMES, "tail"), (), ()))[0]
    assert example.weights is not None
    assert example.weights.tolist() == [1, 1, 1, 1, 0]
    assert read_examples(folder, TORSO)[0].weights is None


PTS = "version: 1\nn_points: 4\n{{\n{}\n}}\n"


@pytest.mark.parametrize("nowhere", ["-1 -1", "0 0", "-1.0 -1.0"])
def test_points_that_stand_for_nothing_are_not_labelled(
    tmp_path: Path, nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "a.png")
    (tmp_path / "a.pts").write_text(PTS.format(f"10 10\n30 10\n{nowhere}\n28 50"))
    x, y = nowhere.split()
    header = ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")
    (tmp_path / "more").mkdir()
    photo(tmp_path / "more" / "a.png")
    (tmp_path / "more" / "points.csv").write_text(f"image,{header}\na.png,9,9,29,9,{x},{y},27,49\n")
    with caplog.at_level(logging.WARNING, "cunet_deploy"):
        (pts,), (table,) = read_300w(tmp_path, 4), read_examples(tmp_path / "more", TORSO)
    expected = [[9, 9], [29, 9], [np.nan, np.nan], [27, 49]]
    np.testing.assert_array_equal(pts.points, expected)
    np.testing.assert_array_equal(table.points, expected)
    assert pts.box.tolist() == [9, 9, 29, 49]
    told = [record.getMessage() for record in caplog.records]
    assert [line.endswith("1 landmarks at (-1, -1) or (0, 0) were read as not labelled") for line in told] == [True] * 2


def test_joints_of_mpii_that_stand_for_nothing_are_not_labelled(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg", 300, 300)
    joints = [[100 + 5 * number, 60 + 9 * number] for number in range(15)] + [[-1, -1]]
    row = {"image": "a.jpg", "center": [130, 130], "scale": 1.0, "joints": joints, "joints_vis": [1] * 16}
    rows = [row, {**row, "scale": -1.0}, {**row, "joints": joints[:3]}, {**row, "image": "images\\a.jpg"}]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    bad: list[str] = []
    first, last = read_examples(tmp_path, MPII16, bad=bad)
    assert np.flatnonzero(np.isnan(first.points).any(axis=1)).tolist() == [15]
    assert [line.split(":")[0].rpartition(", ")[2] for line in bad] == ["row 2", "row 3"]
    assert last.image == tmp_path / "images" / "a.jpg"


def test_a_box_of_a_list_that_cannot_be_is_named(tmp_path: Path) -> None:
    for name in "abc":
        photo(tmp_path / f"{name}.png")
    rows = {"a.png": [[1, 2, 10, 20, 1]], "b.png": [[1, 2, 10, -20, 1]], "c.png": [[1, 2]], "d.png": []}
    (tmp_path / "faces.json").write_text(json.dumps(rows))
    bad: list[str] = []
    (only,) = read_boxes(tmp_path, bad=bad)
    assert only.image.name == "a.png"
    assert ["b.png" in bad[0], "c.png" in bad[1], "d.png: is missing" in bad[2]] == [True] * 3
    with pytest.raises(InputError, match=r"b\.png: the box .* is not x, y, width and height"):
        read_boxes(tmp_path)


def test_a_point_a_little_outside_the_photo_is_kept(tmp_path: Path) -> None:
    examples, bad = read(write(tmp_path, {"keypoints": [-5, *KEYPOINTS[1:]]}, {}))
    assert examples[0].points[0].tolist() == [-5, 10]
    assert not bad
