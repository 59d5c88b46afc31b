"""Files that a path or pattern stands for: images, videos, or both."""

from __future__ import annotations

import glob
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cunet_deploy._files import exists, shown_name
from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import LeftOut
from cunet_deploy.media.readers.animation import AnimatedImage
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES, ImageFiles, frames_in_image
from cunet_deploy.media.readers.video import VIDEO_SUFFIXES, VideoFile
from cunet_deploy.media.source_lists import check_sources

__all__ = ["Found", "is_pattern", "look_for", "open_file", "open_files"]

_LOG = logging.getLogger(__name__)

_UNREAD_IMAGES = (
    *(".avif", ".jxl", ".jp2", ".psd", ".svg"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
"""Images that people keep beside those that are read: they are named. Other files are nobody's loss."""


@dataclass(frozen=True)
class Found:
    """The files of a folder or pattern, each list by name.

    Attributes:
        images: that are read as pictures.
        videos: that are read as video, animated images among them.
        left_out: images of types that are not read.
    """

    images: tuple[Path, ...]
    videos: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def is_pattern(text: str) -> bool:
    """Return whether a text is a pattern of file names, and not the name of a file."""
    return glob.has_magic(text) and not exists(text)


def look_for(source: str | Path) -> Found:
    """The files that a folder, not searched deeper, or a pattern stands for."""
    if Path(source).is_dir():
        found: Iterable[Path] = Path(source).iterdir()
    else:
        found = (Path(name) for name in glob.glob(str(source), recursive=True))  # noqa: PTH207  any root
    # hidden files, such as the ``._photo.jpg`` that some systems leave, are none
    paths = sorted(path for path in found if not path.name.startswith(".") and path.is_file())
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    moving = {path for path in images if frames_in_image(path) > 1 and _is_animated(path)}
    read = {*IMAGE_SUFFIXES, *VIDEO_SUFFIXES}
    unread = [p for p in paths if p.suffix.lower() in _UNREAD_IMAGES and p.suffix.lower() not in read]
    others = Counter(path.suffix.lower() or "(none)" for path in paths if path.suffix.lower() not in read) - Counter(
        path.suffix.lower() for path in unread
    )
    if others:
        _LOG.info("%s: %s are no images or videos", source, ", ".join(f"{n} {kind}" for kind, n in others.items()))
    left_out = tuple(
        LeftOut(-1, f"type {path.suffix} is not read; convert it to JPEG or PNG", name=shown_name(path.name))
        for path in unread
    )
    return Found(
        tuple(path for path in images if path not in moving),
        tuple(path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES or path in moving),
        left_out,
    )


def open_files(source: str | Path) -> ImageFiles | VideoFile | AnimatedImage:
    """Find out what a path or pattern stands for.

    Args:
        source: an image, a folder of images (not searched deeper), a pattern such as ``photos/*.jpg``, a video, a GIF
            or another animated image.

    Raises:
        InputError: the source is an empty text, there is no such file, or it is empty or of another type.
    """
    check_sources([str(source)])
    path = Path(source)
    folder = exists(path) and path.is_dir()
    if not folder and not is_pattern(str(source)):
        return open_file(path)
    found = look_for(source)
    if found.images:
        return ImageFiles(list(found.images), single=False, left_out=list(found.left_out))
    where = f"{source}: the folder holds no images" if folder else f"{source}: no image matches the pattern"
    unread = f" ({found.left_out[0].name}: {found.left_out[0].reason})" if found.left_out else ""
    if found.videos:
        raise InputError(f"{where}; it holds videos: give one of them, such as {found.videos[0]}")
    raise InputError(f"{where}{unread}; expected {', '.join(IMAGE_SUFFIXES)} files")


def open_file(path: Path) -> ImageFiles | VideoFile | AnimatedImage:
    """Open one file by its suffix.

    Raises:
        InputError: there is no such file, or it is empty or of another type.
    """
    if not exists(path) or path.is_dir():
        raise InputError(f"{path}: does not exist; give an image, a video, or a folder or pattern of them")
    if not path.is_file():
        raise InputError(f"{path}: is a pipe or device; save what it gives as a file, or send raw frames to stdin")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; copy or record it again")
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        count = frames_in_image(path)
        return AnimatedImage(path, count) if count > 1 and _is_animated(path) else ImageFiles([path], single=True)
    if suffix in VIDEO_SUFFIXES:
        return VideoFile(path)
    raise InputError(
        f"{path}: type {suffix or '(none)'} is not read; expected an image ({', '.join(IMAGE_SUFFIXES)}) "
        f"or a video ({', '.join(VIDEO_SUFFIXES)})"
    )


def _is_animated(path: Path) -> bool:
    """Return whether several frames of an image file are an animation, and not pages."""
    return path.suffix.lower() not in (".tif", ".tiff")
