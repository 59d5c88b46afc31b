"""Pictures, GIFs and videos on web servers, on the loopback interface."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import cv2
import numpy as np
import pytest
from clips import write_animation, write_clip, write_gif

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media import Item, open_source, plan_items, plan_outputs
from cunet_deploy.media.readers import live
from cunet_deploy.media.readers.live import open_url


def test_a_video_on_a_web_server_is_read_to_its_end(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 20, 10)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        source = open_source(f"http://127.0.0.1:{server.server_port}/clip.mp4")
        assert (source.live, source.moving, source.count, source.fps, source.stem) == (False, True, 20, 10, "clip")
        assert [picture.index for picture in source] == list(range(20))
        with pytest.raises(CunetError, match=r"/no\.mp4: cannot be opened"):
            open_source(f"http://127.0.0.1:{server.server_port}/no.mp4", timeout=2)
        server.shutdown()


PASSWORD = "Basic " + base64.b64encode(b"me:a b").decode()


@contextlib.contextmanager
def serving(kind: str, body: bytes, password: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """A server that gives one body; its port, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            good = password in (None, self.headers["Authorization"])
            self.send_response(200 if good else 401)
            self.send_header(*(("Content-Type", kind) if good else ("WWW-Authenticate", 'Basic realm="camera"')))
            self.send_header("Content-Length", str(len(body) if good else 0))
            self.end_headers()
            self.wfile.write(body if good else b"")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@pytest.mark.parametrize(
    ("kind", "path"), [("image/jpeg", "snapshot"), ("image/png", "a.cgi"), ("binary/octet-stream", "a.jpg")]
)
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_a_picture_on_a_web_server_is_fetched_once(kind: str, path: str, password: str | None, tmp_path: Path) -> None:
    image = np.full((20, 30, 3), 90, np.uint8)
    with serving(kind, cv2.imencode(".png", image)[1].tobytes(), password) as (port, asked):
        source = open_source(f"http://{'me:a%20b@' if password else ''}127.0.0.1:{port}/{path}?x=1")
        assert (source.moving, source.live, source.count, source.stem) == (False, False, 1, path.partition(".")[0])
        assert source.name == f"http://127.0.0.1:{port}/{path}?x=1"
        for _ in range(2):
            assert [(p.index, p.name, p.image.tolist()) for p in source] == [(0, path, image.tolist())]
        assert plan_outputs(source, tmp_path / "out.pts").records == {"pts": tmp_path / "out.pts"}
        assert len(asked) == (2 if password else 1)


def test_a_damaged_picture_on_a_web_server_ends() -> None:
    with (
        serving("image/png", b"no picture") as (port, _),
        pytest.raises(InputError, match=rf"http://127.0.0.1:{port}/a: is damaged or not an image"),
    ):
        list(open_source(f"http://127.0.0.1:{port}/a"))


@pytest.mark.parametrize(("kind", "name"), [("image/gif", "a"), ("binary/octet-stream", "a.gif")])
def test_a_gif_on_a_web_server_is_read_as_a_file_is(kind: str, name: str, tmp_path: Path) -> None:
    path = write_gif(tmp_path / "a.gif", 3, stated=())
    with serving(kind, path.read_bytes()) as (port, asked):
        source = open_source(f"http://127.0.0.1:{port}/{name}")
        assert (source.moving, source.live, source.fps, source.stem) == (True, False, 10, "a")
        for _ in range(2):
            assert [(p.index, p.time_ms) for p in source] == [(0, 0), (1, 100), (2, 200)]
        assert len(asked) == 1
    with (
        serving(kind, path.read_bytes()[:-100]) as (port, _),
        pytest.raises(CunetError, match="breaks off after frame"),
    ):
        list(open_source(f"http://127.0.0.1:{port}/{name}"))


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif"])
@pytest.mark.parametrize("kind", ["image/any", "binary/octet-stream"])
def test_an_animation_on_a_web_server_is_read_as_a_file_is(suffix: str, kind: str, tmp_path: Path) -> None:
    path = write_animation(tmp_path / f"a{suffix}")
    expected = [(p.time_ms, p.image.tobytes()) for p in open_source(path)]
    assert len(expected) == 3
    with serving(kind, path.read_bytes()) as (port, asked):
        source = open_source(f"http://127.0.0.1:{port}/a%20b{suffix}")
        assert (source.moving, source.live, source.count, source.stem) == (True, False, 3, "a b")
        assert source.originals == ()
        for _ in range(2):
            assert [(p.time_ms, p.image.tobytes()) for p in source] == expected
        assert len(asked) == 1
    with (
        serving(kind, path.read_bytes()[:-90]) as (port, _),
        pytest.raises(InputError, match=r"/a\.\w+: the animation"),
    ):
        list(open_source(f"http://127.0.0.1:{port}/a{suffix}"))


LONG = "n" * 300


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("my%20clip.png", "my clip"),
        ("caf%C3%A9.png", "café"),
        ("%E9.png", "\ufffd"),
        ("x%2F..%2F..%2Fpasswd.png", "x_.._.._passwd"),
        ("..%5Ca%3Ab%00.png", "_a_b_"),
        ("a/%2E%2E", "a"),
        ("Con.png", "_Con"),
        ("lpt1", "_lpt1"),
        ("console.png", "console"),
        ("%2e%2E/", "image"),
        ("", "image"),
        (f"{LONG}.png", None),
        (f"{'%C3%A9' * 200}.png", None),
    ],
)
def test_results_of_a_url_have_its_decoded_name_made_safe(path: str, stem: str | None, tmp_path: Path) -> None:
    with serving("image/png", cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()) as (port, _):
        source = open_source(f"http://127.0.0.1:{port}/{path}")
    names = [source.stem, next(iter(source)).name]
    for name in names:
        assert not set(name) & set("/\\\0:")
        assert 0 < len(name.encode()) <= 150
    assert stem in (None, source.stem)
    (drawn,) = plan_outputs(source, f"{tmp_path}/").images
    drawn.write_bytes(b"")
    assert drawn.parent == tmp_path
    (plan,) = plan_items([Item(f"http://me:secret@127.0.0.1:{port}/{path}")], tmp_path, formats=())
    assert plan.video is not None
    assert plan.video.parent == tmp_path
    assert "secret" not in plan.video.name
    if path not in ("", "%2e%2E/"):
        assert plan.video.stem == source.stem


def test_results_of_a_stream_at_an_address_alone_have_a_name_that_every_file_system_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "LiveSource", lambda connect, **given: given["stem"])
    stems = [str(open_url(f"rtsp://me:secret@{host}/")) for host in ("[fe80::1]", "camera.lan:554")]
    assert stems == ["fe80__1", "camera.lan"]


def test_urls_that_are_decoded_to_one_name_have_results_of_their_own(tmp_path: Path) -> None:
    urls = ["http://a/x%20y.mp4", "http://a/x y.mp4", "http://a/b/x%2520y.mp4", f"http://a/{LONG}", f"http://a/{LONG}1"]
    plans = plan_items([Item(url) for url in urls], tmp_path)
    assert len({path for plan in plans for path in plan.files}) == 15
    assert plans[2].video == tmp_path / "x%20y.mp4"
    (plan,) = plan_items([Item(f"file://{tmp_path}/my%20clip.mp4")], tmp_path / "out")
    assert plan.video == tmp_path / "out" / "my clip.mp4"


@pytest.mark.parametrize("url", ["http://[a/b.mp4", "http://a:b/c.mp4", "rtsp://me:secret@/x", "http://a:99999/c"])
def test_a_url_without_a_host_that_can_be_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="names no host") as caught:
        open_source(url)
    assert "secret" not in str(caught.value)


class Answer:
    """Headers of a server, asked by a client that trusts its certificate or does not check it."""

    def __init__(self, kind: str) -> None:
        self.headers = Message()
        self.headers["Content-Type"] = kind
        self._trusting = False

    def open(self, *arguments: object, **options: object) -> Answer:
        if self._trusting:
            return self
        self._trusting = True
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise URLError(error)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_a_certificate_that_is_not_trusted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.OpenerDirector.open", Answer("image/jpeg").open)
    monkeypatch.setattr("cunet_deploy.media.readers.sources.open_url", not_asked)
    with pytest.raises(CunetError, match=r"^https://camera/a: .* \(self-signed certificate\); .*SSL_CERT_FILE"):
        open_source("https://me:secret@camera/a")


def test_a_stream_is_read_whatever_its_certificate_as_ffmpeg_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_ffmpeg(url: str, **options: object) -> None:
        raise ConnectionRefusedError(url)

    monkeypatch.setattr("urllib.request.OpenerDirector.open", Answer("multipart/x-mixed-replace; boundary=a").open)
    monkeypatch.setattr("cunet_deploy.media.readers.sources.open_url", ask_ffmpeg)
    with pytest.raises(ConnectionRefusedError, match="https://camera/a"):
        open_source("https://camera/a")


def not_asked(*arguments: object, **options: object) -> None:
    pytest.fail("FFmpeg is asked, too")


def test_a_server_that_does_not_answer_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cunet_deploy.media.readers.sources.open_url", not_asked)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(CunetError, match=r"cannot be opened; nothing answered within 0\.05 s"):
            open_source(f"http://127.0.0.1:{silent.getsockname()[1]}/a", timeout=0.05)
