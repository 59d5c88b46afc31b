"""Labelled objects of a data set, whatever its layout.

A data set is a folder. A ``splits.json`` in it, ``{"test": ["NAME.jpg", ...], ...}``, names parts of it by the file
names of photos: ``FOLDER#test`` is one of them, and each further name narrows it down: ``FOLDER#test:clean`` is what is
in both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cunet_deploy.data.examples import Example
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.data.lsp import FILE_NAME as LSP_FILE
from cunet_deploy.data.lsp import read_lsp
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import LSP14, Skeleton, map_landmarks

__all__ = ["LAYOUTS", "Layout", "find_layout", "read_examples", "split_name"]

Layout = Literal["300w", "lsp"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

LEAST_LABELLED = 3
"""An object with fewer labelled landmarks is left out: its box says too little about where it is."""


def read_examples(
    dataset: Path, skeleton: Skeleton, layout: Layout | None = None, bad: list[str] | None = None
) -> list[Example]:
    """The labelled objects of a data set, in its own order.

    Objects with fewer than `LEAST_LABELLED` labelled landmarks, or with all of them on one line along an axis, are left
    out. Landmarks are matched to the skeleton by name where the layout has a skeleton of its own.

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
        raise InputError(f"{folder}: holds no labels; expected photos with .pts files beside them, or a {LSP_FILE}")
    examples = _read(folder, skeleton, layout, bad)
    if parts:
        chosen = _names_of(folder, parts)
        examples = [example for example in examples if example.image.name in chosen]
    usable = [example for example in examples if _usable(example)]
    if not usable:
        raise InputError(f"{dataset}: holds no object with enough labelled landmarks")
    return usable


def find_layout(folder: Path) -> Layout | None:
    """The layout of a folder by the files in it; ``None`` for a folder without labels."""
    if (folder / LSP_FILE).is_file():
        return "lsp"
    if next(folder.glob("*.pts"), None) is not None:
        return "300w"
    return None


def split_name(dataset: Path) -> tuple[Path, tuple[str, ...]]:
    """A data set's folder and the names of its part; a folder whose own name has a ``#`` is taken as it is."""
    folder, mark, parts = str(dataset).rpartition("#")
    if not mark or dataset.is_dir():
        return dataset, ()
    return Path(folder), tuple(parts.split(":"))


def _read(folder: Path, skeleton: Skeleton, layout: Layout, bad: list[str] | None) -> list[Example]:
    if layout == "300w":
        return read_300w(folder, len(skeleton), bad=bad)
    examples = read_lsp(folder)
    return [
        Example(example.image, map_landmarks(example.points, LSP14, skeleton), example.photo) for example in examples
    ]


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


def _usable(example: Example) -> bool:
    labelled = example.points[np.isfinite(example.points).all(axis=1)]
    return len(labelled) >= LEAST_LABELLED and bool(np.ptp(labelled, axis=0).min() > 0)
