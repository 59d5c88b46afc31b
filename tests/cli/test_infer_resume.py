"""``infer``: what ``--resume`` takes for done, and results of several sources that must not be mixed up."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dots import scene

from cunet_deploy.cli import cli
from cunet_deploy.errors import InputError
from cunet_deploy.media import Frame, Item, Outputs, plan_items
from cunet_deploy.media.writers.jsonl import json_lines
from cunet_deploy.media.writers.video import VideoWriter

Run = Callable[..., Result]

DONE = "is done already"


def picture(x: int) -> np.ndarray:
    return scene((x, 110), 36)[0]


def write_clip(path: str, x: int) -> None:
    writer = VideoWriter(Path(path), 25, (320, 240))
    for _ in range(6):
        writer.write(picture(x))
    writer.close()


@pytest.fixture
def run(dots_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``infer`` in this process, in a folder with ``one.mp4``, ``two.mp4`` and two photos in ``photos``."""
    monkeypatch.chdir(tmp_path)
    write_clip("one.mp4", 110)
    write_clip("two.mp4", 180)
    Path("photos").mkdir()
    for x in range(2):
        cv2.imwrite(f"photos/{x}.png", picture(120 + x))

    def invoke(*arguments: str) -> Result:
        given = ["infer", "--model", str(dots_model), "--threads", "1", *arguments]
        return CliRunner().invoke(cli, given, prog_name="cunet-deploy")

    return invoke


def resumed(run: Run, *arguments: str) -> str:
    result = run(*arguments, "--resume")
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("kind", ["jsonl", "csv", "pts", "jsonl,csv"])
def test_results_that_another_source_replaced_are_made_again(run: Run, kind: str) -> None:
    assert run("one.mp4", "-o", "out.mp4", "--format", "jsonl,csv,pts").exit_code == 0
    assert run("two.mp4", "-o", "out.mp4", "--format", kind, "--overwrite").exit_code == 0
    assert DONE not in resumed(run, "one.mp4", "-o", "out.mp4", "--format", "jsonl,csv,pts")
    assert DONE in resumed(run, "one.mp4", "-o", "out.mp4", "--format", "jsonl,csv,pts")
    assert DONE not in resumed(run, "two.mp4", "-o", "out.mp4", "--format", kind)


@pytest.mark.parametrize(("source", "out"), [("photos", "out"), ("one.mp4", "out/%03d.png"), ("one.mp4", "out/1.mp4")])
def test_pictures_that_are_missing_are_drawn(run: Run, source: str, out: str) -> None:
    assert run(source, "-o", out, "--no-draw").exit_code == 0
    assert DONE in resumed(run, source, "-o", out, "--no-draw")
    assert DONE not in resumed(run, source, "-o", out)
    drawn = min(path for path in Path("out").iterdir() if path.suffix in (".png", ".mp4"))
    drawn.unlink()
    assert DONE not in resumed(run, source, "-o", out)
    assert drawn.exists()
    assert DONE in resumed(run, source, "-o", out)
    assert DONE in resumed(run, source, "-o", out, "--no-draw")


@pytest.mark.parametrize("options", [(), ("--no-draw",)])
def test_pts_files_of_a_folder_keep_their_record_with_them(run: Run, options: tuple[str, ...]) -> None:
    before = set(Path().iterdir())
    assert run("photos", "-o", "out", "--format", "pts", *options).exit_code == 0
    assert set(Path().iterdir()) == {*before, Path("out")}
    assert Path("out/.cunet-infer").is_dir()
    assert DONE in resumed(run, "photos", "-o", "out", "--format", "pts", *options)
    Path("out/1.pts").unlink()
    assert DONE not in resumed(run, "photos", "-o", "out", "--format", "pts", *options)


def test_each_set_of_results_has_a_record_of_its_own_and_a_damaged_one_is_none(run: Run) -> None:
    sources = (Path("one.mp4").absolute().as_uri(), "two.mp4", "photos", "-o", "out")
    assert run(*sources).exit_code == 0
    records = sorted(Path("out/.cunet-infer").iterdir())
    assert [path.name for path in records] == ["landmarks.csv.json", "one.csv.json", "two.csv.json"]
    records[1].write_text('{"options": {}}')
    before = [path.stat().st_mtime_ns for path in records]
    assert "1 done, 0 failed or incomplete, 2 were done before" in resumed(run, *sources)
    after = [path.stat().st_mtime_ns for path in records]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


class Camera:
    """A camera that never ends."""

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def read(self) -> tuple[bool, np.ndarray]:
        return True, picture(120)

    def get(self, prop: int) -> float:
        return 30.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        pass


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Sources and options of a camera that never ends."""
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda where, *more: Camera() if where == 0 else real(where, *more))
    return ("0", "-o", "out.jsonl")


def test_a_camera_whose_results_do_not_fit_on_the_disk_is_not_done(
    run: Run, camera: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Frame] = []

    def write(frame: Frame) -> str:
        written.append(frame)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return json_lines(frame)

    with monkeypatch.context() as full:
        full.setattr("cunet_deploy.media.writers.jsonl.json_lines", write)
        assert run(*camera, "--frames", "5").exit_code == 1
    assert "5 frames" in resumed(run, *camera, "--frames", "5")
    assert DONE in resumed(run, *camera, "--frames", "5")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_camera_that_ctrl_c_ended_is_done(run: Run, camera: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    write = Outputs.write

    def interrupting(outputs: Outputs, frame: Frame) -> None:
        write(outputs, frame)
        if outputs.frames == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Outputs, "write", interrupting)
    assert run(*camera).exit_code == 130
    assert DONE in resumed(run, *camera)


def test_a_video_whose_window_was_closed_is_not_done_and_a_camera_is(
    run: Run, camera: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Window:
        def __init__(self, title: str) -> None:
            self.left = 3

        def show(self, image: np.ndarray) -> bool:
            self.left -= 1
            return self.left > 0

        def close(self) -> None:
            pass

    monkeypatch.setattr("cunet_deploy.media.Window", Window)
    assert run("one.mp4", "-o", "one.jsonl", "--show").exit_code == 0
    assert "6 frames" in resumed(run, "one.mp4", "-o", "one.jsonl")
    assert run(*camera, "--show").exit_code == 0
    assert DONE in resumed(run, *camera)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A web server of the folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_picture_on_a_web_server_is_always_done_again(run: Run, url: str) -> None:
    assert run(f"{url}/photos/0.png", "-o", "out.png").exit_code == 0
    assert "1 frames" in resumed(run, f"{url}/photos/0.png", "-o", "out.png")


@pytest.mark.parametrize("option", ["--overwrite", "--resume"])
def test_a_picture_on_a_web_server_and_a_photo_of_its_name_are_both_drawn(run: Run, url: str, option: str) -> None:
    result = run(f"{url}/photos/0.png", "photos", "-o", "out", option)
    assert result.exit_code == 0, result.output
    drawn = sorted(path.name for path in Path("out").glob("*.png"))
    assert drawn == ["0.landmarks.png", "0.png", "1.png"]
    assert "1 done, 0 failed or incomplete, 1 were done before" in resumed(
        run, f"{url}/photos/0.png", "photos", "-o", "out"
    )


@pytest.mark.parametrize(
    ("text", "photo", "path"),
    [("landmarks.mp4", "a.png", "landmarks.jsonl"), ("http://host/a.png", "a.landmarks.png", "a.landmarks.png")],
)
def test_two_sources_that_would_write_one_file_are_refused(tmp_path: Path, text: str, photo: str, path: str) -> None:
    items = [Item(text), Item("photos", (tmp_path / photo,))]
    with pytest.raises(InputError, match=rf"{path}: two sources write this file"):
        plan_items(items, tmp_path / "out")


def test_boxes_of_frame_numbers_are_of_one_source(run: Run) -> None:
    Path("boxes.csv").write_text("frame,x0,y0,x1,y1\n0,80,80,140,140\n")
    for more in ("two.mp4", "photos"):
        result = run("one.mp4", more, "-o", "out", "--detector", "boxes:boxes.csv")
        assert result.exit_code == 2
        assert "boxes:boxes.csv: boxes of frame numbers are those of one source" in result.stderr
        assert result.stderr.count("\n") == 1
    assert run("one.mp4", "-o", "out.mp4", "--detector", "boxes:boxes.csv").exit_code == 0


def test_boxes_of_files_serve_several_folders(run: Run) -> None:
    Path("more").mkdir()
    cv2.imwrite("more/2.png", picture(120))
    Path("boxes.csv").write_text("file,x0,y0,x1,y1\n0.png,80,80,160,140\n2.png,80,80,160,140\n")
    result = run("photos", "more", "-o", "out", "--detector", "boxes:boxes.csv")
    assert result.exit_code == 0, result.output
    assert "2 sources: 2 done" in result.stdout
