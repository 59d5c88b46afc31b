from __future__ import annotations

import csv
import errno
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clips import write_clip
from dots import DOTS, TEMPLATE

from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.media import (
    FORMATS,
    Frame,
    LeftOut,
    OutputPlan,
    Outputs,
    VideoFile,
    open_source,
    plan_outputs,
    read_image,
)
from cunet_deploy.media.writers.coco import CocoFile
from cunet_deploy.media.writers.csv_table import csv_header
from cunet_deploy.media.writers.video import VideoWriter


@pytest.fixture
def clip(tmp_path: Path) -> VideoFile:
    source = open_source(write_clip(tmp_path / "clip.avi", 1))
    assert isinstance(source, VideoFile)
    return source


def _frame(index: int, count: int = 1, name: str = "", size: tuple[int, int] = (120, 160)) -> Frame:
    points = np.array([TEMPLATE * 20 + [40 + 80 * i, 60 + 1 / 3] for i in range(count)], np.float32).reshape(-1, 5, 2)
    boxes = np.array([[20 + 80 * i, 40, 60 + 80 * i, 80] for i in range(count)], np.float32).reshape(-1, 4)
    found = Landmarks(points, np.full((count, 5), 0.75, np.float32), boxes, DOTS, np.arange(count, dtype=np.int64) + 7)
    return Frame(index, index * 40.0, np.full((*size, 3), 90, np.uint8), found, name)


def _plan(*records: Path, video: Path | None = None) -> OutputPlan:
    """A plan with files of landmarks, each of the format of its suffix."""
    formats = {row.suffix: name for name, row in FORMATS.items()}
    return OutputPlan({formats[path.suffix]: path for path in records}, video=video)


def _write(plan: OutputPlan, frames: list[Frame], *, overwrite: bool = False, named: bool = False) -> None:
    with Outputs(plan, DOTS, 25, named=named, overwrite=overwrite) as outputs:
        for frame in frames:
            outputs.write(frame)


def test_frames_of_a_video_become_numbered_images(clip: VideoFile, tmp_path: Path) -> None:
    plan = plan_outputs(clip, tmp_path / "x" / "f%03d.png")
    assert [path.name for path in plan.files] == ["f%03d.png", "landmarks.jsonl", "landmarks.csv"]
    _write(plan, [_frame(0), _frame(1), _frame(7)])
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        *("f000.png", "f001.png", "f007.png", "landmarks.csv", "landmarks.jsonl"),
    ]
    with pytest.raises(InputError, match=r"f000\.png: exists already"):
        _write(plan, [_frame(0)])
    for name in ("%.png", "%d%d.png", "%%.png"):
        with pytest.raises(InputError, match=r"a name such as %06d\.png"):
            plan_outputs(clip, tmp_path / name)


def test_json_lines_have_a_line_for_each_object_and_for_an_empty_frame(tmp_path: Path) -> None:
    _write(_plan(tmp_path / "out.jsonl"), [_frame(0, 2), _frame(1, 0), _frame(2)])
    text = (tmp_path / "out.jsonl").read_text()
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["frame"], line["id"]) for line in lines] == [(0, 7), (0, 8), (1, None), (2, 7)]
    assert list(lines[0]) == ["frame", "time_ms", "id", "box", "landmarks", "scores"]
    assert lines[0]["box"] == [20, 40, 60, 80]
    assert lines[0]["landmarks"][0] == [20, 40.33]
    assert lines[0]["scores"] == [0.75] * 5
    assert lines[2] == {"frame": 1, "time_ms": 40.0, "id": None, "box": None, "landmarks": [], "scores": []}


def test_csv_has_the_same_in_columns(tmp_path: Path) -> None:
    frames = [_frame(0, 2, 'a, "b".jpg'), _frame(1, 0, "c.jpg")]
    _write(_plan(tmp_path / "out.csv"), frames, named=True)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["file"], row["id"]) for row in rows] == [
        ("0", 'a, "b".jpg', "7"),
        ("0", 'a, "b".jpg', "8"),
        ("1", "c.jpg", ""),
    ]
    assert float(rows[1]["x0"]) == 100
    assert (float(rows[0]["left_top_x"]), float(rows[0]["left_top_y"])) == (20, 40.33)
    assert float(rows[0]["right_bottom_score"]) == 0.75
    assert all(None not in row and None not in row.values() for row in rows)


def test_names_of_landmarks_may_hold_what_divides_columns() -> None:
    odd = replace(DOTS, landmarks=('ear, "outer"', "a;b", "c", "d", "e"))
    header = next(csv.reader([csv_header(odd, named=False)]))
    assert header[7:10] == ['ear, "outer"_x', 'ear, "outer"_y', 'ear, "outer"_score']
    assert len(header) == 3 + 4 + 3 * 5 + 1


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_records_can_be_given_back_as_boxes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    plan = _plan(path)
    _write(plan, [_frame(0, 2), _frame(1, 0)])
    boxes = GivenBoxes.read(path)
    image = np.zeros((9, 9, 3), np.uint8)
    np.testing.assert_allclose(boxes.detect(image, 0)[0], [[20, 40, 60, 80], [100, 40, 140, 80]])
    assert len(boxes.detect(image, 1)[0]) == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi", ".m4v"])
def test_the_annotated_video_has_every_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    _write(OutputPlan(video=path), [_frame(i) for i in range(12)])
    pictures = list(open_source(path))
    assert len(pictures) == 12
    assert np.abs(pictures[5].image.astype(int) - _frame(5).landmarks.plot(_frame(5).image)).mean() < 4
    assert list(tmp_path.iterdir()) == [path]


def test_the_video_is_drawn_into_the_frames_themselves_unless_they_are_read_only(tmp_path: Path) -> None:
    given, locked, plain = _frame(0), _frame(1), np.full((120, 160, 3), 90, np.uint8)
    locked.image.flags.writeable = False
    _write(OutputPlan(video=tmp_path / "out.avi"), [given, locked])
    np.testing.assert_array_equal(given.image, given.landmarks.plot(plain))
    np.testing.assert_array_equal(locked.image, plain)
    _write(_plan(tmp_path / "out.jsonl"), [frame := _frame(2)])
    np.testing.assert_array_equal(frame.image, plain)


def test_frames_of_another_size_fit_into_the_video(tmp_path: Path) -> None:
    _write(OutputPlan(video=tmp_path / "out.mp4"), [_frame(0), _frame(1, size=(60, 80)), _frame(2)])
    assert len(list(open_source(tmp_path / "out.mp4"))) == 3


def test_annotated_images_are_written_by_name(tmp_path: Path) -> None:
    plan = OutputPlan(images=(tmp_path / "x" / "a.png", tmp_path / "x" / "b.jpg"))
    _write(plan, [_frame(0, name="a.png"), _frame(1, name="b.jpg")], named=True)
    assert (read_image(plan.images[0]) != 90).any()
    assert plan.images[1].stat().st_size > 500


def test_existing_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("mine")
    plan = _plan(tmp_path / "out.jsonl", tmp_path / "out.csv", video=tmp_path / "out.mp4")
    with pytest.raises(InputError, match=r"out\.csv: exists already; choose another name, or overwrite it"):
        _write(plan, [_frame(0)])
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "mine"
    _write(plan, [_frame(0)], overwrite=True)
    assert (tmp_path / "out.csv").read_text().startswith("frame,time_ms")


def test_an_error_leaves_no_file_behind(tmp_path: Path) -> None:
    plan = _plan(tmp_path / "out.jsonl", tmp_path / "out.csv", video=tmp_path / "out.mp4")
    with pytest.raises(ZeroDivisionError), Outputs(plan, DOTS, 25, named=False, overwrite=False) as outputs:
        outputs.write(_frame(0))
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_of_two_errors_the_first_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def close(self: VideoWriter) -> None:
        raise CunetError("only 0 of 1 frames were written")

    monkeypatch.setattr(VideoWriter, "close", close)
    plan = _plan(tmp_path / "out.jsonl", video=tmp_path / "out.avi")
    outputs = Outputs(plan, DOTS, 25, named=False, overwrite=False)
    with pytest.raises(CunetError, match="cannot be written: the disk is full"), outputs:
        outputs.write(_frame(0))
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(CunetError, match="only 0 of 1"):
        _write(plan, [_frame(0)])
    assert list(tmp_path.iterdir()) == [tmp_path / "out.jsonl"]  # the video alone would be of no use


def test_a_video_of_which_nothing_plays_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoWriter, "_plays", lambda self: False)
    with pytest.raises(CunetError, match=r"[/\\]out\.avi: not all of 3 frames"):
        _write(OutputPlan(video=tmp_path / "out.avi"), [_frame(index) for index in range(3)])
    assert list(tmp_path.iterdir()) == []


def test_existing_pts_files_are_refused(clip: VideoFile, tmp_path: Path) -> None:
    plan = plan_outputs(clip, tmp_path / "out.mp4", formats=("pts",), draw=False)
    _write(plan, [_frame(0)])
    with pytest.raises(InputError, match=r"frame_000000\.pts: exists already"):
        _write(plan, [_frame(0)])
    _write(plan, [_frame(0)], overwrite=True)


def test_lines_go_to_standard_output_as_they_come(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with Outputs(OutputPlan(stdout=True), DOTS, 25, named=False, overwrite=False) as outputs:
        outputs.write(_frame(0))
        assert json.loads(capfdbinary.readouterr().out)["frame"] == 0
        outputs.write(_frame(1))
        assert json.loads(capfdbinary.readouterr().out)["frame"] == 1


def test_a_video_has_the_length_of_what_was_seen(tmp_path: Path) -> None:
    plan = OutputPlan(video=tmp_path / "out.avi")
    with Outputs(plan, DOTS, 25, named=False, overwrite=False) as outputs:
        for index, time_ms in enumerate((0.0, 5.0, 40.0, 200.0)):
            outputs.write(replace(_frame(index), time_ms=time_ms))
    assert len(list(open_source(tmp_path / "out.avi"))) == 6
    assert outputs.frames == 4


def test_a_disk_that_runs_full_is_noticed_while_the_video_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, now = [1 << 30], [0.0]
    usage = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=free[0]))
    monkeypatch.setattr("cunet_deploy.media.outputs.shutil", usage)
    monkeypatch.setattr("cunet_deploy.media.outputs.time.monotonic", lambda: now[0])
    plan = _plan(tmp_path / "out.jsonl", video=tmp_path / "out.mp4")
    with Outputs(plan, DOTS, 25, named=False, overwrite=False) as outputs:
        for index in range(9):
            now[0] += 0.5
            outputs.write(_frame(index))
        free[0] = 5 << 20
        now[0] += 1
        with pytest.raises(CunetError, match=r"out\.mp4: the disk is full but for 5 MiB"):
            outputs.write(_frame(9))
    assert len(list(open_source(tmp_path / "out.mp4"))) == 9


def test_what_is_left_unfinished_by_one_file_does_not_spoil_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(self: CocoFile) -> None:
        raise CunetError("out.coco.json: the disk is full")

    monkeypatch.setattr(CocoFile, "_end", end)
    plan = _plan(*(tmp_path / name for name in ("out.jsonl", "out.csv", "c.json")), video=tmp_path / "out.avi")
    with pytest.raises(CunetError, match="the disk is full"):
        _write(plan, [_frame(0)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.avi", "out.csv", "out.jsonl"]


def test_ctrl_c_while_files_are_finished_leaves_none_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(self: VideoWriter) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoWriter, "close", close)
    plan = _plan(tmp_path / "out.jsonl", tmp_path / "out.csv", video=tmp_path / "out.avi")
    with pytest.raises(KeyboardInterrupt):
        _write(plan, [_frame(0)])
    assert list(tmp_path.iterdir()) == []


def test_a_window_shows_every_frame_and_tells_when_it_is_closed() -> None:
    class Shown:
        def __init__(self) -> None:
            self.images: list[np.ndarray] = []

        def show(self, image: np.ndarray) -> bool:
            self.images.append(image)
            return len(self.images) < 2

        def close(self) -> None:
            self.images.append(np.zeros(0))

    window: Any = Shown()
    with Outputs(OutputPlan(), DOTS, 25, named=False, overwrite=False, window=window) as outputs:
        outputs.write(_frame(0))
        assert not outputs.closed
        outputs.write(_frame(1))
    assert outputs.closed
    assert [bool((image != 90).any()) for image in window.images] == [True, True, False]


@pytest.mark.parametrize("name", ["out.mp4", "out.jsonl"])
def test_what_a_run_left_is_named_and_kept_until_it_may_be_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    plan = _plan(tmp_path / "out.jsonl", video=tmp_path / "out.mp4")
    (tmp_path / f"{name}.part").write_text("what it had")
    with pytest.raises(InputError, match=rf"{name}\.part: was left by a run that did not end"):
        _write(plan, [_frame(0)])
    assert (tmp_path / f"{name}.part").read_text() == "what it had"
    _write(plan, [_frame(0)], overwrite=True)
    assert f"{name}.part: was left by a run that did not end, and is replaced" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "out.mp4"]


def test_what_gave_no_picture_stands_in_the_records(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("out.jsonl", "out.csv", "out.json")]
    gaps = [LeftOut(1, "2 frames cannot be decoded", 2, 40.0)]
    with Outputs(_plan(*paths), DOTS, 25, named=False, overwrite=False, left_out=gaps) as outputs:
        outputs.write(_frame(0))
        outputs.write(_frame(3))
        gaps.append(LeftOut(4, "is damaged", name="b.jpg"))
    lines = [json.loads(line) for line in paths[0].read_text().splitlines()]
    assert [(line["frame"], line.get("frames"), line.get("error")) for line in lines] == [
        (0, None, None),
        (1, 2, "2 frames cannot be decoded"),
        (3, None, None),
        (4, None, "is damaged"),
    ]
    assert lines[1]["landmarks"] == []
    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["note"]) for row in rows] == [
        ("0", ""),
        ("1", "2 frames cannot be decoded"),
        ("3", ""),
        ("4", "is damaged"),
    ]
    assert [item["frame"] for item in json.loads(paths[2].read_text())["info"]["left_out"]] == [1, 4]
    assert len(GivenBoxes.read(paths[0]).detect(np.zeros((9, 9, 3), np.uint8), 1)[0]) == 0


def test_an_unwritable_place_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="is not a folder"):
        _write(_plan(tmp_path / "file" / "out.jsonl"), [_frame(0)])
