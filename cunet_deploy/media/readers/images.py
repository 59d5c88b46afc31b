"""Image files, decoded by OpenCV, and checked to be whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import shown_name
from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import LeftOut, Picture
from cunet_deploy.media.readers.heic import decode_heic, is_heic
from cunet_deploy.media.readers.heif import HeifItems, frames_in_tracks, turned
from cunet_deploy.media.readers.integrity import is_whole, stated_pixels
from cunet_deploy.pixels import as_bgr, depth_of, to_unsigned

__all__ = [
    "HEIC_SUFFIXES",
    "IMAGE_SUFFIXES",
    "WRITABLE_IMAGE_SUFFIXES",
    "ImageFiles",
    "decode_image",
    "frames_in_animation",
    "frames_in_image",
    "read_image",
]

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
    *HEIC_SUFFIXES,
    *((".avif",) if cv2.haveImageWriter(".avif") else ()),
)
"""Suffixes that are read as images; AVIF where this OpenCV was built with it."""

WRITABLE_IMAGE_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".pgm" and cv2.haveImageWriter(suffix))
"""Suffixes of images that OpenCV writes in colour."""

_MOST_PIXELS = 1 << 28
"""More than any camera has: beyond that a small file would fill the memory."""
_PNG_HEAD = 1 << 12
"""Bytes of a PNG file in which the number of frames stands, if it states one."""
_PAGED = (".tif", ".tiff")
_ANIMATED = (".webp", ".png", ".avif")
_DECODES_RANGES = "range" in (cv2.imdecodemulti.__doc__ or "")
"""True where OpenCV decodes one page without those before it; from 4.9 on."""
_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
"""Flags that keep all bits: OpenCV alone would keep the upper 8, which are almost black where 12 bits lie in 16."""


def read_image(path: Path, page: int = 0) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) BGR uint8, turned as its EXIF data or, in HEIC and AVIF, its container says.

    Values of more than 8 bits become such of 8, see `as_bgr` and `to_unsigned`.

    Args:
        path: the file.
        page: of a TIFF file with several, from 0.

    Raises:
        InputError: it is missing, empty, cut off or not an image.
    """
    return decode_image(_content(path), str(path), page)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def decode_image(data: bytes, name: str, page: int = 0, *, most_pixels: int = _MOST_PIXELS) -> NDArray[np.uint8]:
    """Decode the content of an image file; as `read_image`, with a name for messages, and a limit.

    OpenCV, which decodes all but HEIC photos, has a limit of its own for files that state no size.
    """
    return as_bgr(_decode_deep(data, name, page, most_pixels))


def _decode_deep(data: bytes, name: str, page: int, most_pixels: int) -> NDArray[np.uint8 | np.uint16]:
    """Pixels of an image file that is whole and not too large, with all the bits that it has, up to 16."""
    if not data:
        raise InputError(f"{name}: is empty; replace the file")
    stated = stated_pixels(data)
    if stated > most_pixels:
        raise InputError(
            f"{name}: states {stated / 1e6:.0f} megapixels, at most {most_pixels / 1e6:.0f} are read; scale it down"
        )
    if not is_whole(data):
        raise InputError(f"{name}: the image is cut off; copy it again")
    image = _decode(data, page, most_pixels)
    if image is None:
        raise InputError(f"{name}: is damaged or not an image; expected one of {', '.join(IMAGE_SUFFIXES)}")
    try:
        return to_unsigned(image)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def frames_in_image(path: Path) -> int:
    """Count the pages or frames of a file, by its header; 1 if unknown."""
    suffix = path.suffix.lower()
    if suffix not in (*_PAGED, *_ANIMATED):
        return 1
    try:
        if suffix in _PAGED:
            return max(int(cv2.imcount(str(path))), 1)
        with path.open("rb") as file:
            return frames_in_animation(file.read(_PNG_HEAD) if suffix == ".png" else file.read())
    except (cv2.error, OSError, UnicodeEncodeError):
        return 1


class ImageFiles:
    """Images, one after the other. Those that cannot be read are passed over and named in `left_out`.

    A TIFF file with several pages is an image for each, ``scan.tif``, ``scan.page2.tif`` and so on. Iterating raises
    `InputError` where no image can be read at all.

    Attributes:
        paths: files in the order they are read, repeated for each page.
        pages: numbers of the pages in their files, from 0, in the same order.
        file_names: of the pictures, in the same order.
        left_out: files that gave no picture so far.
    """

    moving = False
    live = False
    fps = 0.0

    def __init__(self, paths: list[Path], *, single: bool, left_out: list[LeftOut] | None = None) -> None:
        """Take image files.

        Args:
            paths: in the order to read.
            single: whether the user named one file, as opposed to a folder or pattern.
            left_out: files beside them that are known to be of no use.
        """
        self._items = [
            (path, page)
            for path in paths
            for page in range(frames_in_image(path) if path.suffix.lower() in _PAGED else 1)
        ]
        self.paths = tuple(path for path, _ in self._items)
        self.pages = tuple(page for _, page in self._items)
        self.file_names = [
            path.name if not page else f"{path.stem}.page{page + 1}{path.suffix}" for path, page in self._items
        ]
        self.originals = tuple(paths)
        self.single = single and len(self._items) == 1
        self.name, self.stem = str(paths[0]), paths[0].stem
        self._known = [replace(item, index=len(self._items) + place) for place, item in enumerate(left_out or ())]
        self.left_out: list[LeftOut] = []

    @property
    def count(self) -> int | None:
        """Number of images."""
        return len(self._items)

    def __iter__(self) -> Iterator[Picture]:
        return self._read(follow=False)

    def frames(self) -> Iterator[Picture]:
        """The images as frames of one video: those of more than 8 bits are scaled by what any so far has needed."""
        return self._read(follow=True)

    def _read(self, *, follow: bool) -> Iterator[Picture]:
        self.left_out.clear()
        read, depth = 0, 8
        for index, ((path, page), name) in enumerate(zip(self._items, self.file_names, strict=True)):
            name = shown_name(name)
            try:
                stored = _decode_deep(_content(path), str(path), page, _MOST_PIXELS)
                depth = max(depth, depth_of(stored)) if follow else 8
                image = as_bgr(stored, depth)
            except InputError as error:
                if self.single:
                    raise
                self.left_out.append(LeftOut(index, _reason(error, path), name=name))
                continue
            read += 1
            yield Picture(index, 0.0, image, name)
        self.left_out += self._known
        if not read:
            first = self.left_out[-1]
            raise InputError(f"none of {len(self._items)} images can be read; {first.name}: {first.reason}")


def _reason(error: InputError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _decode(data: bytes, page: int, most_pixels: int) -> Any:
    """The pixels, with values as they are stored, or ``None``."""
    items = HeifItems(data)
    if is_heic(items):
        return decode_heic(items, most_pixels)
    buffer, turns = np.frombuffer(data, np.uint8), items.turns
    try:
        # what the container says counts, and EXIF data often repeat it
        image = _decode_page(buffer, page, _COLOUR | (cv2.IMREAD_IGNORE_ORIENTATION if turns else 0))
        if image is None and data[:2] in (b"II", b"MM"):  # grey TIFF of 32 or 64 bits, which is not made colour
            image = _decode_page(buffer, page, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # for example more pixels than OpenCV accepts
        return None
    return image if image is None else turned(image, turns)


def _decode_page(buffer: NDArray[np.uint8], page: int, flags: int) -> Any:
    if not page:
        return cv2.imdecode(buffer, flags)
    if _DECODES_RANGES:
        pages = cv2.imdecodemulti(buffer, flags, range=(page, page + 1))[1]
        return pages[0] if pages else None
    pages = cv2.imdecodemulti(buffer, flags)[1]
    return pages[page] if page < len(pages) else None


def frames_in_animation(data: bytes) -> int:
    """Count the frames in the content of a PNG, WebP or AVIF file, as it states them; 1 for others.

    OpenCV would take memory for as many as a PNG states.
    """
    count = 0
    if data[:4] == b"\x89PNG":
        before = data[:_PNG_HEAD].partition(b"IDAT")[0]
        count = int.from_bytes(before.partition(b"acTL")[2][:4], "big")
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        place = 12
        while place + 8 <= len(data):
            count += data[place : place + 4] == b"ANMF"
            size = int.from_bytes(data[place + 4 : place + 8], "little")
            place += 8 + size + size % 2
    else:
        # a photo may have a clip beside it, which OpenCV does not decode
        count = 0 if is_heic(HeifItems(data)) else frames_in_tracks(data)
    return max(count, 1)
