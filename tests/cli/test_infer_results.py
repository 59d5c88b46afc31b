"""``infer`` in this process: cameras that are fakes, kinds of results, options."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dots import scene

from cunet_deploy.cli import cli
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import Frame, Outputs, open_source
from cunet_deploy.media.writers.video import VideoWriter

Run = Callable[..., Result]


def picture(number: int) -> np.ndarray:
    return scene((120 + number % 40, 110), 36)[0]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    writer = VideoWriter(tmp_path / "clip.avi", 25, (320, 240))
    for index in range(30):
        writer.write(picture(index))
    writer.close()
    return tmp_path / "clip.avi"


@pytest.fixture
def run(dots_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``infer`` in this process, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def invoke(source: str | Path, *options: str) -> Result:
        arguments = ["infer", str(source), "--model", str(dots_model), "--threads", "1", *options]
        return CliRunner().invoke(cli, arguments, prog_name="cunet-deploy")

    return invoke


class Camera:
    """A camera that is pulled out after some frames."""

    def __init__(self, frames: int) -> None:
        self.left = frames

    def isOpened(self) -> bool:  # noqa: N802
        return self.left > 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(0.01)
        self.left -= 1
        return (True, picture(self.left)) if self.left >= 0 else (False, None)

    def get(self, prop: int) -> float:
        return 30.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def set(self, prop: int, value: float) -> bool:
        return True

    def release(self) -> None:
        pass


def test_a_camera_that_is_pulled_out_keeps_what_was_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(20)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: camera)
    result = run("0", "-o", "out.jsonl", "--reconnect", "0.5", "--size", "320x240")
    assert result.exit_code == 1
    assert "camera 0: was lost after 20 frames and did not come back" in result.stderr
    text = Path("out.jsonl").read_text()
    assert text.endswith("\n")
    assert text.count("\n") >= 1


def test_a_camera_that_is_not_there_is_one_line_and_1(run: Run) -> None:
    result = run("93", "-o", "out.jsonl")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "camera 93: cannot be opened" in result.stderr
    assert list(Path().iterdir()) == []


def test_a_csi_camera_shows_its_pipeline_where_it_cannot_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: False)
    result = run("csi://0", "--size", "1920x1080@60")
    assert result.exit_code == 5
    assert "nvarguscamerasrc sensor-id=0" in result.stderr
    assert "width=1920, height=1080, framerate=60000/1000" in result.stderr


def test_all_kinds_of_results_are_written(run: Run, clip: Path) -> None:
    result = run(clip, "-o", "out.mp4", "--frames", "5", "--format", "jsonl, csv,coco,pts", "--draw", "box,ids,scores")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path().iterdir()) == [
        *(".cunet-infer", "out.coco.json", "out.csv", "out.jsonl", "out.mp4", "out_pts"),
    ]
    assert len(list(Path("out_pts").iterdir())) == 5
    found = json.loads(Path("out.coco.json").read_text())["annotations"]
    assert len(found) == 5
    with Localizer() as localizer:
        least = localizer.manifest.visible_score
    assert least is not None
    for one in found:
        visible = [2 if score >= least else 1 for score in one["keypoint_scores"]]
        near = [abs(score - least) < 0.001 for score in one["keypoint_scores"]]  # scores are rounded
        assert all(v == w or unsure for v, w, unsure in zip(one["keypoints"][2::3], visible, near, strict=True))


def test_with_none_nothing_is_written(run: Run, clip: Path) -> None:
    result = run(clip, "-o", "none", "--frames", "5")
    assert result.exit_code == 0
    assert "5 frames" in result.stdout
    assert result.stdout.endswith("wrote nothing\n")
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "xml"), "choose from jsonl, csv, coco, pts"),
        (("--draw", "faces"), "choose from points, lines"),
        (("--size", "640"), "640x480@30"),
        (("-o", "out.csv", "--format", "csv"), "leave the formats out"),
        (("-o", "%.png"), "a name such as %06d.png"),
    ],
)
def test_wrong_options_are_one_line_and_2(run: Run, clip: Path, options: tuple[str, ...], message: str) -> None:
    result = run(clip, *options)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert list(Path().iterdir()) == []


def test_smoothing_both_ways_needs_a_file(run: Run) -> None:
    result = CliRunner().invoke(cli, ["infer", "-", "--size", "4x4", "--smooth", "both-ways"], input=b"")
    assert result.exit_code == 2
    assert "reads a file twice" in result.stderr


def test_a_window_is_refused_where_opencv_has_none(run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "GUI:      NONE")
    result = run(clip, "--show")
    assert result.exit_code == 5
    assert "pip install opencv-python" in result.stderr
    assert list(Path().iterdir()) == []


def test_a_window_that_is_closed_ends_it_and_nothing_is_written(
    run: Run, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    class Window:
        def __init__(self, title: str) -> None:
            pass

        def show(self, image: np.ndarray) -> bool:
            shown.append(image)
            return len(shown) < 6

        def close(self) -> None:
            pass

    monkeypatch.setattr("cunet_deploy.media.Window", Window)
    result = run(clip, "--show")
    assert result.exit_code == 0, result.output
    assert len(shown) == 6
    assert "6 frames" in result.stdout
    assert list(Path().iterdir()) == []


def test_frames_that_change_size_are_localized_and_fitted_into_the_video(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turning(Camera):
        def read(self) -> tuple[bool, np.ndarray | None]:
            assert taken.acquire(timeout=60)  # however busy the machine is, no frame is left out
            good, image = super().read()
            sizes = ((240, 320), (480, 640), (321, 241))
            shown = sizes[self.left // 5 % 3]
            return good, None if image is None else scene((shown[1] / 2, shown[0] / 2), shown[0] / 7, shown)[0]

    taken, write = threading.Semaphore(1), Outputs.write

    def tell(outputs: Outputs, frame: Frame) -> object:
        taken.release()
        return write(outputs, frame)

    monkeypatch.setattr(Outputs, "write", tell)
    camera, real = Turning(30), cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda where, *more: camera if where == 0 else real(where, *more))
    result = run("0", "-o", "out.avi", "--reconnect", "0")
    assert "was lost after 30 frames; check it" in result.stderr
    found = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert len({line["frame"] for line in found}) == 30
    assert sum(bool(line["landmarks"]) for line in found) > 0.8 * len(found)
    assert len({picture.image.shape for picture in open_source("out.avi")}) == 1


def test_the_summary_names_the_folder_of_the_results(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"photos/{number}.pgm"), cv2.cvtColor(picture(number), cv2.COLOR_BGR2GRAY))
    result = run(tmp_path / "photos", "-o", "out/all", "--format", "csv,pts")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].endswith("wrote 4 files in out/all, those of each object in out/all")
    names = sorted(path.name for path in Path("out/all").iterdir() if path.suffix != ".pts")
    assert names == [".cunet-infer", "0.pgm.png", "1.pgm.png", "2.pgm.png", "landmarks.csv"]
