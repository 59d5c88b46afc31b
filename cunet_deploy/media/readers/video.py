"""Video files and animated GIFs, on this machine or on a web server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cunet_deploy._files import shown_name
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.frames import LeftOut, Picture
from cunet_deploy.media.readers.container import VideoContainer
from cunet_deploy.media.readers.gif import gif_is_whole
from cunet_deploy.media.url_names import url_name

__all__ = ["VIDEO_SUFFIXES", "RemoteVideo", "VideoFile"]

VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".flv", ".3gp"),
    *(".ogv", ".vob", ".mxf", ".mjpeg", ".mjpg", ".gif"),
)


class VideoFile:
    """A video file or animated GIF. Iterating raises `CunetError` where the video breaks off.

    Pictures are as players show them: upright, with square pixels. See `cunet_deploy.media.readers.container` for what
    times and numbers are where a file is damaged. Frames of a GIF without a duration last 100 ms, as in browsers.
    """

    moving = True
    live = False

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Look into a video.

        Args:
            path: a file.
            threads: of the decoder; ``None``: one less than there are processors.

        Raises:
            InputError: it is missing, empty or not a video.
        """
        _check_file(path)
        self._threads = threads
        self.path, self.name, self.stem, self.originals = path, str(path), path.stem, (path,)
        self.left_out: list[LeftOut] = []
        with VideoContainer(path) as video:
            self.count: int | None = video.count
            self.fps: float = video.fps

    def __iter__(self) -> Iterator[Picture]:
        self.left_out.clear()
        read = 0
        with VideoContainer(self.path, threads=self._threads) as video:
            video.left_out = self.left_out
            for index, time_ms, image in video:
                yield Picture(index, time_ms, image)
                read = index + 1
        if self.path.suffix.lower() == ".gif" and not gif_is_whole(self.path.read_bytes()):
            raise CunetError(f"{self.path}: breaks off after frame {read}; copy or record it again")


class RemoteVideo:
    """A video file on a web server: it has an end, and every frame of it is read. Otherwise as `VideoFile`."""

    moving = True
    live = False
    originals: tuple[Path, ...] = ()

    def __init__(self, url: str, timeout: float, gif: bytes | None = None) -> None:
        """Look into a video.

        Args:
            url: where it is.
            timeout: seconds to wait for the server.
            gif: its content, where it is a GIF that was fetched.

        Raises:
            InputError: it cannot be opened.
        """
        self._where, self._timeout, self._gif = gif or url, timeout, gif
        self.name, self.stem = shown_name(url), Path(url_name(url)).stem or "video"
        self.left_out: list[LeftOut] = []
        with VideoContainer(self._where, name=self.name, timeout=timeout) as video:
            self.count: int | None = video.count
            self.fps: float = video.fps

    def __iter__(self) -> Iterator[Picture]:
        self.left_out.clear()
        read = 0
        with VideoContainer(self._where, name=self.name, timeout=self._timeout) as video:
            video.left_out = self.left_out
            for index, time_ms, image in video:
                yield Picture(index, time_ms, image)
                read = index + 1
        if self._gif is not None and not gif_is_whole(self._gif):
            raise CunetError(f"{self.name}: breaks off after frame {read}; try again")


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if size == 0:
        raise InputError(f"{path}: is empty; copy or record it again")
