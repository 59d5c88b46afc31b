"""Landmark sets. Each TOML file beside this one is a set, in the form that `cunet_deploy.skeletons.files` describes."""

from __future__ import annotations

import sys
from importlib import resources

from cunet_deploy.boxmaps import MAPS
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons.base import Skeleton, map_landmarks
from cunet_deploy.skeletons.files import parse_skeleton

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:  # pragma: no cover
    from importlib.abc import Traversable

__all__ = [
    "BOX",
    "COCO17",
    "IBUG68",
    "LSP14",
    "MPII16",
    "SKELETONS",
    "Skeleton",
    "get_skeleton",
    "map_landmarks",
    "read_sets",
]


def read_sets(folder: Traversable) -> dict[str, Skeleton]:
    """The landmark sets of a folder by name."""
    files = (file for file in folder.iterdir() if file.name.endswith(".toml"))
    skeletons = [parse_skeleton(file.read_text(encoding="utf-8"), file.name) for file in files]
    return {skeleton.name: skeleton for skeleton in sorted(skeletons, key=lambda skeleton: skeleton.name)}


BOX = Skeleton("box", MAPS, flip_pairs=(), edges=())
"""Not landmarks but the maps of a network that finds boxes; see `cunet_deploy.boxmaps`."""

SKELETONS: dict[str, Skeleton] = {**read_sets(resources.files(__name__)), BOX.name: BOX}

COCO17 = SKELETONS["coco17"]
IBUG68 = SKELETONS["ibug68"]
LSP14 = SKELETONS["lsp14"]
MPII16 = SKELETONS["mpii16"]


def get_skeleton(name: str) -> Skeleton:
    """The skeleton of that name.

    Raises:
        InputError: there is none; the message lists the names.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        raise InputError(f"no skeleton is called {name!r}; known: {', '.join(sorted(SKELETONS))}") from None
