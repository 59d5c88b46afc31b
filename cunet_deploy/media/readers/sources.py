"""Where frames come from: an image, a folder or pattern of images, a video or GIF, a camera, a stream, a pipe."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import FrameSize, Picture
from cunet_deploy.media.readers.csi import open_csi
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES, read_image
from cunet_deploy.media.readers.live import open_camera, open_device, open_url, shown_url
from cunet_deploy.media.readers.raw import open_stdin
from cunet_deploy.media.readers.video import VIDEO_SUFFIXES, Video

__all__ = ["ImageFiles", "RemoteVideo", "Source", "VideoFile", "open_files", "open_source"]

_STREAMS = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp", "tcp", "srt")
_FILES_OVER = ("http", "https")
"""Protocols by which whole files come too."""


class Source(Protocol):
    """Frames, one after the other. Each class says what else iterating over it raises."""

    @property
    def moving(self) -> bool:
        """Whether successive frames show the same scene, so that objects can be followed."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own time, so that those that come too fast are left out."""

    @property
    def count(self) -> int | None:
        """How many frames, where that is known."""

    @property
    def fps(self) -> float:
        """Frames per second; 0 for image files."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def stem(self) -> str:
        """What result files are called after."""

    @property
    def originals(self) -> tuple[Path, ...]:
        """Files that are read, and must not be replaced."""

    def __iter__(self) -> Iterator[Picture]:
        """The frames."""


class ImageFiles:
    """Images, one after the other. Iterating may raise `InputError` for a file that cannot be read."""

    moving = False
    live = False
    fps = 0.0

    def __init__(self, paths: list[Path], *, single: bool) -> None:
        """Take image files.

        Args:
            paths: in the order to read.
            single: whether the user named one file, as opposed to a folder or pattern.
        """
        self.paths = self.originals = tuple(paths)
        self.single = single
        self.name, self.stem = str(paths[0]), paths[0].stem

    @property
    def count(self) -> int | None:
        """How many files."""
        return len(self.paths)

    def __iter__(self) -> Iterator[Picture]:
        for index, path in enumerate(self.paths):
            yield Picture(index, 0.0, read_image(path), path.name)


class VideoFile:
    """A video file or animated GIF. Iterating raises `CunetError` where the video breaks off."""

    moving = True
    live = False

    def __init__(self, path: Path) -> None:
        """Look into a video.

        Raises:
            InputError: it is missing, empty or not a video.
        """
        self.path, self.name, self.stem, self.originals = path, str(path), path.stem, (path,)
        with Video(path) as video:
            self.count: int | None = video.count
            self.fps: float = video.fps

    def __iter__(self) -> Iterator[Picture]:
        with Video(self.path) as video:
            for index, (time_ms, image) in enumerate(video):
                yield Picture(index, time_ms, image)


class RemoteVideo:
    """A video file on a web server: it has an end, and every frame of it is read. Otherwise as `VideoFile`."""

    moving = True
    live = False
    originals: tuple[Path, ...] = ()

    def __init__(self, url: str, timeout: float) -> None:
        """Look into a video.

        Args:
            url: where it is.
            timeout: seconds to wait for the server.

        Raises:
            InputError: it cannot be opened.
        """
        self._url, self._timeout = url, timeout
        self.name, self.stem = shown_url(url), Path(urlsplit(url).path).stem or "video"
        with Video(url, timeout) as video:
            self.count: int | None = video.count
            self.fps: float = video.fps

    def __iter__(self) -> Iterator[Picture]:
        with Video(self._url, self._timeout) as video:
            for index, (time_ms, image) in enumerate(video):
                yield Picture(index, time_ms, image)


def open_source(
    source: str | Path, *, size: FrameSize | None = None, timeout: float = 10.0, reconnect: float = 30.0
) -> Source:
    """Find out what a text stands for.

    Args:
        source: what `open_files` takes; the number of a camera, ``"0"``, or its path, ``"/dev/video0"``; a URL that
            begins with ``rtsp://``, ``http://`` or another protocol of FFmpeg; ``"csi://0"``, a camera on a Jetson's
            connector, see `media.readers.csi`; ``"-"``, raw frames on stdin, see `media.readers.raw`.
        size: what to ask a camera for; of raw frames, which need it.
        timeout: seconds until a camera or stream that gives nothing counts as lost.
        reconnect: seconds for which one that was lost is tried again.

    Raises:
        InputError: there is no such file, or it is empty or of another type.
        CunetError: a camera or stream cannot be opened.
    """
    text = str(source)
    if text == "-":
        return open_stdin(size)
    if re.fullmatch(r"\d{1,3}", text) and not Path(text).is_file():
        return open_camera(int(text), size, timeout=timeout, reconnect=reconnect)
    if re.match(r"/dev/(video|v4l/)", text) or Path(text).is_char_device():
        return open_device(Path(text), size, timeout=timeout, reconnect=reconnect)
    scheme, divider, _ = text.partition("://")
    if divider and not Path(text).exists():
        return _open_url(text, scheme.lower(), size, timeout, reconnect)
    return open_files(source)


def _open_url(url: str, scheme: str, size: FrameSize | None, timeout: float, reconnect: float) -> Source:
    if scheme == "csi":
        return open_csi(url, size, timeout=timeout, reconnect=reconnect)
    if scheme == "file":
        return open_files(Path(urlsplit(url).path))
    if scheme not in _STREAMS:
        raise InputError(f"{url}: {scheme}:// is not read; expected csi:// or {', '.join(f'{s}://' for s in _STREAMS)}")
    if not urlsplit(url).hostname:
        raise InputError(f"{url}: names no host; write {scheme}://HOST/PATH")
    stream = open_url(url, timeout=timeout, reconnect=reconnect)
    if scheme in _FILES_OVER and stream.announced:
        stream.close()
        return RemoteVideo(url, timeout)
    return stream


def open_files(source: str | Path) -> ImageFiles | VideoFile:
    """Find out what a path or pattern stands for.

    Args:
        source: an image, a folder of images (not searched deeper), a pattern such as ``photos/*.jpg``, a video or GIF.

    Raises:
        InputError: there is no such file, or it is empty or of another type.
    """
    path = Path(source)
    if path.is_dir():
        found = [item for item in sorted(path.iterdir()) if _is_image(item)]
        if not found:
            raise InputError(f"{path}: the folder holds no images; expected {', '.join(IMAGE_SUFFIXES)} files in it")
        return ImageFiles(found, single=False)
    if not path.exists() and glob.has_magic(str(source)):
        matches = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))]  # noqa: PTH207  any root
        found = [item for item in matches if _is_image(item)]
        if not found:
            raise InputError(f"{source}: no image matches the pattern; expected {', '.join(IMAGE_SUFFIXES)} files")
        return ImageFiles(found, single=False)
    if not path.is_file():
        raise InputError(f"{source}: does not exist; give an image, a folder or pattern of images, or a video")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; copy or record it again")
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return ImageFiles([path], single=True)
    if suffix in VIDEO_SUFFIXES:
        return VideoFile(path)
    raise InputError(
        f"{path}: type {suffix or '(none)'} is not read; expected an image ({', '.join(IMAGE_SUFFIXES)}) "
        f"or a video ({', '.join(VIDEO_SUFFIXES)})"
    )


def _is_image(path: Path) -> bool:
    """By its name; hidden files, such as the ``._photo.jpg`` that some systems leave, are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
