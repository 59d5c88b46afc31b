"""Reading and writing video files through OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.readers.live import shown_url, url_capture
from cunet_deploy.media.readers.mp4 import MP4_SUFFIXES, shown_seconds
from cunet_deploy.media.writers.encode import FfmpegWriter, find_ffmpeg, fitted

__all__ = ["VIDEO_SUFFIXES", "WRITABLE_SUFFIXES", "FrameWriter", "Video", "VideoWriter", "open_writer"]

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".gif")

# What the OpenCV wheels can encode everywhere; they carry no H.264 encoder. VLC, mpv and QuickTime play mp4v.
_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
WRITABLE_SUFFIXES = tuple(_CODECS)
_H264 = (".mp4", ".m4v", ".mov", ".mkv")

_SLACK_FRAMES = 2
"""Headers of whole files are off by this much: a container may announce frames that nothing shows."""
_DEFAULT_FPS = 25.0


def _capture(path: Path | str, timeout: float = 0) -> Any:
    if isinstance(path, str):
        return url_capture(path, timeout)
    # FFmpeg's own remarks on damaged files go straight to stderr; what is wrong is said once, by us
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # decoding runs beside the network: on every core it would take turns with it, and both would be slower
    threads = max((os.cpu_count() or 2) - 1, 1)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
    return capture if capture.isOpened() else cv2.VideoCapture(str(path))


class Video:
    """A video file that is being read: iterate once over ``(time_ms, (H, W, 3) BGR)``. Use it in ``with``."""

    def __init__(self, path: Path | str, timeout: float = 10.0) -> None:
        """Open a video.

        Args:
            path: a file, or a URL as text.
            timeout: seconds to wait for the server of a URL.

        Raises:
            InputError: it is missing, empty or not a video.
        """
        if isinstance(path, Path):
            _check_file(path)
        self._path = path
        self._suffix = Path(path).suffix.lower()
        self._name = shown_url(path) if isinstance(path, str) else str(path)
        self._capture = _capture(path, timeout)
        if not self._capture.isOpened():
            raise InputError(f"{self._name}: is cut off, damaged or not a video that OpenCV reads; copy it again")
        announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.count = int(announced) if announced > 0 else None
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps <= 1000 else _DEFAULT_FPS

    def __iter__(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Frames with their times.

        Raises:
            InputError: not a single frame can be decoded.
            CunetError: the video ends before its announced end; the frames until there came before.
        """
        read, time_ms = 0, 0.0
        while True:
            good, image = self._capture.read()
            if not good:
                break
            stamp = float(self._capture.get(cv2.CAP_PROP_POS_MSEC))
            time_ms = stamp if read == 0 or stamp > time_ms else time_ms + 1000 / self.fps
            read += 1
            yield time_ms, np.asarray(image, np.uint8)
        if not read:
            raise InputError(f"{self._name}: holds no frame that can be decoded; copy or record it again")
        if self._broken_off(read, time_ms):
            announced = f" of {self.count}" if self.count and self.count > read else ""
            raise CunetError(f"{self._name}: breaks off after frame {read}{announced}; copy or record it again")

    def _broken_off(self, read: int, time_ms: float) -> bool:
        if isinstance(self._path, Path) and self._suffix == ".gif":
            return not _gif_is_whole(self._path)
        if self.count is None or read >= self.count - _SLACK_FRAMES:
            return False
        # in a clip that was cut without encoding it anew, not all frames that it has are shown
        shown = shown_seconds(self._path) if isinstance(self._path, Path) and self._suffix in MP4_SUFFIXES else None
        if shown is not None:
            return time_ms < shown * 1000 - (1 + _SLACK_FRAMES) * 1000 / self.fps
        # with frames of uneven length the announced count is only duration times rate: then the time tells
        return time_ms < (self.count - 1 - _SLACK_FRAMES) * 1000 / self.fps

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if size == 0:
        raise InputError(f"{path}: is empty; copy or record it again")


def _gif_is_whole(path: Path) -> bool:
    """A GIF ends with the byte ``;``; some writers pad with zeros."""
    with path.open("rb") as file:
        file.seek(-min(64, path.stat().st_size), os.SEEK_END)
        return file.read().rstrip(b"\0").endswith(b";")


class FrameWriter(Protocol):
    """Writes frames into a video file."""

    @property
    def playable(self) -> bool:
        """After `close`, also when that raises: whether the file holds something that plays."""

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a (H, W, 3) BGR frame; one of another size is fitted into the first one's."""

    def close(self) -> None:
        """Finish the file; raises `CunetError` when it is not whole."""

    def abort(self) -> None:
        """Stop writing; the file is of no use."""


def open_writer(
    path: Path, fps: float, size: tuple[int, int], *, name: Path | None = None, audio: Path | None = None
) -> FrameWriter:
    """Start a video file: H.264 where there is an ffmpeg program, else what OpenCV can encode.

    Args:
        path: its suffix chooses the format, see `WRITABLE_SUFFIXES`.
        fps: frames per second.
        size: (width, height).
        name: what errors call it, when ``path`` is a temporary one.
        audio: a video whose sound is copied where there is an ffmpeg program.

    Raises:
        InputError: the suffix is not one that can be written.
        CunetError: the file cannot be written.
    """
    ffmpeg = find_ffmpeg() if path.suffix.lower() in _H264 else None
    if ffmpeg is None:
        return VideoWriter(path, fps, size, name=name)
    return FfmpegWriter(path, fps, size, name=name or path, ffmpeg=ffmpeg, audio=audio)


class VideoWriter:
    """Writes BGR frames of one size into a video file, with OpenCV's own encoders. See `FrameWriter`."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int], *, name: Path | None = None) -> None:
        """Start a file.

        Args:
            path: its suffix chooses the format, see `WRITABLE_SUFFIXES`.
            fps: frames per second.
            size: (width, height).
            name: what errors call it, when ``path`` is a temporary one.

        Raises:
            InputError: the suffix is not one that can be written.
            CunetError: the file cannot be written.
        """
        codec = _CODECS.get(path.suffix.lower())
        if codec is None:
            raise InputError(
                f"{path}: video is written as {', '.join(WRITABLE_SUFFIXES)}; choose one of these suffixes"
            )
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._path, self._name, self._size = path, name or path, size
        self._frames = 0
        self.playable = False
        fourcc: Any = cv2.VideoWriter.fourcc(*codec)
        self._odd = (size[0] % 2, size[1] % 2)  # OpenCV would cut off a column or row: one is added instead
        self._writer = cv2.VideoWriter(str(path), fourcc, fps, (size[0] + self._odd[0], size[1] + self._odd[1]))
        if not self._writer.isOpened():
            raise CunetError(
                f"{self._name}: OpenCV cannot write {codec} video of {size[0]}x{size[1]} here; try another suffix"
            )

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a frame; one of another size is fitted into the first one's."""
        image = fitted(image, self._size)
        if any(self._odd):
            right, below = self._odd
            image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
        self._writer.write(image)
        self._frames += 1

    def close(self) -> None:
        """Finish the file and look whether it is whole, since OpenCV does not report a full disk.

        Raises:
            CunetError: frames are missing in it.
        """
        self._writer.release()
        check = _capture(self._path)
        written = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        self.playable = bool(check.isOpened() and check.grab())
        check.release()
        if written < self._frames - _SLACK_FRAMES:
            raise CunetError(f"{self._name}: only {written} of {self._frames} frames were written; is the disk full?")

    def abort(self) -> None:
        """Stop writing; the file is of no use."""
        self._writer.release()
