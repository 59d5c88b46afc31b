"""Sources of frames: the table of all kinds of source, and the function that finds the right row for a text.

To add a kind, write a module with a class that has what `Source` asks for, and add its row to `READERS`.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cunet_deploy._files import exists, shown_name
from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import FrameSize
from cunet_deploy.media.readers.base import OpenOptions, Reader, Source
from cunet_deploy.media.readers.csi import open_csi
from cunet_deploy.media.readers.files import is_pattern, open_files
from cunet_deploy.media.readers.live import open_camera, open_device, open_url
from cunet_deploy.media.readers.raw import open_stdin
from cunet_deploy.media.readers.video import RemoteVideo
from cunet_deploy.media.source_lists import check_sources

__all__ = ["READERS", "open_source"]

_FILES_OVER = ("http", "https")
"""Protocols by which whole files come too."""
_STREAMS = ("rtsp", "rtsps", *_FILES_OVER, "rtmp", "rtmps", "udp", "tcp", "srt")


def _scheme(text: str) -> str:
    scheme, divider, _ = text.partition("://")
    return scheme.lower() if divider else ""


def _is_device(text: str) -> bool:
    return bool(re.match(r"/dev/(video|v4l/)", text)) or (exists(text) and Path(text).is_char_device())


def _is_file(text: str) -> bool:
    """Tell whether a path exists and is no device: it is a file whatever its name could mean, such as ``001``."""
    return (exists(text) and not _is_device(text)) or (is_pattern(text) and not _scheme(text))


def _host(url: str) -> str | None:
    """Host of a URL; ``None`` where it names none that can be."""
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.port != 0 else None
    except ValueError:  # no number for the port, or brackets that do not match
        return None


def _open_stream(url: str, options: OpenOptions) -> Source:
    scheme = _scheme(url)
    if scheme not in _STREAMS:
        known = ", ".join(f"{name}://" for name in ("csi", "file", *_STREAMS))
        raise InputError(f"{url}: {scheme}:// is not read; expected {known}")
    if not _host(url):
        raise InputError(f"{shown_name(url)}: names no host; write {scheme}://HOST/PATH or {scheme}://HOST:PORT/PATH")
    if scheme in _FILES_OVER:
        from cunet_deploy.media.readers.still import open_still  # urllib takes time to load

        still = open_still(url, options.timeout)
        if still is not None:
            return still
    stream = open_url(url, timeout=options.timeout, reconnect=options.reconnect)
    if scheme in _FILES_OVER and stream.announced:
        stream.close()
        return RemoteVideo(url, options.timeout)
    return stream


def _open_camera(text: str, options: OpenOptions) -> Source:
    return open_camera(int(text), options.size, timeout=options.timeout, reconnect=options.reconnect)


def _open_device(text: str, options: OpenOptions) -> Source:
    return open_device(Path(text), options.size, timeout=options.timeout, reconnect=options.reconnect)


def _open_csi(text: str, options: OpenOptions) -> Source:
    return open_csi(text, options.size, timeout=options.timeout, reconnect=options.reconnect)


_FILES = Reader(
    "FILE, FOLDER, 'PATTERN'",
    "images and videos",
    _is_file,
    lambda text, options: open_files(text),
)

READERS: tuple[Reader, ...] = (
    Reader(
        "-",
        "raw bgr24 frames on stdin, as ffmpeg -f rawvideo writes them; needs --size",
        lambda text: text == "-",
        lambda text, options: open_stdin(options.size),
    ),
    _FILES,
    Reader(
        "0, 1, ...",
        "a camera, by its number",
        lambda text: re.fullmatch(r"\d{1,3}", text) is not None,
        _open_camera,
    ),
    Reader("/dev/video0", "a camera, by its device", _is_device, _open_device),
    Reader(
        "csi://0, csi://0?flip=2",
        "a camera on the connector of a Jetson",
        lambda text: _scheme(text) == "csi",
        _open_csi,
    ),
    Reader(
        "file:///PATH",
        "a file",
        lambda text: _scheme(text) == "file",
        lambda text, options: open_files(unquote(urlsplit(text).path)),
    ),
    Reader(
        "rtsp://, http://, udp://, ...",
        "an image or video on a web server, or a stream, which is reopened when lost",
        lambda text: bool(_scheme(text)),
        _open_stream,
    ),
)
"""All kinds of source. The first row that claims a text opens it; what none claims is the name of a file."""


def open_source(
    source: str | Path, *, size: FrameSize | None = None, timeout: float = 10.0, reconnect: float = 30.0
) -> Source:
    """Find out what a text stands for, see `READERS`. A path that exists beats any other meaning.

    Args:
        source: what `cunet_deploy.media.readers.files.open_files` takes; the number of a camera, ``"0"``, or its path,
            ``"/dev/video0"``; a URL that begins with ``rtsp://``, ``http://`` or another protocol of FFmpeg;
            ``"csi://0"``, a camera on a Jetson's connector, see `cunet_deploy.media.readers.csi`; ``"-"``, raw frames
            on stdin, see `cunet_deploy.media.readers.raw`.
        size: what to ask a camera for; of raw frames, which need it.
        timeout: seconds until a camera or stream that gives nothing counts as lost.
        reconnect: seconds for which one that was lost is tried again.

    Raises:
        InputError: the source is an empty text, there is no such file, or it is empty or of another type.
        CunetError: a camera or stream cannot be opened.
    """
    text = str(source)
    check_sources([text])
    reader = next((row for row in READERS if row.claims(text)), _FILES)
    return reader.open(text, OpenOptions(size, timeout, reconnect))
