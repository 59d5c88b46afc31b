"""Where frames come from: an image, a folder or pattern of images, a video file or an animated GIF."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import Picture
from cunet_deploy.media.images import IMAGE_SUFFIXES, read_image
from cunet_deploy.media.video import VIDEO_SUFFIXES, Video

__all__ = ["ImageFiles", "VideoFile", "open_source"]


class ImageFiles:
    """Images, one after the other. Iterating may raise `InputError` for a file that cannot be read."""

    moving = False
    """Whether successive frames show the same scene, so that objects can be followed."""
    fps = 0.0

    def __init__(self, paths: list[Path], *, single: bool) -> None:
        """Take image files.

        Args:
            paths: in the order to read.
            single: whether the user named one file, as opposed to a folder or pattern.
        """
        self.paths = tuple(paths)
        self.single = single

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
    """Whether successive frames show the same scene, so that objects can be followed."""

    def __init__(self, path: Path) -> None:
        """Look into a video.

        Raises:
            InputError: it is missing, empty or not a video.
        """
        self.path = path
        with Video(path) as video:
            self.count: int | None = video.count
            self.fps: float = video.fps

    def __iter__(self) -> Iterator[Picture]:
        with Video(self.path) as video:
            for index, (time_ms, image) in enumerate(video):
                yield Picture(index, time_ms, image)


def open_source(source: str | Path) -> ImageFiles | VideoFile:
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
