from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clocks import Clock
from mjpeg import MjpegServer
from rtsp import RtspServer

from cunet_deploy._files import shown_name
from cunet_deploy.errors import CunetError, InputError, MissingDependencyError
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import FrameSize, LiveSource, open_source, read_ahead
from cunet_deploy.media.readers.csi import csi_pipeline
from cunet_deploy.media.readers.live import _beside

IMAGE = np.full((12, 16, 3), 90, np.uint8)


class FakeCapture:
    """Gives ``frames`` images, and then nothing any more."""

    def __init__(self, frames: int, *, opened: bool = True, clock: Clock | None = None) -> None:
        self._left, self._opened, self._clock = frames, opened, clock
        self.properties: dict[int, float] = {}
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802
        return self._opened

    def read(self) -> tuple[bool, Any]:
        if self._clock is not None:
            self._clock.now += 0.04
        self._left -= 1
        return (True, IMAGE.copy()) if self._left >= 0 else (False, None)

    def get(self, prop: int) -> float:
        return self.properties.get(prop, 0.0)

    def set(self, prop: int, value: float) -> bool:
        self.properties[prop] = value
        return True

    def release(self) -> None:
        self.released = True


class Plug:
    """Connects to one fake capture after the other; pulls the plug where it has no more."""

    def __init__(self, *captures: FakeCapture) -> None:
        self.captures = list(captures)
        self.calls = 0

    def __call__(self) -> FakeCapture:
        self.calls += 1
        return self.captures[self.calls - 1] if self.calls <= len(self.captures) else FakeCapture(0, opened=False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def live(connect: Callable[[], Any], clock: Clock, reconnect: float = 30) -> LiveSource:
    """A source whose pauses move the clock on, instead of waiting."""
    source = LiveSource(connect, name="cam", stem="cam", advice="plug it in", reconnect=reconnect, clock=clock)

    def wait(seconds: float | None = None) -> bool:
        clock.now += seconds or 0
        return False

    source._closed.wait = wait  # type: ignore[method-assign, assignment]
    return source


def test_frames_have_the_times_at_which_they_came(clock: Clock) -> None:
    source = live(Plug(FakeCapture(4, clock=clock)), clock)
    assert (source.moving, source.live, source.count, source.fps) == (True, True, None, 30)
    pictures = list(islice(source, 4))
    assert [picture.index for picture in pictures] == [0, 1, 2, 3]
    np.testing.assert_allclose([picture.time_ms for picture in pictures], [0, 40, 80, 120])


def test_a_camera_that_is_not_there_is_said_at_once(clock: Clock) -> None:
    with pytest.raises(CunetError, match="cam: cannot be opened; plug it in") as caught:
        live(Plug(), clock)
    assert caught.value.exit_code == 1


def test_a_camera_that_is_plugged_in_again_goes_on(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    first, second = FakeCapture(3, clock=clock), FakeCapture(3, clock=clock)
    gone = [FakeCapture(0, opened=False, clock=clock) for _ in range(3)]
    source = live(Plug(first, *gone, second), clock)
    with caplog.at_level(logging.WARNING):
        pictures = list(islice(source, 6))
    assert [picture.index for picture in pictures] == list(range(6))
    times = np.diff([picture.time_ms for picture in pictures])
    assert (times > 0).all()
    assert times[2] == pytest.approx(1000 * (0.25 + 0.5 + 1 + 2) + 80)  # pauses double
    assert source.reconnected == 1
    assert first.released
    assert [record.message.split(":")[1][:12] for record in caplog.records] == [" no more fra", " is back aft"]


def test_a_camera_that_stays_away_is_given_up(clock: Clock) -> None:
    plug = Plug(FakeCapture(3, clock=clock))
    seen = []
    with pytest.raises(
        CunetError, match=r"cam: was lost after 3 frames and did not come back for \d+ s; .* wait longer"
    ):
        for picture in live(plug, clock, reconnect=20):
            seen.append(picture.index)
    assert seen == [0, 1, 2]
    assert 15 < clock.now <= 20.2
    assert 5 <= plug.calls <= 9


def test_without_reconnecting_it_is_given_up_at_once(clock: Clock) -> None:
    plug = Plug(FakeCapture(2, clock=clock), FakeCapture(2))
    with pytest.raises(CunetError, match="cam: was lost after 2 frames; check it"):
        list(live(plug, clock, reconnect=0))
    assert plug.calls == 1


def test_a_camera_that_opens_but_gives_nothing_is_given_up(clock: Clock) -> None:
    with pytest.raises(CunetError, match="was lost after 0 frames"):
        list(live(lambda: FakeCapture(0, clock=clock), clock, reconnect=5))


def test_a_source_that_was_left_is_released(clock: Clock) -> None:
    capture = FakeCapture(9)
    with closing(iter(live(Plug(capture), clock))) as pictures:  # type: ignore[type-var]
        next(pictures)
    assert capture.released
    waiting = FakeCapture(9)
    live(Plug(waiting), clock).close()
    assert waiting.released


def test_an_error_of_opening_comes_through(clock: Clock) -> None:
    def connect() -> FakeCapture:
        raise cv2.error("no such backend")

    with pytest.raises(cv2.error, match="no such backend"):
        live(connect, clock)


@pytest.mark.parametrize("text", ["0", "7", "/dev/video0", "/dev/video7"])
def test_a_camera_is_opened_by_number_or_path(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    made = []

    def capture(where: int | str, backend: int) -> FakeCapture:
        made.append((where, FakeCapture(5)))
        return made[-1][1]

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    source = open_source(text, size=FrameSize(640, 480, 30))
    assert isinstance(source, LiveSource)
    where, opened = made[0]
    assert where == int(text[-1])
    assert list(opened.properties.values()) == [640, 480, 30]
    assert source.stem == ("camera" if len(text) == 1 else "video") + text[-1]


def test_a_missing_camera_is_named_with_what_there_is() -> None:
    with pytest.raises(CunetError, match="camera 97: cannot be opened") as caught:
        open_source("97")
    assert caught.value.exit_code == 1
    with pytest.raises(CunetError, match="/dev/video97: cannot be opened"):
        open_source("/dev/video97")


@pytest.mark.parametrize("turn", ["", "?flip=2"])
def test_a_csi_camera_is_a_pipeline(turn: str) -> None:
    pipeline = csi_pipeline(f"csi://1{turn}", FrameSize(1920, 1080, 59.94))
    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM), width=1920, height=1080, ")
    assert "framerate=59940/1000" in pipeline
    assert f"flip-method={turn[-1:] or 0}" in pipeline
    assert pipeline.endswith("appsink drop=true max-buffers=1 sync=false")


@pytest.mark.parametrize("url", ["csi://", "csi://x", "csi://0?flip=9", "csi://0?width=3", "csi://0/1"])
def test_what_is_no_csi_camera_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="write csi://0"):
        open_source(url)


def test_without_gstreamer_the_pipeline_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: False)
    with pytest.raises(MissingDependencyError, match=r"has no GStreamer.*nvarguscamerasrc sensor-id=0"):
        open_source("csi://0")


def test_with_gstreamer_the_pipeline_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def capture(pipeline: str, *settings: Any) -> FakeCapture:
        made.append(pipeline)
        return FakeCapture(3, opened=len(made) > 1)  # as one that knows no time-outs

    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: True)
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    source = open_source("csi://2?flip=2")
    assert made == [csi_pipeline("csi://2?flip=2")] * 2
    assert source.stem == "csi2"
    assert len(list(islice(source, 3))) == 3


@pytest.mark.parametrize("url", ["gopher://host/x", "rtsp://", "http:///path"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"is not read|names no host"):
        open_source(url)


def test_messages_show_no_password() -> None:
    assert shown_name("rtsp://me:secret@10.0.0.9:554/a?x=1") == "rtsp://10.0.0.9:554/a?x=1"
    with pytest.raises(CunetError) as caught:
        open_source("http://me:secret@127.0.0.1:9/a", timeout=2)
    assert "secret" not in str(caught.value)
    assert "http://127.0.0.1:9/a: cannot be opened" in str(caught.value)


def numbered(number: int) -> np.ndarray:
    """A picture that says which one it is."""
    return np.full((48, 64, 3), number % 50 * 5, np.uint8)


def number_of(image: np.ndarray) -> int:
    return round(float(image.mean()) / 5)


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer(numbered) as server:
        yield server


def test_a_stream_gives_frames_with_real_times(server: MjpegServer) -> None:
    source = open_source(server.url, timeout=60)
    assert isinstance(source, LiveSource)
    assert source.stem == "camera"
    frames, begun = iter(source), time.monotonic()
    pictures = list(islice(frames, 20))
    passed_ms = 1000 * (time.monotonic() - begun)
    assert [number_of(picture.image) for picture in pictures] == list(range(20))
    times = [picture.time_ms for picture in pictures]
    assert (np.diff(times) > 0).all()
    assert times[-1] - times[0] <= passed_ms
    time.sleep(0.3)
    assert next(frames).time_ms - times[-1] >= 300
    assert server.connections == 1


def test_a_slow_reader_gets_the_newest_frames_and_is_never_late(server: MjpegServer) -> None:
    come = []

    def counted() -> Iterator[Any]:
        for picture in open_source(server.url):
            come.append(picture.index)
            yield picture

    def wait_for(count: int) -> None:
        end = time.monotonic() + 40
        while len(come) < count:
            assert time.monotonic() < end
            time.sleep(0.01)

    with closing(read_ahead(counted(), 2, drop_old=True)) as pictures:
        first = next(pictures).index
        for count in (30, 60):  # what comes while the reader is busy
            wait_for(count)
            newest = next(pictures).index
            assert newest >= count - 3  # two wait, and one is in hand
    assert first < newest


def test_a_stream_that_is_cut_and_comes_back_goes_on(server: MjpegServer) -> None:
    source = open_source(server.url, timeout=5, reconnect=20)
    assert isinstance(source, LiveSource)
    pictures = iter(source)
    before = [next(pictures) for _ in range(5)]
    server.cut()
    threading.Timer(0.5, server.start).start()
    rest = list(islice(pictures, server.sent + 10))
    everything = [*before, *rest]
    assert [picture.index for picture in everything] == list(range(len(everything)))
    assert (np.diff([picture.time_ms for picture in everything]) > 0).all()
    assert source.reconnected == 1
    assert server.connections == 2


def test_a_stream_that_stalls_is_opened_again(server: MjpegServer) -> None:
    source = open_source(server.url, timeout=0.6, reconnect=20)
    assert isinstance(source, LiveSource)
    pictures = iter(source)
    for _ in range(5):
        next(pictures)
    server.stall()
    threading.Timer(1.0, server.resume).start()
    while source.reconnected == 0:
        next(pictures)
    assert server.connections >= 2


def test_a_stream_that_stays_away_is_given_up(server: MjpegServer) -> None:
    pictures = iter(open_source(server.url, timeout=1, reconnect=1))
    next(pictures)
    server.cut()
    with pytest.raises(CunetError, match=r"http://127.* was lost after \d+ frames and did not come back for 1 s"):
        for _ in pictures:
            pass


def test_a_stalled_stream_can_be_stopped_at_once(server: MjpegServer) -> None:
    stop = threading.Event()
    source = open_source(server.url, timeout=600)
    assert isinstance(source, LiveSource)
    pictures = read_ahead(source, 2, drop_old=True, stop=stop)
    next(pictures)
    server.stall()
    threading.Timer(0.3, stop.set).start()
    begun = time.monotonic()
    assert len(list(pictures)) < 60
    assert time.monotonic() - begun < 300
    source.close()
    server.cut()  # and the thread that was left behind ends


def test_an_rtsp_stream_is_read_cut_and_comes_back() -> None:
    with RtspServer(numbered) as server:
        source = open_source(server.url, timeout=5, reconnect=20)
        assert isinstance(source, LiveSource)
        assert (source.live, source.stem) == (True, "cam")
        pictures = iter(source)
        first = [next(pictures) for _ in range(20)]
        assert first[0].image.shape == (48, 64, 3)
        numbers = [number_of(picture.image) for picture in first]
        assert numbers == list(range(numbers[0], numbers[0] + 20))
        server.cut()
        threading.Timer(0.4, server.start).start()
        while source.reconnected == 0:
            last = next(pictures)
        assert last.index >= 20
        assert last.time_ms > first[-1].time_ms + 300


def test_a_stream_that_was_opened_by_its_url_is_closed_with_the_generator(
    server: MjpegServer, dots_model: Path
) -> None:
    threads = threading.active_count()
    with Localizer(dots_model, threads=1) as localizer, closing(localizer.stream(server.url)) as frames:
        first, second = next(frames), next(frames)
        assert 0 <= first.time_ms < second.time_ms
        server.cut()  # the thread now tries to open it again, for half a minute
        time.sleep(0.2)
    end = time.monotonic() + 60
    while any(thread.name == "read-ahead" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert threading.active_count() <= threads


class Slow:
    """A capture that takes long to open."""

    def __init__(self) -> None:
        self.go, self.released = threading.Event(), threading.Event()

    def open(self) -> Any:
        self.go.wait(10)
        return self

    def release(self) -> None:
        self.released.set()


def test_a_camera_that_opens_too_late_is_released_again() -> None:
    slow = Slow()
    assert _beside(slow.open, 0.05) is None
    slow.go.set()
    assert slow.released.wait(10)


def test_a_camera_that_opens_in_time_is_kept() -> None:
    quick = Slow()
    quick.go.set()
    kept: Any = _beside(quick.open, 10)
    assert kept is quick
    assert not quick.released.is_set()
