"""The page in a real browser, headless Chromium."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from cunet_deploy import Frame, Localizer
from cunet_deploy.cli.web import command
from cunet_deploy.media import read_image
from cunet_deploy.media.writers.jsonl import json_lines
from cunet_deploy.web.runtime import INTEGRITY, npm_install
from tools.experiments.web import write_camera

ROOT = Path(__file__).resolve().parents[2]
ASTRONAUT = ROOT / "tests" / "data" / "astronaut.jpg"
CLIP = ROOT / "tests" / "data" / "demo.mp4"
Browse = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.slow


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Server(http.server.ThreadingHTTPServer):
    """Gives out a folder, with or without the headers that isolate a page."""

    isolated = False


class Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        if isinstance(self.server, Server) and self.server.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_request(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None or chromium() is None:
        pytest.skip("Node.js, npm or Chromium is not installed: the page is not tested in a browser")
    path = tmp_path_factory.mktemp("web") / "site"
    result = CliRunner().invoke(command, ["face68-s", "-o", str(path), "--runtime", "auto"])
    assert result.exit_code == 0, result.output
    if not (path / "ort").is_dir():
        pytest.skip(f"onnxruntime-web cannot be installed: {result.output}")
    return path


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browse(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Browse:
    folder = tmp_path_factory.mktemp("browser")
    problem = npm_install(folder, "playwright-core")
    if problem:
        pytest.skip(f"playwright-core cannot be installed: {problem}")

    def browse(*, isolated: bool = False, flags: tuple[str, ...] = (), **task: Any) -> dict[str, Any]:
        server.isolated = isolated
        table = {"url": f"http://localhost:{server.server_port}/", "chromium": chromium(), "flags": flags, **task}
        (folder / "task.json").write_text(json.dumps(table))
        script = Path(__file__).with_name("browse.mjs")
        done = subprocess.run(["node", str(script), str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        assert result["problems"] == []
        return result

    return browse


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "astronaut.png"
    cv2.imwrite(str(path), read_image(ASTRONAUT))
    return path


def distances(found: list[dict[str, Any]], image: Path) -> float:
    """The largest distance in pixels of landmarks from those that Python finds."""
    with Localizer("face68-s") as localizer:
        expected = localizer.predict(read_image(image))
    assert len(found) == len(expected) == 1
    return float(np.linalg.norm(np.array(found[0]["landmarks"]) - expected.points[0], axis=1).max())


def write_clip(path: Path, image: NDArray[np.uint8], count: int) -> None:
    """Frames of one picture, as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        for _ in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())


def test_the_page_is_small(site: Path) -> None:
    assert sum(len(gzip.compress(path.read_bytes())) for path in site.rglob("*") if path.is_file()) < 6_000_000


def test_a_photo_gives_the_landmarks_of_python(browse: Browse, png: Path) -> None:
    result = browse(files=[str(png)])
    assert (result["title"], result["threads"], result["error"]) == ("face68-s", "1", "")
    assert distances(result["records"], png) < 0.01  # the file rounds to 0.001


def enlarged(side: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(read_image(ASTRONAUT), (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_photo_of_2000_pixels_gives_the_lines_of_infer(browse: Browse, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), enlarged(2000))
    result = browse(files=[str(path)])
    with Localizer("face68-s") as localizer:
        image = read_image(path)
        (expected,) = map(
            json.loads, json_lines(Frame(0, 0.0, image, localizer.predict(image), path.name)).splitlines()
        )
    (found,) = result["records"]
    assert list(found) == list(expected)
    for key in ("frame", "file", "time_ms", "id"):
        assert found[key] == expected[key]
    for key, tolerance in {
        "box": 0.02,
        "landmarks": 0.03,
        "scores": 0.002,
        "yaw": 0.11,
        "pitch": 0.11,
        "roll": 0.11,
    }.items():
        np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=tolerance, err_msg=key)


def test_pictures_that_are_shrunk_give_landmarks_of_the_original(browse: Browse, tmp_path: Path) -> None:
    photo, clip = tmp_path / "photo.png", tmp_path / "clip.mp4"
    cv2.imwrite(str(photo), enlarged(5000))
    write_clip(clip, enlarged(2000), 12)
    for path, side in ((photo, 5000), (clip, 2000)):
        result = browse(files=[str(path)])
        assert result["error"] == ""
        with Localizer("face68-s") as localizer:
            expected = localizer.predict(enlarged(side)).points[0]
        assert len(result["records"]) > 0
        for record in result["records"]:
            distances_of = np.linalg.norm(np.array(record["landmarks"]) - expected, axis=1)
            assert distances_of.max() < 0.004 * side  # without the scale: several hundred pixels


def test_a_picture_without_a_face_has_the_line_of_infer(browse: Browse, tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((90, 120, 3), 128, np.uint8))
    empty = {"frame": 0, "file": "grey.png", "time_ms": 0.0, "id": None, "box": None, "landmarks": [], "scores": []}
    assert browse(files=[str(path)])["records"] == [empty]


def test_a_jpeg_differs_by_how_browsers_decode_it(browse: Browse) -> None:
    assert distances(browse(files=[str(ASTRONAUT)])["records"], ASTRONAUT) < 0.3


def test_the_page_works_offline_once_it_was_open(browse: Browse, png: Path) -> None:
    assert distances(browse(files=[str(png)], offline=True)["records"], png) < 0.01


def test_an_isolated_page_has_threads_and_the_same_landmarks(browse: Browse, png: Path) -> None:
    result = browse(files=[str(png)], isolated=True)
    assert int(result["threads"]) >= 1
    assert distances(result["records"], png) < 0.01


def test_a_file_that_is_no_picture_is_said_to_be_none(browse: Browse, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    result = browse(files=[str(tmp_path / "notes.png")])
    assert result["error"] == "notes.png is neither a photo nor a clip that this browser can read."


def test_a_source_that_another_one_replaces_does_not_stop_it(browse: Browse, png: Path) -> None:
    result = browse(drops=[str(CLIP), str(png)])
    assert (result["error"], result["status"]) == ("", "Done. The results can be saved.")
    assert distances(result["records"], png) < 0.01


def test_a_camera_that_is_refused_does_not_stop_the_photo_opened_meanwhile(browse: Browse, png: Path) -> None:
    result = browse(drops=["camera", str(png)], flags=("--deny-permission-prompts",))
    assert (result["error"], result["status"]) == ("", "Done. The results can be saved.")
    assert distances(result["records"], png) < 0.01


def test_a_clip_can_be_stopped_while_it_starts(browse: Browse) -> None:
    result = browse(drops=[str(CLIP)], stop=True)
    assert (result["error"], result["status"]) == ("", "Stopped.")


def test_a_refused_camera_is_explained(browse: Browse) -> None:
    result = browse(camera=1, flags=("--deny-permission-prompts",))
    assert result["focused"] == "camera"  # the first stop of the Tab key
    assert result["error"].startswith(("No camera was found", "The camera may not be used"))


def test_a_camera_shows_landmarks(browse: Browse, tmp_path: Path) -> None:
    path = write_camera(tmp_path / "camera.y4m")
    fake = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    result = browse(camera=4, grant=True, flags=(*fake, f"--use-file-for-fake-video-capture={path}"))
    assert (result["error"], result["objects"]) == ("", "1")
    assert float(result["fps"]) > 0
    found = [record for record in result["records"] if record["landmarks"]]
    assert len(found) > 0.8 * len(result["records"])
    assert {record["id"] for record in found} == {0}


def test_checksums_of_the_linked_runtime_are_those_of_npm(site: Path) -> None:
    for name, integrity in INTEGRITY.items():
        digest = hashlib.sha384((site / "ort" / name).read_bytes()).digest()
        assert integrity == "sha384-" + base64.b64encode(digest).decode()
