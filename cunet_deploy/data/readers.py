"""Labelled objects of a data set, whatever its layout.

A data set is a folder. A ``splits.json`` in it, ``{"test": ["NAME.jpg", ...], ...}``, names parts of it by the file
names of photos: ``FOLDER#test`` is one of them, and each further name narrows it down: ``FOLDER#test:clean`` is what is
in both.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cunet_deploy.data.coco import read_coco
from cunet_deploy.data.examples import Example
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.data.lsp import FILE_NAME as LSP_FILE
from cunet_deploy.data.lsp import read_lsp
from cunet_deploy.data.mpii import MAT_NAME, read_mpii_json, read_mpii_mat
from cunet_deploy.data.points import FILE_NAMES as POINTS_FILES
from cunet_deploy.data.points import read_points
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import LSP14, MPII16, Skeleton, map_landmarks

__all__ = ["LAYOUTS", "Layout", "find_layout", "is_data_set", "read_examples", "split_name"]

Layout = Literal["300w", "lsp", "mpii", "coco", "points"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

LEAST_LABELLED = 3
"""An object with fewer labelled landmarks is left out: its box says too little about where it is."""

_LABEL_FOLDERS = ("annotations", "annot", ".")


def read_examples(
    dataset: Path, skeleton: Skeleton, layout: Layout | None = None, bad: list[str] | None = None
) -> list[Example]:
    """The labelled objects of a data set, in its own order.

    Objects with fewer than `LEAST_LABELLED` labelled landmarks, or fewer than all of a smaller skeleton, and those
    whose box has no area are left out. Landmarks are matched to the skeleton by name where the layout names its own.

    Args:
        dataset: a folder, perhaps with a part of it, as ``FOLDER#test``.
        skeleton: whose landmarks are wanted.
        layout: how the folder is laid out; ``None`` looks at what lies in it.
        bad: where to note files that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the folder is missing, of another layout, or has nothing usable or no such part, or a file in it is
            bad and ``bad`` is ``None``.
    """
    folder, parts = split_name(dataset)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected photos with their labels")
    layout = layout or find_layout(folder)
    if layout is None:
        known = f".pts files, {LSP_FILE}, {POINTS_FILES[0]}, or the files of MPII or COCO"
        raise InputError(f"{folder}: holds no labels; expected {known}")
    examples = _read(folder, skeleton, layout, parts[:1], bad)
    if parts[:1] in [(part,) for part in examples]:  # the layout has this part itself
        chosen, parts = examples[parts[0]], parts[1:]
    else:
        chosen = [example for part in examples.values() for example in part]
    if parts:
        names = _names_of(folder, parts)
        chosen = [example for example in chosen if example.image.name in names]
    least = min(LEAST_LABELLED, len(skeleton))
    usable = [example for example in chosen if _usable(example, least)]
    if not usable:
        raise InputError(f"{dataset}: holds no object with enough labelled landmarks")
    return usable


def find_layout(folder: Path) -> Layout | None:
    """The layout of a folder by the files in it; ``None`` for a folder without labels."""
    if (folder / LSP_FILE).is_file():
        return "lsp"
    if any((folder / name).is_file() for name in POINTS_FILES):
        return "points"
    if next(folder.glob("*.pts"), None) is not None:
        return "300w"
    if _mat(folder) is not None:
        return "mpii"
    layouts: tuple[Layout, ...] = ("mpii", "coco")
    return next((layout for layout in layouts if _json_files(folder, layout)), None)


def is_data_set(path: Path) -> bool:
    """Whether a path names a folder, or a part of one."""
    return split_name(path)[0].is_dir()


def split_name(dataset: Path) -> tuple[Path, tuple[str, ...]]:
    """A data set's folder and the names of its part; a folder whose own name has a ``#`` is taken as it is."""
    folder, mark, parts = str(dataset).rpartition("#")
    if not mark or dataset.is_dir():
        return dataset, ()
    return Path(folder), tuple(parts.split(":"))


def _read(
    folder: Path, skeleton: Skeleton, layout: Layout, wanted: tuple[str, ...], bad: list[str] | None
) -> dict[str, list[Example]]:
    """The objects of a folder by the parts that its layout itself has; only those of the wanted part if it has that."""
    if layout == "300w":
        return {"": read_300w(folder, len(skeleton), bad=bad)}
    if layout == "points":
        path = next((folder / name for name in POINTS_FILES if (folder / name).is_file()), folder / POINTS_FILES[0])
        return {"": read_points(path, skeleton, bad)}
    if layout == "lsp":
        return {"": _as(skeleton, LSP14, read_lsp(folder))}
    mat = _mat(folder) if layout == "mpii" else None
    if mat is not None:
        return {"": _as(skeleton, MPII16, read_mpii_mat(mat, folder / "images"))}
    files = _json_files(folder, layout)
    if not files:
        raise InputError(f"{folder}: holds no JSON file of {layout} labels, in annotations or beside the photos")
    if wanted and wanted[0] in files:
        files = {wanted[0]: files[wanted[0]]}
    if layout == "coco":
        return {part: read_coco(path, _photo_folders(folder, part), skeleton) for part, path in files.items()}
    found: dict[str, list[Example]] = {}
    for path in files.values():
        for part, examples in read_mpii_json(path, folder / "images").items():
            found.setdefault(part, []).extend(_as(skeleton, MPII16, examples))
    return found


def _as(skeleton: Skeleton, source: Skeleton, examples: list[Example]) -> list[Example]:
    return [replace(example, points=map_landmarks(example.points, source, skeleton)) for example in examples]


def _mat(folder: Path) -> Path | None:
    """The release of MPII in a folder."""
    places = (folder / place / MAT_NAME for place in _LABEL_FOLDERS)
    return next((path for path in places if path.is_file()), None)


def _json_files(folder: Path, layout: Layout) -> dict[str, Path]:
    """Label files by the part that they hold: ``val2017`` for ``annotations/person_keypoints_val2017.json``."""
    for place in _LABEL_FOLDERS:
        paths = [path for path in sorted((folder / place).glob("*.json")) if _layout_of_json(path) == layout]
        # beside them COCO has files of boxes and of captions
        paths = [path for path in paths if "keypoints" in path.stem] or paths
        if paths:
            return {path.stem.rpartition("keypoints_")[2]: path for path in paths}
    return {}


def _photo_folders(folder: Path, part: str) -> list[Path]:
    return [folder / "images", folder, folder / part, folder / "images" / part]


def _layout_of_json(path: Path) -> Layout | None:
    """What a JSON file holds by how it begins; such a file may be too long to read for that."""
    with path.open("rb") as file:
        begin = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin.startswith(b"[") and any(key in begin for key in (b'"joints"', b'"joints_vis"', b'"joint_self"')):
        return "mpii"
    keys = (b'"info"', b'"licenses"', b'"images"', b'"annotations"', b'"categories"')
    return "coco" if begin.startswith(b"{") and any(key in begin for key in keys) else None


def _names_of(folder: Path, parts: tuple[str, ...]) -> set[str]:
    """File names of the photos that are in all of the parts."""
    path = folder / "splits.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        splits = {str(name): {str(photo) for photo in photos} for name, photos in table.items()}
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; it must say which photos are in {', '.join(parts)}") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f'{path}: is not a list of parts ({error}); expected {{"test": ["NAME.jpg", ...]}}') from error
    for part in parts:
        if part not in splits:
            raise InputError(f"{path}: has no part {part!r}; it has {', '.join(sorted(splits))}")
    return set.intersection(*(splits[part] for part in parts))


def _usable(example: Example, least: int) -> bool:
    labelled = example.points[np.isfinite(example.points).all(axis=1)]
    if len(labelled) < least:
        return False
    return bool((np.ptp(example.box.reshape(2, 2), axis=0) > 0).all())
