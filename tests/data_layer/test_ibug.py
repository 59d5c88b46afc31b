"""The 300-W layout on files of every header style that is in circulation."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy.data.examples import split_by_photo
from cunet_deploy.data.faces import read_faces
from cunet_deploy.data.ibug import read_300w, read_pts
from cunet_deploy.data.readers import find_layout
from cunet_deploy.errors import InputError

POINTS = "1 1\n11 1\n11.5 21\n"


@pytest.mark.parametrize(
    "text",
    [
        f"version: 1\nn_points: 3\n{{\n{POINTS}}}\n",
        f"version: 1\r\nn_points:  3\r\n{{\r\n{POINTS}}}",
        f"n_points 3\n{{\n{POINTS}}}",
        f"version: 1\nn_points: 3 {{\n{POINTS}}}\n",
        POINTS,
        "version: 1\nn_points: 3\n{\n1,1\n11,\t1\n11.5  21 # chin\n}\n",
        f"// made by hand\nversion: 1\nn_points: 3\n{{\n{POINTS}}}\n\n",
        f"\ufeffversion: 1\nn_points: 3\n{{\n{POINTS}}}\n",
    ],
    ids=["300-W", "CRLF", "no colon", "brace beside", "bare", "separators", "comment", "byte order mark"],
)
def test_every_header_style_gives_the_same_zero_based_points(tmp_path: Path, text: str) -> None:
    path = tmp_path / "face.pts"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_pts(path).tolist() == [[0, 0], [10, 0], [10.5, 20]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nn_points: 3\n{\n1 1\n2 2\n", "cut off"),
        ("version: 1\nn_points: 3\n{\n1 1\n2 2\n}", "holds 2 landmarks, expected 3"),
        ("version: 1\nn_points: 2\n{\n1 1\nx 2\n}", "not two numbers"),
        ("version: 1\nn_points: 2\n{\n1 1\nnan 2\n}", "finite"),
        ("", "holds 0 landmarks"),
    ],
    ids=["no closing brace", "too few", "words", "nan", "empty"],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "face.pts"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_pts(path)
    assert "face.pts" in str(caught.value)
    assert str(caught.value).endswith("or skip it")
    assert caught.value.option == "skip_bad"


def test_a_file_of_other_landmarks_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "face.pts"
    path.write_text("version: 1\nn_points: 2\n{\n1 1\n2 2\n}")
    with pytest.raises(InputError, match="has 2 landmarks, and the model 14; give a data set of the same ones"):
        read_pts(path, 14)


def test_binary_and_missing_files_are_input_errors(tmp_path: Path) -> None:
    (tmp_path / "a.pts").write_bytes(b"\xff\xfe\x00\x81")
    for name, message in [("a.pts", "not a text file"), ("b.pts", "cannot be read")]:
        with pytest.raises(InputError, match=message):
            read_pts(tmp_path / name)


def write_face(folder: Path, name: str, shift: float = 0.0) -> None:
    cv2.imwrite(str(folder / f"{name}.png"), np.full((40, 40, 3), 90, np.uint8))
    rows = "\n".join(f"{x + shift} {y}" for x, y in [(5, 5), (20, 5), (12, 25)])
    (folder / f"{name}.pts").write_text(f"version: 1\nn_points: 3\n{{\n{rows}\n}}\n")


def test_faces_of_one_photo_stay_together_in_a_split(tmp_path: Path) -> None:
    for photo in range(30):
        for face in (1, 2):
            write_face(tmp_path, f"{photo:03d}_{face}", shift=face)
    kept, held = split_by_photo(read_300w(tmp_path, 3), 0.3)
    assert len(kept) + len(held) == 60
    assert 0 < len(held) < 40
    assert not {example.photo for example in kept} & {example.photo for example in held}


def test_numbered_photos_of_other_300w_folders_are_photos_of_their_own(tmp_path: Path) -> None:
    for number in range(30):
        write_face(tmp_path, f"image_{number:04d}")
    kept, held = split_by_photo(read_300w(tmp_path, 3), 0.3)
    assert kept
    assert held


@pytest.mark.parametrize(
    ("names", "photos"),
    [
        (["134212_1", "134212_2", "134213_1"], 2),
        (["image_003_1", "image_003_2", "image_004"], 2),
        (["frame_1_1", "frame_1_2", "frame_2_1"], 2),
        (["frame_1", "frame_2", "frame_30"], 3),
        (["134212_0", "134212_01", "134212_100"], 3),
        ([f"134212_{face}" for face in range(1, 21)], 1),
        ([f"clip7_{frame}" for frame in range(1, 22)], 21),
    ],
    ids=["AFW and HELEN", "IBUG", "faces of numbered frames", "frames", "other numbers", "twenty faces", "a series"],
)
def test_names_tell_which_files_show_one_photo(tmp_path: Path, names: list[str], photos: int) -> None:
    for name in names:
        write_face(tmp_path, name)
    (tmp_path / "faces.json").write_text(json.dumps({f"{name}.png": [[1, 2, 10, 20, 0.9]] for name in names}))
    assert len({example.photo for example in read_300w(tmp_path, 3)}) == photos
    assert len({photo.photo for photo in read_faces(tmp_path)}) == photos


def test_known_faces_of_the_photo_come_from_the_list_beside_it(tmp_path: Path) -> None:
    write_face(tmp_path, "one_1")
    (tmp_path / "faces.json").write_text(json.dumps({"one_1.png": [[1, 2, 10, 20, 0.9], [30, 30, 5, 5, 0.8]]}))
    (example,) = read_300w(tmp_path, 3)
    assert example.others.tolist() == [[1, 2, 11, 22], [30, 30, 35, 35]]
    assert example.box.tolist() == [4, 4, 19, 24]


def test_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    write_face(tmp_path, "one")
    for suffix in (".png", ".pts"):
        (tmp_path / f"one{suffix}").rename(tmp_path / f"one{suffix.upper()}")
    assert find_layout(tmp_path) == "300w"
    assert [example.image.name for example in read_300w(tmp_path, 3)] == ["one.PNG"]


def test_bad_files_stop_the_reader_or_are_collected(tmp_path: Path) -> None:
    write_face(tmp_path, "good_1")
    write_face(tmp_path, "lost_1")
    (tmp_path / "lost_1.png").unlink()
    (tmp_path / "broken_1.pts").write_text("{ 1 1")
    with pytest.raises(InputError, match=r"broken_1\.pts"):
        read_300w(tmp_path, 3)
    bad: list[str] = []
    assert len(read_300w(tmp_path, 3, bad=bad)) == 1
    assert len(bad) == 2


def test_a_folder_without_labels_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photo with a usable"):
        read_300w(tmp_path, 3)
    with pytest.raises(InputError, match="not a folder"):
        read_300w(tmp_path / "nowhere", 3)
