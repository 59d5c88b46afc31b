"""Folders whose labels are JSON files, one for each part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["LABEL_FOLDERS", "json_files", "photo_folders"]

LABEL_FOLDERS = ("annotations", "annot", ".")
"""Folders of label files, beside the photos or of their own."""

_ENOUGH = 4096


def json_files(folder: Path, known: Callable[[bytes], bool]) -> dict[str, Path]:
    """Label files by the part that they hold: ``val2017`` for ``annotations/person_keypoints_val2017.json``.

    Args:
        folder: the data set.
        known: tells the layout by how a file begins; it may be too long to read for that.
    """
    for place in LABEL_FOLDERS:
        paths = [path for path in sorted((folder / place).glob("*.json")) if known(_begin(path))]
        # beside them COCO has files of boxes and of captions
        paths = [path for path in paths if "keypoints" in path.stem] or paths
        if paths:
            return {path.stem.rpartition("keypoints_")[2]: path for path in paths}
    return {}


def photo_folders(folder: Path, part: str) -> list[Path]:
    """List the folders in which the photos of a part may be."""
    return [folder / "images", folder, folder / part, folder / "images" / part]


def _begin(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(_ENOUGH).lstrip(b"\xef\xbb\xbf \t\r\n")
