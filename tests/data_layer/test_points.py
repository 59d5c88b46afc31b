"""Tables of the user's own points."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.data.points import read_points
from cunet_deploy.data.readers import find_layout, read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton

MOUSE = Skeleton("mouse", ("nose", "left_ear", "right_ear", "tail"), ((1, 2),), ((0, 3),))
HEADER = "image,nose_x,nose_y,left_ear_x,left_ear_y,right_ear_x,right_ear_y,tail_x,tail_y"


def table(folder: Path, *lines: str, header: str = HEADER) -> Path:
    (folder / "points.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def test_a_line_is_an_object(tmp_path: Path) -> None:
    table(tmp_path, "cage/1.jpg,1,2,3,4,5,6,70.5,8", "cage/1.jpg,11,12,13,14,15,16,,", "2.jpg,,,,,,,,")
    assert find_layout(tmp_path) == "points"
    first, second = read_examples(tmp_path, MOUSE)
    assert first.image == tmp_path / "cage" / "1.jpg"
    assert first.points.tolist() == [[1, 2], [3, 4], [5, 6], [70.5, 8]]
    assert first.photo == second.photo == "cage/1"
    assert np.isnan(second.points[3]).all()
    assert second.box.tolist() == [11, 12, 15, 16]
    assert len(second.others) == 2


@pytest.mark.parametrize("name", ["day1/1.jpg", "day1\\1.jpg"])
def test_a_part_names_photos_by_their_path(tmp_path: Path, name: str) -> None:
    table(tmp_path, "day1/1.jpg,1,2,3,4,5,6,7,8", "day2/1.jpg,1,2,3,4,5,6,7,8", "2.jpg,1,2,3,4,5,6,7,8")
    (tmp_path / "splits.json").write_text(json.dumps({"test": [name, "2.jpg"]}))
    found = [example.photo for example in read_examples(Path(f"{tmp_path}#test"), MOUSE)]
    assert found == ["day1/1", "2"]


def test_a_part_without_labels_says_which_names_are_expected(tmp_path: Path) -> None:
    table(tmp_path, "1.jpg,1,2,3,4,5,6,7,8")
    (tmp_path / "splits.json").write_text('{"test": ["0001.jpg"]}')
    with pytest.raises(InputError, match=r"splits\.json: no photo of test has labels here; expected .* '1\.jpg'"):
        read_examples(Path(f"{tmp_path}#test"), MOUSE)


@pytest.mark.parametrize("divider", [";", "\t"])
def test_a_table_that_excel_writes_is_read(tmp_path: Path, divider: str) -> None:
    path = table(tmp_path, "1.jpg,1,2,3,4,5,6,70.5,8") / "points.csv"
    path.write_text(path.read_text().replace(",", divider), "utf-16")
    (example,) = read_examples(tmp_path, MOUSE)
    assert example.points.tolist() == [[1, 2], [3, 4], [5, 6], [70.5, 8]]


def test_a_box_may_be_given(tmp_path: Path) -> None:
    table(tmp_path, "1.jpg,1,2,3,4,5,6,7,8,0,0,50,40", "2.jpg,1,2,3,4,5,6,7,8,,,,", header=HEADER + ",x0,y0,x1,y1")
    given, tight = read_examples(tmp_path, MOUSE)
    assert given.box.tolist() == [0, 0, 50, 40]
    assert tight.box.tolist() == [1, 2, 7, 8]


def test_what_infer_writes_for_a_folder_can_be_read(tmp_path: Path) -> None:
    names = ",".join(f"{name}_{part}" for name in MOUSE.landmarks for part in ("x", "y", "score"))
    lines = ["0,1.jpg,0.000,0,1.0,2.0,9.0,8.0,1,2,0.9,3,4,0.9,5,6,0.9,7,8,0.9", "1,2.jpg,1.000,,,,,,,,,,,,,,,,,"]
    table(tmp_path, *lines, header=f"frame,file,time_ms,id,x0,y0,x1,y1,{names}")
    (example,) = read_examples(tmp_path, MOUSE)
    assert example.points.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_json_names_the_points(tmp_path: Path) -> None:
    rows = [
        {"image": "1.jpg", "points": {"nose": [1, 2], "left_ear": [3, 4], "right_ear": [5, 6], "tail": None}},
        {"image": "2.jpg", "points": {"nose": [1, 2], "left_ear": [3, 4], "tail": [9, 9]}, "box": [0, 0, 20, 20]},
    ]
    (tmp_path / "points.json").write_text(json.dumps(rows))
    first, second = read_examples(tmp_path, MOUSE)
    assert np.isnan(first.points[3]).all()
    assert np.isnan(second.points[2]).all()
    assert second.box.tolist() == [0, 0, 20, 20]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1.jpg,a,2,3,4,5,6,7,8"], "line 2: a cell is no number"),
        (["1.jpg,1,2,3,4,5"], "line 2: a cell is no number"),
    ],
)
def test_a_bad_line_is_named_and_left_out_when_asked_for(tmp_path: Path, lines: list[str], message: str) -> None:
    table(tmp_path, *lines, "2.jpg,1,2,3,4,5,6,7,8")
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path, MOUSE)
    bad: list[str] = []
    assert len(read_examples(tmp_path, MOUSE, bad=bad)) == 1
    assert len(bad) == 1


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    table(tmp_path, header=HEADER.replace("tail_y", "tial_y"))
    with pytest.raises(InputError, match=r"points\.csv: has no column 'tail_y'"):
        read_examples(tmp_path, MOUSE)
    table(tmp_path, header=HEADER.replace("image", "photo"))
    with pytest.raises(InputError, match=r"points\.csv: has no column 'image'"):
        read_examples(tmp_path, MOUSE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a list of"),
        ("{}", "is not a list of"),
        ('[{"image": "1.jpg"}]', 'object 1: expected "image" and "points"'),
        ('[{"image": "1.jpg", "points": {"snout": [1, 2]}}]', "'snout' is no landmark"),
        ('[{"image": "1.jpg", "points": {"nose": [1, 2]}, "box": [5, 5, 5, 9]}]', "has no area"),
    ],
)
def test_a_bad_json_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "points.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path, MOUSE)


def test_an_object_with_an_unknown_landmark_can_be_left_out(tmp_path: Path) -> None:
    rows = [{"image": f"{name}.jpg", "points": {name: [1, 2], "tail": [8, 9]}} for name in ("nose", "snout")]
    (tmp_path / "points.json").write_text(json.dumps(rows))
    bad: list[str] = []
    found = read_points(tmp_path / "points.json", MOUSE, bad)
    assert [example.image.name for example in found] == ["nose.jpg"]
    assert len(bad) == 1
    assert "points.json, object 2: 'snout' is no landmark; expected some of nose" in bad[0]
