from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.detection.open import named_files, open_detector
from cunet_deploy.errors import InputError

IMAGE = np.zeros((9, 9, 3), np.uint8)

BY_FRAME = {
    "boxes.csv": "frame,x0,y0,x1,y1,colour\n0,1,2,3,4,red\n2,5,6,7,8,blue\n0,10,20,30.5,40,red\n3,,,,,\n",
    "boxes.jsonl": '{"frame":0,"box":[1,2,3,4]}\n\n{"frame":2,"box":[5,6,7,8],"id":3}\n'
    '{"frame":0,"box":[10,20,30.5,40]}\n{"frame":3,"box":null}\n',
    "list.json": '[{"frame":0,"box":[1,2,3,4]},{"frame":2,"box":[5,6,7,8]},{"frame":0,"box":[10,20,30.5,40]}]',
    "table.json": '{"0": [[1,2,3,4],[10,20,30.5,40]], "2": [[5,6,7,8]], "3": []}',
}
BY_FILE = {
    "boxes.csv": "file,x0,y0,x1,y1\nphotos/a.jpg,1,2,3,4\nb.png,5,6,7,8\n",
    "boxes.jsonl": '{"file":"photos/a.jpg","box":[1,2,3,4]}\n{"file":"b.png","box":[5,6,7,8]}\n',
    "table.json": '{"photos/a.jpg": [[1,2,3,4]], "b.png": [[5,6,7,8]]}',
}


@pytest.mark.parametrize("name", BY_FRAME)
def test_boxes_are_given_by_frame(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BY_FRAME[name])
    detector = GivenBoxes.read(tmp_path / name)
    assert detector.exact
    boxes, scores = detector.detect(IMAGE, 0)
    assert boxes.tolist() == [[1, 2, 3, 4], [10, 20, 30.5, 40]]
    assert scores.tolist() == [1, 1]
    assert detector.detect(IMAGE, 2)[0].tolist() == [[5, 6, 7, 8]]
    for empty in (1, 3):
        assert detector.detect(IMAGE, empty)[0].shape == (0, 4)


@pytest.mark.parametrize("divider", [";", "\t"])
def test_boxes_that_excel_writes_are_read(tmp_path: Path, divider: str) -> None:
    (tmp_path / "boxes.csv").write_text(BY_FRAME["boxes.csv"].replace(",", divider), "utf-16")
    detector = GivenBoxes.read(tmp_path / "boxes.csv")
    assert detector.detect(IMAGE, 0)[0].tolist() == [[1, 2, 3, 4], [10, 20, 30.5, 40]]


@pytest.mark.parametrize("name", BY_FILE)
def test_boxes_are_given_by_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BY_FILE[name])
    detector = GivenBoxes.read(tmp_path / name)
    assert detector.detect(IMAGE, 1, "a.jpg")[0].tolist() == [[1, 2, 3, 4]]
    assert detector.detect(IMAGE, 0, "b.png")[0].tolist() == [[5, 6, 7, 8]]
    assert len(detector.detect(IMAGE, 0, "c.png")[0]) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", "a,b\n1,2\n", "has no 'x0'"),
        ("b.csv", "x0,y0,x1,y1\n1,2,3,4\n", "has no 'frame'"),
        ("b.csv", "frame,x0,y0,x1,y1\n0,1,2,three,4\n", "three"),
        ("b.csv", "frame;x0;y0;x1;y1\n0;1,5;2;3;4\n", "line 2: .*'1,5'; decimals are written with a point"),
        ("b.csv", "frame,x0,y0,x1,y1\n0,5,2,3,4\n", "line 2: .* is not a box"),
        ("b.csv", "frame,x0,y0,x1,y1\n0,1,2,inf,4\n", "line 2: .* is not a box"),
        ("b.csv", "frame,x0,y0,x1,y1\n0,1,2\n", "expected 'frame'"),
        ("b.csv", "frame,x0,y0,x1,y1\n", "holds no boxes"),
        ("b.jsonl", '{"frame":0,"box":[1,2,3]}\n', "line 1: .* is not a box"),
        ("b.jsonl", '{"frame":0,"bo', "expected 'frame'"),
        ("b.json", "[1, 2]", "expected object, got int"),
        ("b.json", "3", "expected object, got int"),
        ("b.json", '{"a.jpg": [1, 2, 3, 4]}', "expected 'frame'"),
        ("b.txt", "1 2 3 4", r"\.csv, \.jsonl or \.json"),
        ("b.csv", b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_another_form_is_refused_by_name(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"{name}: .*{message}"):
        GivenBoxes.read(path)


def test_boxes_of_other_sources_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    one = np.array([[1.0, 2, 3, 4]])
    by_file, by_frame = GivenBoxes({"a.jpg": one, "b.jpg": one}, "b.csv"), GivenBoxes({3: one, 9: one}, "b.csv")
    by_file.check_source("the images", ["a.jpg", "b.jpg", "c.jpg"], 3)
    by_frame.check_source("clip.mp4", [], 10)
    by_frame.check_source("camera", [], None)
    GivenBoxes({"a.jpg": one, 3: one}).check_source("camera", [], None)
    assert not caplog.records
    by_file.check_source("a.jpg", ["a.jpg"], 1)
    by_frame.check_source("clip.mp4", [], 4)
    assert [record.message for record in caplog.records] == [
        "b.csv: of 2 frames or files in it, 1 are of a.jpg",
        "b.csv: of 2 frames or files in it, 1 are of clip.mp4",
    ]
    for detector, files, count, message in (
        (by_file, ["A.jpg"], 1, "of x; expected file names such as 'A.jpg', found 'a.jpg'"),
        (by_file, [], 3, "of x; expected frames 0 to 2, found 'a.jpg'"),
        (by_file, [], None, "of x; expected frame numbers, found 'a.jpg'"),
        (by_frame, [], 3, "of x; expected frames 0 to 2, found 3"),
    ):
        with pytest.raises(InputError, match=f"b.csv: none of its boxes is {message}"):
            detector.check_source("x", files, count)


def test_the_command_lines_word_opens_them(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"0": [[1, 2, 3, 4]]}))
    assert len(open_detector(f"boxes:{path}").detect(IMAGE, 0)[0]) == 1


@pytest.mark.parametrize("spec", ["haar", "yunet", "boxes:", "cascade:face.xml", "full:", "full:x", ":x", ""])
def test_an_unknown_detector_lists_the_known_ones(spec: str) -> None:
    with pytest.raises(InputError, match=r"expected one of NAME\|PATH, full, boxes:FILE, yunet:FILE, onnx:FILE"):
        open_detector(spec)


@pytest.mark.parametrize("kind", ["boxes", "yunet", "onnx"])
def test_a_missing_or_empty_file_is_bad_input(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file.onnx"
    with pytest.raises(InputError, match="there is no file"):
        open_detector(f"{kind}:{path}")
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        open_detector(f"{kind}:{path}")


def test_a_path_that_exists_comes_before_a_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.csv").write_text("frame,x0,y0,x1,y1\n0,1,2,3,4\n")
    assert named_files("boxes:b.csv") == (Path("b.csv"),)
    assert named_files("full") == named_files(None) == ()
    (tmp_path / "boxes:b.csv").touch()
    assert named_files("boxes:b.csv") == (Path("boxes:b.csv"),)


@pytest.mark.parametrize("spec", ["a" * 5000, "boxes:" + "a" * 5000, "a/" * 3000, "a\0b", "yunet:a\0b"])
def test_what_cannot_be_a_path_is_bad_input(spec: str) -> None:
    with pytest.raises(InputError, match=r"there is no file|not known"):
        open_detector(spec)
