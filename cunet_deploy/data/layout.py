"""Layouts of data sets, and what their readers share. Each layout is a module with a `Layout`, its row.

A label that cannot be right is refused: by row, so that ``--skip-bad`` can leave it out, and with its place in the
file. What can be understood is understood, and told where it is unusual.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json
from cunet_deploy.data.examples import BoxedPhoto, Example
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton, map_landmarks

__all__ = [
    "LEAST_LABELLED",
    "BoxAround",
    "Layout",
    "as_skeleton",
    "face_stems",
    "find_photo",
    "is_file",
    "known_in",
    "photo_stem",
    "read_label_json",
    "refuse",
    "tell_placeholders",
    "without_placeholders",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")

BoxAround = Callable[[NDArray[np.float64], Skeleton], NDArray[np.float64]]
"""Box, (4,) xyxy, of an object from its (K, 2) landmarks, NaN where one is not labelled."""

LEAST_LABELLED = 3
"""An object with fewer labelled landmarks is left out: its box says too little about where it is."""

_PLACEHOLDERS = (-1.0, 0.0)
"""A landmark at (-1, -1) or (0, 0), as the file counts, is how many tools write that it is not labelled."""

_MOST_FACES = 20
"""Faces of one photo that are files of their own; photos of 300-W have fewer."""

_NO_NUMBER = re.compile(rb"(?<=[\[:,\s])-?(?:NaN|Infinity)(?=\s*[,\]}])")
"""Names that Python writes into JSON for numbers that are not finite; JSON itself has no such thing."""


@dataclass(frozen=True)
class Layout:
    """Layout of photos and labels in a folder: one row of the table in `cunet_deploy.data.readers`.

    Attributes:
        name: as ``[data] layout`` has it.
        files: by which it is known, for messages.
        is_in: whether a folder has it.
        read: the objects of a folder by the parts that the layout itself has ("" where it has none); takes the folder,
            the wanted landmarks, the name of the wanted part or "", and where to note what is bad.
        skeleton: the landmarks that it has, of which boxes can be made; ``None``: they are the user's, or in the file.
        read_boxes: photos and boxes of a folder by part, where they are labels of their own; ``None``: the boxes are
            those around the landmarks. Takes what `read` takes without landmarks, and how to make the box of an object
            from its landmarks, or ``None`` for the labelled ones.
        has_landmarks: it is not for boxes alone.
    """

    name: str
    files: str
    is_in: Callable[[Path], bool]
    read: Callable[[Path, Skeleton, str, list[str] | None], dict[str, list[Example]]]
    skeleton: Skeleton | None = None
    read_boxes: Callable[[Path, str, list[str] | None, BoxAround | None], dict[str, list[BoxedPhoto]]] | None = None
    has_landmarks: bool = True


def refuse(message: str, bad: list[str] | None) -> None:
    """Note what cannot be used, once; an error where nothing may be left out.

    Raises:
        InputError: ``bad`` is ``None``.
    """
    if bad is None:
        raise InputError(f"{message}; mend it, or skip it", option="skip_bad")
    bad.append(str(InputError(message)))  # in one line, whatever names are in it


def read_label_json(path: Path, kind: type[T], what: str) -> T:
    """The content of a JSON file of labels as a type; numbers that are not finite are read as ``null``.

    Args:
        path: the file, with or without a byte order mark.
        kind: the type; rows as `msgspec.Raw` are checked by themselves.
        what: the file should be.

    Raises:
        InputError: it cannot be read, or is something else as a whole.
    """
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        if b"NaN" in data or b"Infinity" in data:
            data = _NO_NUMBER.sub(b"null", data)
        return decode_json(data, kind)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {what}") from error
    except InputError as error:
        raise InputError(f"{path}: is not {what} ({error}); export it again") from error


def find_photo(name: str, folders: Sequence[Path]) -> Path:
    """Find the photo that a label file names; if there is none, return where it should be.

    The file may come from another machine: separators of Windows, and folders and addresses that are not here, are
    understood.
    """
    if "://" in name:
        name = name.rsplit("/", 1)[1].partition("?")[0]
    plain = name.replace("\\", "/")
    last = plain.rsplit("/", 1)[-1]
    is_absolute = plain.startswith("/") or plain[1:3] == ":/"
    for spelling in dict.fromkeys((name, plain, last) if is_absolute or name != plain else (name,)):
        for folder in folders:
            if is_file(os.path.join(folder, spelling)):  # noqa: PTH118  # a quarter of the time
                return folder / spelling
    return folders[0] / (last if is_absolute else plain)


def is_file(path: str | Path) -> bool:
    """Return whether there is a file; `Path.is_file` raises for names that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113


def photo_stem(name: str) -> str:
    """Identify a photo by the name of its file, however that is written."""
    return Path(name.replace("\\", "/")).stem


def face_stems(stems: Collection[str]) -> dict[str, str]:
    """Identify the photos of files in a folder by their stems, where each face of a photo may be a file of its own.

    300-W appends the number of the face to the name of the photo, which ends in a digit: 134212_1 and 134212_2 are
    faces of one photo, as are image_003_1 and image_003_2. image_0001 and indoor_001 are photos, and so are frame_1
    and frame_2. More files than a photo has faces are a series, such as clip7_1 to clip7_90.
    """
    faces = {stem: re.sub(r"(?<=\d)_[1-9]\d?$", "", stem) for stem in stems}
    times = Counter(faces.values())
    return {stem: photo if times[photo] <= _MOST_FACES else stem for stem, photo in faces.items()}


def without_placeholders(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """(..., 2) points, as a file counts pixels, with NaN for placeholders, and how many of these there were."""
    empty = (points[..., :1] == points[..., 1:]) & np.isin(points[..., :1], _PLACEHOLDERS)
    return np.where(empty, np.nan, points), int(empty.sum())


def tell_placeholders(path: Path, count: int) -> None:
    """Say how many landmarks of a file or folder were placeholders."""
    if count:
        _log.warning("%s: %d landmarks at (-1, -1) or (0, 0) were read as not labelled", path, count)


def as_skeleton(
    examples: Iterable[Example], source: Skeleton, target: Skeleton, where: Path | None = None
) -> list[Example]:
    """Objects with the landmarks of one skeleton as objects with those of another, matched by name.

    Landmarks that the first one lacks have weight 0: nothing is said about them, whatever ``[train] unlabelled`` says
    of those that are merely not labelled.
    """
    if source.landmarks == target.landmarks:
        return list(examples)
    known = known_in(source, target, where)
    return [example.mapped(map_landmarks(example.points, source, target), known) for example in examples]


def known_in(source: Skeleton, target: Skeleton, where: Path | None = None) -> NDArray[np.float64]:
    """(K,) 1 for the landmarks of a target that a source has, else 0.

    Raises:
        InputError: it has none; the message begins with the file or folder that is of the source.
    """
    try:
        probe = map_landmarks(np.zeros((len(source), 2)), source, target)
    except InputError as error:
        raise InputError(str(error) if where is None else f"{where}: {error}") from error
    return np.isfinite(probe[:, 0]).astype(np.float64)
