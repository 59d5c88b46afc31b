"""The user's own landmark set, as a TOML file of names.

::

    name = "mouse"
    landmarks = ["nose", "left_ear", "right_ear", "tail"]
    flip_pairs = [["left_ear", "right_ear"]]
    edges = [["nose", "left_ear"], ["nose", "right_ear"], ["nose", "tail"]]

    [normalizers]
    body = ["nose", "tail"]

``flip_pairs`` trade places in a mirror image; ``edges`` are drawn. A normalizer is what errors are measured in: the
distance of two landmarks, or of the middles of two groups, as ``[["left_ear", "right_ear"], ["tail"]]``. One that is
called ``torso`` or ``head`` makes the landmarks a body: then PCK@0.2 or PCKh@0.5 is reported, and no mean error.
``sigmas``, a number for each landmark, are for object keypoint similarity. All but the first two keys may be left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cunet_deploy._toml import check, read_toml
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.skeletons import SKELETONS, Skeleton

__all__ = ["read_skeleton"]

_KEYS = ("name", "landmarks", "flip_pairs", "edges", "normalizers", "sigmas")


def read_skeleton(path: Path) -> Skeleton:
    """Read the file.

    Raises:
        ConfigError: it is missing, is not TOML, or a key is unknown, missing or malformed.
    """
    table = read_toml(path)
    try:
        for key in table:
            check(key in _KEYS, f"unknown key {key!r}; expected {', '.join(_KEYS)}")
        name, landmarks = table.get("name"), table.get("landmarks")
        check(isinstance(name, str) and bool(name), 'name must be a word, such as "mouse"')
        check(name not in SKELETONS, f"the name {name!r} is taken; choose another one")
        named = isinstance(landmarks, list) and all(isinstance(item, str) and item for item in landmarks)
        check(named and bool(landmarks), 'landmarks must be a list of names, such as ["nose", "tail"]')
        assert isinstance(landmarks, list)
        check(len(set(landmarks)) == len(landmarks), "a landmark stands twice in landmarks; each has its own name")
        normalizers = table.get("normalizers", {})
        check(isinstance(normalizers, dict), "[normalizers] must be a table")
        return Skeleton(
            str(name),
            tuple(landmarks),
            tuple(_pair(pair, landmarks, "flip_pairs") for pair in _list(table, "flip_pairs")),
            tuple(_pair(pair, landmarks, "edges") for pair in _list(table, "edges")),
            {str(key): _groups(groups, landmarks, key) for key, groups in normalizers.items()},
            tuple(float(sigma) for sigma in _list(table, "sigmas")),
        )
    except (InputError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _list(table: dict[str, Any], key: str) -> list[Any]:
    values = table.get(key, [])
    check(isinstance(values, list), f"{key} must be a list")
    return list(values)


def _pair(pair: Any, landmarks: Sequence[str], key: str) -> tuple[int, int]:
    check(isinstance(pair, list) and len(pair) == 2, f"{key} must hold pairs of names, got {pair!r}")
    return _index(pair[0], landmarks, key), _index(pair[1], landmarks, key)


def _groups(groups: Any, landmarks: Sequence[str], key: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    check(isinstance(groups, list) and len(groups) == 2, f"[normalizers] {key} must be two names or two lists of names")
    lists = [group if isinstance(group, list) else [group] for group in groups]
    check(all(lists), f"[normalizers] {key} has an empty group")
    first, second = (tuple(_index(name, landmarks, key) for name in group) for group in lists)
    return first, second


def _index(name: Any, landmarks: Sequence[str], key: str) -> int:
    if name not in landmarks:
        near = difflib.get_close_matches(str(name), landmarks, n=1) or [landmarks[0]]
        raise ConfigError(f"{key}: {name!r} is no landmark; did you mean {near[0]!r}?")
    return list(landmarks).index(name)
