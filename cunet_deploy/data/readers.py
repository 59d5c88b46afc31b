"""Labelled objects of a data set, whatever its layout.

A data set is a folder. A ``splits.json`` in it, ``{"test": ["NAME.jpg", ...], ...}``, names parts of it by the file
names of photos: ``FOLDER#test`` is one of them, and each further name narrows it down: ``FOLDER#test:clean`` is what is
in both. Photos in folders below may be named by their path from there, ``day1/NAME.jpg``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cunet_deploy.data import coco, faces, ibug, lsp, mpii, points
from cunet_deploy.data.examples import BoxedPhoto, Example
from cunet_deploy.data.layout import LEAST_LABELLED, Layout, read_label_json, refuse
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.skeletons import Skeleton

__all__ = ["LAYOUTS", "find_layout", "get_layout", "is_data_set", "read_examples", "read_part", "split_name"]

_ROWS = (lsp.LAYOUT, points.LAYOUT, ibug.LAYOUT, mpii.LAYOUT, coco.LAYOUT, faces.LAYOUT)
"""Layouts in order: if a folder has the files of several, the first counts."""

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in _ROWS}

Item = TypeVar("Item", Example, BoxedPhoto)


def read_examples(
    dataset: Path, skeleton: Skeleton, layout: str | None = None, bad: list[str] | None = None
) -> list[Example]:
    """The labelled objects of a data set, in its own order.

    Objects with fewer than `LEAST_LABELLED` labelled landmarks, or fewer than all of a smaller skeleton, are left out.
    Landmarks are matched to the skeleton by name where the layout names its own.

    Args:
        dataset: a folder, perhaps with a part of it, as ``FOLDER#test``.
        skeleton: whose landmarks are wanted.
        layout: how the folder is laid out; ``None`` looks at what lies in it.
        bad: where to note files and rows that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the folder is missing, of another layout, or has nothing usable or no such part, or a file in it is
            bad and ``bad`` is ``None``.
    """
    folder, _ = split_name(dataset)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected photos with their labels")
    name = layout or find_layout(folder)
    if name is None:
        known = ", ".join(row.files for row in LAYOUTS.values() if row.has_landmarks)
        raise InputError(f"{folder}: holds no labels; expected {known}")
    row = get_layout(name)
    chosen = read_part(dataset, lambda own, part: row.read(own, skeleton, part, bad))
    least = min(LEAST_LABELLED, len(skeleton))
    usable = _usable(chosen, least, bad)
    if not usable:
        raise InputError(f"{dataset}: holds no object with {least} labelled landmarks or more; label more of each")
    return usable


def find_layout(folder: Path, *, of_boxes: bool = False) -> str | None:
    """The layout of a folder by the files in it; ``None`` for a folder without labels.

    Args:
        folder: the data set.
        of_boxes: whether a list of boxes is wanted, and not only labelled landmarks.
    """
    rows = [row for row in LAYOUTS.values() if row.has_landmarks]
    if of_boxes:
        rows = [*(row for row in LAYOUTS.values() if not row.has_landmarks), *rows]
    return next((row.name for row in rows if row.is_in(folder)), None)


def get_layout(name: str) -> Layout:
    """The layout of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(LAYOUTS)}"
        raise ConfigError(f"no layout of data sets is called {name!r}; {hint}")
    return LAYOUTS[name]


def is_data_set(path: Path) -> bool:
    """Return whether a path names a folder, or a part of one."""
    return split_name(path)[0].is_dir()


def split_name(dataset: Path) -> tuple[Path, tuple[str, ...]]:
    """A data set's folder and the names of its part; a folder whose own name has a ``#`` is taken as it is."""
    folder, mark, parts = str(dataset).rpartition("#")
    if not mark or dataset.is_dir():
        return dataset, ()
    return Path(folder), tuple(parts.split(":"))


def read_part(dataset: Path, read: Callable[[Path, str], dict[str, list[Item]]]) -> list[Item]:
    """Read the objects of a part of a data set.

    Args:
        dataset: a folder, perhaps with a part of it.
        read: gives what a folder holds by the parts that its layout itself has; takes the name of the wanted part.

    Raises:
        InputError: there is no such part, or it names no photo with labels.
    """
    folder, parts = split_name(dataset)
    found = read(folder, parts[0] if parts else "")
    if parts and parts[0] in found:  # the layout has this part itself
        chosen, parts = found[parts[0]], parts[1:]
    else:
        chosen = [item for part in found.values() for item in part]
    return _named(folder, parts, chosen) if parts else chosen


def _named(folder: Path, parts: Sequence[str], items: list[Item]) -> list[Item]:
    """Those of some objects whose photos are in all of the parts that ``splits.json`` names."""
    path = folder / "splits.json"
    if not path.is_file():
        raise InputError(f"{path}: is missing; it must say which photos are in {', '.join(parts)}")
    splits = read_label_json(path, dict[str, list[str]], 'a list of parts, {"test": ["NAME.jpg", ...]}')
    for part in parts:
        if part not in splits:
            raise InputError(f"{path}: has no part {part!r}; it has {', '.join(sorted(splits))}")
    named = [{name.replace("\\", "/") for name in splits[part]} for part in parts]
    chosen = [item for item in items if all(_is_named(item.image, folder, names) for names in named)]
    if items and not chosen:
        raise InputError(
            f"{path}: no photo of {':'.join(parts)} has labels here; expected names such as {items[0].image.name!r}"
        )
    return chosen


def _is_named(photo: Path, folder: Path, names: set[str]) -> bool:
    """Return whether a photo is among names of files, or of paths from a folder."""
    return photo.name in names or (photo.is_relative_to(folder) and photo.relative_to(folder).as_posix() in names)


def _usable(examples: Sequence[Example], least: int, bad: list[str] | None) -> list[Example]:
    """Objects with enough labels and a box with an area; of rows that give a box without, say so."""
    if not examples:
        return []
    labelled = np.isfinite(np.stack([example.points for example in examples])).all(axis=2).sum(axis=1)
    enough = [example for example, count in zip(examples, labelled, strict=True) if count >= least]
    boxes = np.array([example.box for example in enough], np.float64).reshape(-1, 4)
    fine = np.asarray(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    for index in np.flatnonzero(~fine):
        example = enough[index]
        if example.given is not None:
            refuse(f"{example.where or example.image}: the box {example.box.tolist()} has no area", bad)
    return [example for example, usable in zip(enough, fine.tolist(), strict=True) if usable]
