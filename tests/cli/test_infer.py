from __future__ import annotations

import errno
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from clips import spoil
from dots import scene

from cunet_deploy import localizer, zoo
from cunet_deploy.cli import cli
from cunet_deploy.media import Frame, Outputs, open_source, plan
from cunet_deploy.media.writers.jsonl import json_lines
from cunet_deploy.media.writers.video import VideoWriter

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo.mp4"


@pytest.fixture
def run(dots_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs ``infer`` with the network of dots, in an empty folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def invoke(source: str | Path, *options: str | Path) -> Result:
        arguments = ["infer", str(source), "--model", str(dots_model), "--threads", "1", *map(str, options)]
        return CliRunner().invoke(cli, arguments, prog_name="cunet-deploy")

    return invoke


def center(index: int) -> tuple[float, float]:
    return (120 + 2 * index, 120 - index)


def write_clip(path: Path, count: int = 30, empty: range = range(0)) -> Path:
    writer = VideoWriter(path, 25, (320, 240))
    for index in range(count):
        image = np.full((240, 320, 3), 128, np.uint8) if index in empty else scene(center(index), 36)[0]
        writer.write(image)
    writer.close()
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.avi")


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir() if path.name != ".cunet-infer")


def lines(path: str) -> list[dict]:  # type: ignore[type-arg]
    text = Path(path).read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_clip_becomes_a_video_json_lines_and_csv(run, clip: Path) -> None:  # type: ignore[no-untyped-def]
    result = run(clip, "-o", "out.mp4")
    assert result.exit_code == 0, result.output
    assert "30 frames, 30 with landmarks" in result.stdout
    assert "without drawing and encoding" in result.stdout
    assert result.stderr == ""
    assert names() == ["out.csv", "out.jsonl", "out.mp4"]
    found = lines("out.jsonl")
    assert [line["frame"] for line in found] == list(range(30))
    assert {line["id"] for line in found} == {0}
    for line in found:
        assert np.abs(np.mean(line["landmarks"], axis=0) - center(line["frame"])).max() < 1.5
        assert line["time_ms"] == pytest.approx(line["frame"] * 40, abs=1)
    assert len(Path("out.csv").read_text().splitlines()) == 31
    assert cv2.VideoCapture("out.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == 30


def test_empty_frames_are_lines_without_landmarks(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    result = run(write_clip(tmp_path / "gap.avi", 40, range(10, 25)), "-o", "out.jsonl")
    assert "40 frames, 2" in result.stdout
    found = lines("out.jsonl")
    assert [line["frame"] for line in found] == list(range(40))
    assert [line["frame"] for line in found if not line["landmarks"]][:15] == list(range(10, 25))
    assert names() == ["out.jsonl"]


def test_an_image_becomes_an_annotated_image(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cv2.imwrite(str(tmp_path / "a.png"), scene()[0])
    assert run(tmp_path / "a.png").exit_code == 0
    assert names() == ["a.landmarks.csv", "a.landmarks.jsonl", "a.landmarks.png"]
    assert lines("a.landmarks.jsonl")[0]["file"] == "a.png"


def test_a_folder_becomes_a_folder(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "in").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), scene(center(20 * index))[0])
    assert run(tmp_path / "in", "-o", "out", "--no-draw").exit_code == 0
    assert names("out") == ["landmarks.csv", "landmarks.jsonl"]
    assert [line["file"] for line in lines("out/landmarks.jsonl")] == ["0.png", "1.png", "2.png"]
    assert run(str(tmp_path / "in" / "*.png"), "-o", "out2").exit_code == 0
    assert names("out2") == ["0.png", "1.png", "2.png", "landmarks.csv", "landmarks.jsonl"]


def test_given_boxes_are_used(run, clip: Path) -> None:  # type: ignore[no-untyped-def]
    Path("boxes.csv").write_text("frame,x0,y0,x1,y1\n" + f"0,{120 - 36},{120 - 36},{120 + 36},{120 + 36}\n")
    assert run(clip, "-o", "out.jsonl", "--detector", "boxes:boxes.csv").exit_code == 0
    found = lines("out.jsonl")
    assert found[0]["box"] == [84, 84, 156, 156]
    assert all(line["landmarks"] for line in found)


def test_given_boxes_of_something_else_are_refused(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    Path("boxes.csv").write_text("file,x0,y0,x1,y1\nA.png,84,84,156,156\n")
    cv2.imwrite(str(tmp_path / "a.png"), scene()[0])
    result = run(tmp_path / "a.png", "-o", "out.png", "--detector", "boxes:boxes.csv")
    assert result.exit_code == 2
    assert "boxes.csv: none of its boxes is of" in result.stderr
    assert result.stderr.count("\n") == 1
    assert names() == ["boxes.csv"]


def test_existing_outputs_need_overwrite(run, clip: Path) -> None:  # type: ignore[no-untyped-def]
    Path("out.csv").write_text("mine")
    result = run(clip, "-o", "out.mp4")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "or overwrite it (--overwrite)" in result.stderr
    assert names() == ["out.csv"]
    assert run(clip, "-o", "out.mp4", "--overwrite").exit_code == 0


def test_a_video_that_breaks_off_keeps_its_finished_part_and_is_1(run, clip: Path) -> None:  # type: ignore[no-untyped-def]
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    result = run(clip, "-o", "out.mp4")
    assert result.exit_code == 1
    count = len(lines("out.jsonl"))
    assert 5 < count < 28
    assert f"breaks off after frame {count} of 30" in result.stderr
    assert result.stderr.count("\n") == 1
    assert cv2.VideoCapture("out.mp4").get(cv2.CAP_PROP_FRAME_COUNT) == count


def test_bad_images_in_a_folder_are_named_and_the_rest_is_done(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "d.png", "e.jpg"):
        cv2.imwrite(str(folder / name), scene()[0])
    (folder / "b.png").write_bytes(b"no image")
    (folder / "e.jpg").write_bytes((folder / "e.jpg").read_bytes()[:3000])
    (folder / "f.jxl").write_bytes(b"an image of another type")
    (folder / "notes.txt").write_text("words")
    result = run(folder, "-o", "out")
    assert result.exit_code == 1
    assert names("out") == ["a.png", "d.png", "landmarks.csv", "landmarks.jsonl"]
    assert "left out: b.png: is damaged or not an image" in result.stderr
    assert "left out: e.jpg: the image is cut off" in result.stderr
    assert "left out: f.jxl: type .jxl is not read; convert it" in result.stderr
    assert "error: 3 images were left out" in result.stderr
    assert [(line["file"], "error" in line) for line in lines("out/landmarks.jsonl")] == [
        *(("a.png", False), ("b.png", True), ("d.png", False), ("e.jpg", True), ("f.jxl", True)),
    ]


def test_a_folder_without_a_good_image_is_2(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    result = run(tmp_path / "in", "-o", "out")
    assert result.exit_code == 2
    assert "none of 1 images can be read; b.png: is damaged" in result.stderr


def test_damage_in_a_video_is_a_warning_and_the_rest_is_done(run, clip: Path) -> None:  # type: ignore[no-untyped-def]
    spoil(clip, 14, 3)
    result = run(clip, "-o", "out.mp4")
    assert result.exit_code == 0, result.output
    assert "27 frames, 27 with landmarks" in result.stdout
    assert "warning: frames 14 to 16 (from 0.56 s): 3 frames cannot be decoded" in result.stderr
    found = lines("out.jsonl")
    assert [line["frame"] for line in found] == [*range(15), *range(17, 30)]
    assert found[14]["frames"] == 3
    times = [picture.time_ms for picture in open_source("out.mp4")]
    assert times[13:15] == pytest.approx([13 * 40, 17 * 40], abs=1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.mp4", None),
        ("empty.mp4", b""),
        ("text.mp4", b"words " * 200),
        ("empty.png", b""),
        ("text.png", b"words " * 200),
        ("words.csv", b"words"),
    ],
)
def test_a_bad_source_is_one_line_and_2(run, name: str, content: bytes | None) -> None:  # type: ignore[no-untyped-def]
    if content is not None:
        Path(name).write_bytes(content)
    result = run(name, "-o", "out.jsonl")
    assert result.exit_code == 2
    assert name in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("out.jsonl").exists()


def test_a_truncated_model_is_3_and_an_unknown_one_2(run, clip: Path, dots_model: Path) -> None:  # type: ignore[no-untyped-def]
    Path("half.onnx").write_bytes(dots_model.read_bytes()[:1000])
    assert run(clip, "--model", "half.onnx").exit_code == 3
    assert run(clip, "--model", "face99").exit_code == 2
    assert run(clip, "--detector", "haar").exit_code == 2
    assert run(clip, "-o", "out.txt").exit_code == 2
    assert run(clip, "-o", "half.onnx/out.mp4").exit_code == 2


INTERRUPTED = [f"out.{suffix}{mark}" for suffix in ("avi", "csv", "jsonl") for mark in ("", ".part")]
"""Results so far, each with an empty file that says that it does not reach the end."""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_keeps_the_finished_part(dots_model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "long.avi", 1500)
    out = tmp_path / "out"
    out.mkdir()
    command: list[str | Path] = [sys.executable, "-m", "cunet_deploy", "infer", clip]
    command += ["--model", dots_model, "-o", out / "out.avi"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 30
        while not (parts := list(out.glob("out.jsonl.part"))) or not parts[0].stat().st_size:
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert stderr == "cunet-deploy: interrupted\n"
    assert names(str(out)) == INTERRUPTED
    found = lines(str(out / "out.jsonl"))
    assert 0 < len(found) < 1500
    assert f"{len(found)} frames" in stdout


def forbid_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread.name} was started")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.skipif(zoo.DEFAULT_MODEL not in zoo.released_models(), reason="the default model is not here yet")
def test_stages_beside_each_other_write_what_stages_in_turn_write(run, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    options = ("--model", zoo.DEFAULT_MODEL)
    assert run(DEMO, "-o", "beside.avi", *options).exit_code == 0
    for module in (plan, localizer):
        monkeypatch.setattr(module, "DEPTH", 0)
    forbid_threads(monkeypatch)
    assert run(DEMO, "-o", "turn.avi", *options).exit_code == 0
    assert len(lines("turn.jsonl")) == 100
    for suffix in ("jsonl", "csv"):
        assert Path(f"beside.{suffix}").read_bytes() == Path(f"turn.{suffix}").read_bytes()
    for one, other in zip(open_source("beside.avi"), open_source("turn.avi"), strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_single_image_starts_no_thread(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    cv2.imwrite(str(tmp_path / "a.png"), scene()[0])
    forbid_threads(monkeypatch)
    assert run(tmp_path / "a.png").exit_code == 0
    assert names() == ["a.landmarks.csv", "a.landmarks.jsonl", "a.landmarks.png"]


def fail_at(monkeypatch: pytest.MonkeyPatch, frame: int, error: Exception) -> None:
    """Makes writing this frame's record fail."""

    def write(item: Frame) -> str:
        if item.index == frame:
            raise error
        return json_lines(item)

    monkeypatch.setattr("cunet_deploy.media.writers.jsonl.json_lines", write)


def test_a_full_disk_is_1_and_keeps_what_is_done(run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    threads = threading.active_count()
    fail_at(monkeypatch, 12, OSError(errno.ENOSPC, "No space left on device"))
    result = run(clip, "-o", "out.mp4")
    assert result.exit_code == 1
    assert "cannot be written: the disk is full" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "12 written" in result.stdout
    assert names() == ["out.csv", "out.csv.part", "out.jsonl", "out.jsonl.part", "out.mp4", "out.mp4.part"]
    assert [line["frame"] for line in lines("out.jsonl")] == list(range(12))
    assert len(list(open_source("out.mp4"))) == 12
    assert threading.active_count() <= threads


def test_a_disk_that_is_full_from_the_start_leaves_no_file(run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    fail_at(monkeypatch, 0, OSError(errno.ENOSPC, "No space left on device"))
    assert run(clip, "-o", "out.mp4").exit_code == 1
    assert names() == []


def test_a_full_disk_keeps_the_pictures_that_are_finished(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "in").mkdir()
    for index in range(9):
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), scene(center(index))[0])
    fail_at(monkeypatch, 2, OSError(errno.ENOSPC, "No space left on device"))
    assert run(tmp_path / "in", "-o", "out").exit_code == 1
    marks = ["landmarks.csv.part", "landmarks.jsonl.part"]
    assert names("out") == sorted(["0.png", "1.png", "landmarks.csv", "landmarks.jsonl", *marks])
    assert [line["file"] for line in lines("out/landmarks.jsonl")] == ["0.png", "1.png"]


def send(number: signal.Signals) -> None:
    """Send a signal to the main thread, which is where a terminal's Ctrl-C arrives."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("stage", ["read", "localize", "write", "finish"])
def test_ctrl_c_in_any_stage_keeps_what_is_done(run, clip: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:  # type: ignore[no-untyped-def]
    name = {
        "read": "cunet_deploy.media.readers.video.Picture",
        "localize": "cunet_deploy.tracking.step.locate",
        "write": "cunet_deploy.media.Outputs.write",
        "finish": "cunet_deploy.media.writers.video.VideoWriter.close",
    }[stage]
    function, calls = pkgutil.resolve_name(name), []

    def interrupting(*arguments: Any) -> Any:
        calls.append(stage)
        if len(calls) == (1 if stage == "finish" else 8):
            send(signal.SIGINT)
        return function(*arguments)

    monkeypatch.setattr(name, interrupting)
    threads = threading.active_count()
    result = run(clip, "-o", "out.avi")
    assert result.exit_code == 130
    assert result.stderr == "cunet-deploy: interrupted\n"
    assert names() == INTERRUPTED
    count = len(lines("out.jsonl"))
    assert count == 30 if stage == "finish" else 0 < count < 30
    assert f"{count} frames" in result.stdout
    assert cv2.VideoCapture("out.avi").get(cv2.CAP_PROP_FRAME_COUNT) == count
    assert threading.active_count() <= threads


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_second_signal_stops_at_once_and_leaves_nothing(run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    writing, write = [], Outputs.write

    def slow(self: Outputs, frame: Frame) -> None:
        writing.append(True)
        if frame.index == 3:
            send(signal.SIGINT)
            send(signal.SIGTERM)
            time.sleep(0.05)  # the main thread comes to close the files meanwhile, unless it waits for this
        write(self, frame)
        writing.pop()

    monkeypatch.setattr(Outputs, "write", slow)
    threads = threading.active_count()
    result = run(clip, "-o", "out.avi")
    assert result.exit_code == 130
    assert result.stderr == "cunet-deploy: interrupted\n"
    assert names() == []
    assert writing == []
    assert threading.active_count() <= threads
