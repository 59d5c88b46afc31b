"""Cameras and streams: frames that come when they want to, sources that vanish and come back.

A source that is lost, because a cable was pulled or a stream stalls or ends, is opened again after a pause that doubles
each time, until there was no frame for ``reconnect`` seconds. Times are those of this machine's monotonic clock when
the frame came, from the first frame on; they go on over a gap.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np

from cunet_deploy._files import shown_name
from cunet_deploy.errors import CunetError
from cunet_deploy.media.frames import FrameSize, LeftOut, Picture
from cunet_deploy.media.url_names import safe_segments, url_name

__all__ = ["Capture", "LiveSource", "network_advice", "open_camera", "open_device", "open_url", "url_capture"]

_LOG = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_USUAL_FPS = 30.0


class Capture(Protocol):
    """Methods of ``cv2.VideoCapture`` that are needed."""

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        """Return whether there is something to read."""

    def read(self) -> tuple[bool, Any]:
        """Wait for a frame; false when there is none."""

    def get(self, prop: int) -> float:
        """A property."""

    def release(self) -> None:
        """Close it."""


class LiveSource:
    """A camera or stream that is open. Iterating raises `CunetError` when it is lost and does not come back.

    Attributes:
        name: what messages call it; without a password.
        stem: what result files are called after.
        fps: what it announces, else 30.
        announced: how many frames it says that it has: then it is a file; else 0.
        reconnected: how many times it was lost and came back.
    """

    moving = True
    """Successive frames show the same scene."""
    live = True
    """Frames come whether they are wanted or not: those that come too fast are left out."""
    count: int | None = None
    originals: tuple[Path, ...] = ()

    def __init__(
        self,
        connect: Callable[[], Capture],
        *,
        name: str,
        stem: str,
        advice: str,
        timeout: float = 10.0,
        reconnect: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open a source.

        Args:
            connect: opens it; called again whenever it is lost. It and ``read`` of what it gives return after a while
                when nothing comes.
            name: what messages call it.
            stem: what result files are called after.
            advice: what to do when it cannot be opened: the end of that message.
            timeout: seconds after which ``connect`` is no longer waited for, times two: it has a limit of its own.
            reconnect: seconds without a frame after which it is given up; 0: at once.
            clock: seconds.

        Raises:
            CunetError: it cannot be opened.
        """
        self.name, self.stem = name, stem
        self.left_out: list[LeftOut] = []
        self.reconnected = 0
        self._connect, self._patience, self._clock = connect, reconnect, clock
        self._closed = threading.Event()
        self._capture = _beside(lambda: self._open(), 2 * timeout)
        if self._capture is None:
            raise CunetError(f"{name}: cannot be opened; {advice}")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps <= 1000 else _USUAL_FPS
        self.announced = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[Picture]:
        capture, self._capture = self._capture, None
        index, begun, lost, pause = 0, 0.0, None, _FIRST_PAUSE
        try:
            while not self._closed.is_set():
                good, image = capture.read() if capture is not None else (False, None)
                now = self._clock()
                if good and image is not None:
                    if lost is not None:
                        _LOG.warning("%s: is back after %.1f s", self.name, now - lost)
                        self.reconnected += 1
                        lost, pause = None, _FIRST_PAUSE
                    begun = begun if index else now
                    yield Picture(index, (now - begun) * 1000, np.asarray(image, np.uint8))
                    index += 1
                    continue
                if capture is not None:
                    capture.release()
                lost = self._lost(now, lost, pause, index)
                self._closed.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                capture = None if self._closed.is_set() else self._open()
        finally:
            if capture is not None:
                capture.release()

    def close(self) -> None:
        """Release it. What iterates over it ends with the frame that it waits for."""
        self._closed.set()
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _open(self) -> Capture | None:
        capture = self._connect()
        if capture.isOpened():
            return capture
        capture.release()
        return None

    def _lost(self, now: float, since: float | None, pause: float, frames: int) -> float:
        """Time at which it was lost, after a warning; an error where it is given up."""
        if since is None and self._patience > 0:
            _LOG.warning("%s: no more frames; trying to open it again for %g s", self.name, self._patience)
        start = now if since is None else since
        if now + pause - start > self._patience:
            waited = f" and did not come back for {now - start:.0f} s" if now > start else ""
            raise CunetError(
                f"{self.name}: was lost after {frames} frames{waited}; check it, and its cable or network, or wait "
                "longer",
                option="reconnect",
            )
        return start


def open_camera(
    index: int, size: FrameSize | None = None, *, timeout: float = 10.0, reconnect: float = 30.0
) -> LiveSource:
    """The camera of that number, as the system counts them.

    Args:
        index: from 0.
        size: what to ask the camera for; it may give something near it.
        timeout: see `LiveSource`.
        reconnect: see `LiveSource`.

    Raises:
        CunetError: there is none, or it is in use.
    """
    where: int | str = index
    return _camera(where, f"camera {index}", f"camera{index}", size, timeout, reconnect)


def open_device(
    path: Path, size: FrameSize | None = None, *, timeout: float = 10.0, reconnect: float = 30.0
) -> LiveSource:
    """The camera at a device path, such as ``/dev/video0`` or a link in ``/dev/v4l/by-id``; as `open_camera`.

    Raises:
        CunetError: there is none, or it is in use.
    """
    real = Path(os.path.realpath(path)).name
    number = real.removeprefix("video")
    where = int(number) if real.startswith("video") and number.isdecimal() else str(path)
    return _camera(where, str(path), path.name, size, timeout, reconnect)


def _camera(
    where: int | str, name: str, stem: str, size: FrameSize | None, timeout: float, reconnect: float
) -> LiveSource:
    def connect() -> Capture:
        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        capture = cv2.VideoCapture(where, backend)
        if capture.isOpened() and size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size.height)
            if size.fps is not None:
                capture.set(cv2.CAP_PROP_FPS, size.fps)
        return capture

    advice = _camera_advice(where)
    return LiveSource(connect, name=name, stem=stem, advice=advice, timeout=timeout, reconnect=reconnect)


def _camera_advice(where: int | str) -> str:
    """Advise on what is in the way, as far as it can be seen from outside."""
    if sys.platform != "linux":
        return "connect it, close other programs that use it, or allow this program to use cameras"
    path = Path(f"/dev/video{where}" if isinstance(where, int) else where)
    if not path.exists():
        there = ", ".join(sorted(str(item) for item in Path("/dev").glob("video*")))
        return f"{path} does not exist; " + (f"choose from {there}" if there else "no camera is connected: connect one")
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} may not be read; add yourself to its group, often `sudo usermod -aG video $USER`"
    return "close other programs that use it, or choose another: a camera may have several devices, not all with images"


def open_url(url: str, *, timeout: float = 10.0, reconnect: float = 30.0) -> LiveSource:
    """A stream from the network: RTSP, MJPEG over HTTP, and what else FFmpeg reads.

    Raises:
        CunetError: it cannot be opened.
    """
    stem = Path(url_name(url)).stem or next(iter(safe_segments(urlsplit(url).hostname or "")), "stream")
    return LiveSource(
        lambda: url_capture(url, timeout),
        name=shown_name(url),
        stem=stem,
        advice=network_advice(timeout),
        timeout=timeout,
        reconnect=reconnect,
    )


def network_advice(timeout: float) -> str:
    """Advise on a URL that cannot be opened."""
    return f"nothing answered within {timeout:g} s, or no stream; check address, password and network"


def url_capture(url: str, timeout: float) -> Any:
    """OpenCV's capture of a URL; connecting and each read end after ``timeout`` seconds."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    limit = max(round(timeout * 1000), 1)
    threads = max((os.cpu_count() or 2) - 1, 1)
    settings = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, [*settings, cv2.CAP_PROP_N_THREADS, threads])


def _beside(function: Callable[[], Capture | None], limit: float) -> Capture | None:
    """Run a function in a thread and return its result, so that Ctrl-C is heard meanwhile.

    ``None`` after ``limit`` seconds; what is opened later is released again.
    """
    result: list[Capture | None] = []
    failure: list[BaseException] = []
    handing_over, given_up = threading.Lock(), threading.Event()

    def work() -> None:
        try:
            opened = function()
            with handing_over:
                if not given_up.is_set():
                    result.append(opened)
                elif opened is not None:
                    opened.release()  # nobody waits for it any more, and it would keep the camera
        except BaseException as error:  # noqa: BLE001  raised below
            failure.append(error)

    thread = threading.Thread(target=work, name="connect", daemon=True)
    thread.start()
    end = time.monotonic() + limit
    try:
        while thread.is_alive() and time.monotonic() < end:
            thread.join(0.1)
    finally:
        with handing_over:
            given_up.set()
    if failure:
        raise failure[0]
    return result[0] if result else None
