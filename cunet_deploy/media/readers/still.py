"""Image at a URL, such as the snapshot of a camera: it is fetched once, and is no stream."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPDigestAuthHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPSHandler,
    OpenerDirector,
    build_opener,
)

from cunet_deploy._files import shown_name
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.frames import LeftOut, Picture
from cunet_deploy.media.readers.animation import AnimatedImage
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES, decode_image, frames_in_animation
from cunet_deploy.media.readers.live import network_advice
from cunet_deploy.media.readers.video import RemoteVideo
from cunet_deploy.media.url_names import url_name

__all__ = ["RemoteImage", "open_still"]

_MOST_BYTES = 1 << 28


class RemoteImage:
    """A picture that was fetched. Iterating raises `InputError` where it is damaged."""

    moving = False
    live = False
    count: int | None = 1
    fps = 0.0
    originals: tuple[Path, ...] = ()

    def __init__(self, url: str, data: bytes) -> None:
        """Take the content of an image file, and where it came from."""
        self.name, self._data = shown_name(url), data
        name = url_name(url) or "image"
        self.stem, self.file_names = PurePosixPath(name).stem, [name]
        self.left_out: list[LeftOut] = []

    def __iter__(self) -> Iterator[Picture]:
        yield Picture(0, 0.0, decode_image(self._data, self.name), self.file_names[0])


def open_still(url: str, timeout: float) -> RemoteImage | AnimatedImage | RemoteVideo | None:
    """The picture or animation at a URL; ``None`` where the server sends something else, or refuses.

    Args:
        url: of HTTP, with a user name and password or without.
        timeout: seconds to wait for the server.

    Raises:
        CunetError: the server does not answer, its certificate is not trusted, or the picture breaks off.
        InputError: it is too large.
    """
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        answer = _opener(address, parts.username, parts.password).open(address, timeout=timeout)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            if not _is_still_unverified(address, timeout):
                return None
            why = reason.verify_message.rstrip(".")
            raise CunetError(
                f"{shown_name(url)}: its certificate is not trusted ({why}); install it, or name its file in the "
                "variable SSL_CERT_FILE, and use the host name that it is for; or use http://"
            ) from error
        if isinstance(reason, TimeoutError):
            raise CunetError(f"{shown_name(url)}: cannot be opened; {network_advice(timeout)}") from error
        return None  # FFmpeg may know better
    with answer:
        if not _is_still(answer, parts.path):
            return None
        try:
            data = answer.read(_MOST_BYTES + 1)
        except (OSError, HTTPException) as error:
            raise CunetError(f"{shown_name(url)}: the picture breaks off; check the network and try again") from error
    if len(data) > _MOST_BYTES:
        raise InputError(f"{shown_name(url)}: the picture has more than {_MOST_BYTES >> 20} MiB; give a smaller one")
    if data.startswith(b"GIF8"):
        return RemoteVideo(url, timeout, data)
    still, count = RemoteImage(url, data), frames_in_animation(data)
    return AnimatedImage(data, count, name=still.name, stem=still.stem) if count > 1 else still


def _is_still(answer: HTTPResponse, path: str) -> bool:
    """Return whether a server sends a picture, or an animated one that ends, by its headers."""
    kind = answer.headers.get_content_type()
    named = PurePosixPath(path).suffix.lower() in (*IMAGE_SUFFIXES, ".gif")
    return kind.startswith("image/") or (kind.endswith("/octet-stream") and named)


def _is_still_unverified(address: str, timeout: float) -> bool:
    """Return the same where the certificate is not trusted: FFmpeg, which reads streams, checks none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with build_opener(HTTPSHandler(context=context)).open(address, timeout=timeout) as answer:
            return _is_still(answer, urlsplit(address).path)
    except (OSError, HTTPException, ValueError):
        return False


def _opener(address: str, user: str | None, password: str | None) -> OpenerDirector:
    known = HTTPPasswordMgrWithDefaultRealm()
    if user is not None:
        known.add_password(None, address, unquote(user), unquote(password or ""))
    return build_opener(HTTPBasicAuthHandler(known), HTTPDigestAuthHandler(known))
