from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from dots import DOTS, TEMPLATE

from cunet_deploy.data.ibug import read_pts
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.landmarks import Landmarks, coco_category, format_pts
from cunet_deploy.media import Frame
from cunet_deploy.media.writers.coco import CocoFile
from cunet_deploy.media.writers.pts import PtsFiles


def _frame(index: int, count: int = 1, name: str = "") -> Frame:
    points = np.array([TEMPLATE * 20 + [40 + 80 * i, 60 + 1 / 3] for i in range(count)], np.float32).reshape(-1, 5, 2)
    boxes = np.array([[20 + 80 * i, 40, 60 + 80 * i, 80] for i in range(count)], np.float32).reshape(-1, 4)
    found = Landmarks(points, np.full((count, 5), 0.75, np.float32), boxes, DOTS, np.arange(count, dtype=np.int64))
    return Frame(index, index * 40.0, np.zeros((120, 160, 3), np.uint8), found, name)


def test_a_coco_file_has_all_frames_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.json"
    with CocoFile(path, DOTS, overwrite=False) as file:
        for index, count in enumerate((2, 0, 1)):
            file.write(_frame(index, count))
    table = json.loads(path.read_text())
    assert [(item["id"], item["image_id"], item["track_id"]) for item in table["annotations"]] == [
        (1, 0, 0),
        (2, 0, 1),
        (3, 2, 0),
    ]
    assert [(item["id"], item["file_name"]) for item in table["images"]] == [
        (0, "frame_000000"),
        (1, "frame_000001"),
        (2, "frame_000002"),
    ]
    assert table["categories"] == [coco_category(DOTS)]
    assert list(path.parent.iterdir()) == [path]


def test_a_coco_file_without_objects_or_frames_is_whole(tmp_path: Path) -> None:
    for count in (0, 1):
        with CocoFile(tmp_path / f"{count}.json", DOTS, overwrite=False) as file:
            for index in range(count):
                file.write(_frame(index, 0, 'a "ü".jpg'))
        table = json.loads((tmp_path / f"{count}.json").read_text(encoding="utf-8"))
        assert table["annotations"] == []
        assert [item["file_name"] for item in table["images"]] == ['a "ü".jpg'] * count


def test_an_error_leaves_no_coco_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), CocoFile(tmp_path / "out.json", DOTS, overwrite=False) as file:
        file.write(_frame(0))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []

    def end(self: CocoFile) -> None:
        raise CunetError("full")

    monkeypatch.setattr(CocoFile, "_end", end)  # half a JSON file is of no use
    with pytest.raises(CunetError, match="full"), CocoFile(tmp_path / "out.json", DOTS, overwrite=False) as file:
        file.write(_frame(0))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_by_the_name_of_the_coco_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(CunetError, match=r"out\.json: cannot be written: the disk is full"),
        CocoFile(tmp_path / "out.json", DOTS, overwrite=False) as file,
    ):
        monkeypatch.setattr(file._spool, "write", write)
        file.write(_frame(0))


def test_pts_files_are_read_back_as_they_were(tmp_path: Path) -> None:
    frame = _frame(12, 2)
    for number, text in enumerate(map(format_pts, frame.landmarks.points)):
        path = tmp_path / f"{number}.pts"
        path.write_text(text)
        np.testing.assert_allclose(read_pts(path, 5), frame.landmarks.points[number], atol=1e-3)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_object_of_each_frame_has_a_pts_file(tmp_path: Path) -> None:
    files = PtsFiles(tmp_path / "out", overwrite=False)
    for index, count in enumerate((2, 0, 1)):
        files.write(_frame(index, count))
    assert names(tmp_path / "out") == ["frame_000000_1.pts", "frame_000000_2.pts", "frame_000002.pts"]


def test_pts_files_are_called_after_images(tmp_path: Path) -> None:
    files = PtsFiles(tmp_path, overwrite=False)
    files.write(_frame(0, 1, "a.jpg"))
    files.write(_frame(1, 2, "b.png"))
    assert names(tmp_path) == ["a.pts", "b_1.pts", "b_2.pts"]
    with pytest.raises(InputError, match="two images have landmarks for this file"):
        files.write(_frame(2, 1, "b_1.png"))
    with pytest.raises(InputError, match="or overwrite it"):
        PtsFiles(tmp_path, overwrite=False).write(_frame(0, 1, "a.jpg"))


def test_the_pts_file_of_one_image_can_be_named(tmp_path: Path) -> None:
    PtsFiles(tmp_path / "x.pts", overwrite=False).write(_frame(0, 1, "a.jpg"))
    PtsFiles(tmp_path / "y.pts", overwrite=False).write(_frame(0, 2, "a.jpg"))
    assert names(tmp_path) == ["x.pts", "y_1.pts", "y_2.pts"]
