"""A landmark set as a TOML file of names: those of the package, and the user's own.

::

    name = "mouse"
    landmarks = ["nose", "left_ear", "right_ear", "tail"]
    flip_pairs = [["left_ear", "right_ear"]]
    edges = [["left_ear", "nose", "right_ear"], ["nose", "tail"]]

    [normalizers]
    body = ["nose", "tail"]

``flip_pairs`` trade places in a mirror image; ``edges`` are drawn, lines through two or more landmarks. A normalizer is
what errors are measured in: the distance of two landmarks, or of the middles of two groups, as ``[["left_ear",
"right_ear"], ["tail"]]``; the first is the default. One that is called ``torso`` or ``head`` makes the landmarks a
body: then PCK@0.2 or PCKh@0.5 is reported, and no mean error. ``sigmas``, a number for each landmark, are for object
keypoint similarity. All but the first two keys may be left out.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from cunet_deploy._decode import Positive, check, convert, parse_toml, read_text
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.skeletons.base import Name, Names, Skeleton

__all__ = ["parse_skeleton", "read_skeleton"]

_Pair = Annotated[tuple[Name, Name], Meta(description="a pair of names")]
_Line = Annotated[tuple[Name, ...], Meta(min_length=2, description="a list of two or more names")]
_Group = Name | Names
_Normalizer = Annotated[tuple[_Group, _Group], Meta(description="two names or two lists of names")]


@dataclass(frozen=True)
class _File:
    """Contents of such a file."""

    name: Name
    landmarks: Names
    flip_pairs: tuple[_Pair, ...] = ()
    edges: tuple[_Line, ...] = ()
    normalizers: dict[str, _Normalizer] = field(default_factory=dict)
    sigmas: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        twice = [name for name in self.landmarks if self.landmarks.count(name) > 1]
        check(not twice, f"{twice[:1]} stands twice in landmarks; each has its own name")

    def skeleton(self) -> Skeleton:
        """Names become indices."""
        lines = [[self._index(name, "edges") for name in line] for line in self.edges]
        return Skeleton(
            self.name,
            self.landmarks,
            tuple((self._index(a, "flip_pairs"), self._index(b, "flip_pairs")) for a, b in self.flip_pairs),
            tuple(edge for line in lines for edge in itertools.pairwise(line)),
            {key: (self._group(a, key), self._group(b, key)) for key, (a, b) in self.normalizers.items()},
            self.sigmas,
        )

    def _group(self, group: str | Sequence[str], key: str) -> tuple[int, ...]:
        names = (group,) if isinstance(group, str) else group
        return tuple(self._index(name, f"[normalizers] {key}") for name in names)

    def _index(self, name: str, key: str) -> int:
        if name not in self.landmarks:
            near = difflib.get_close_matches(name, self.landmarks, n=1) or [self.landmarks[0]]
            raise ConfigError(f"{key}: {name!r} is no landmark; did you mean {near[0]!r}?")
        return self.landmarks.index(name)


def parse_skeleton(text: str, source: str | Path) -> Skeleton:
    """A landmark set from the text of a file; ``source`` is named in errors.

    Raises:
        ConfigError: it is not TOML, or a key is unknown, missing or malformed.
    """
    table = parse_toml(text, source)
    try:
        return convert(table, _File).skeleton()
    except InputError as error:
        raise ConfigError(f"{source}: {error}") from error


def read_skeleton(path: Path) -> Skeleton:
    """Read a file.

    Raises:
        ConfigError: it is missing, is not TOML, or a key is unknown, missing or malformed.
    """
    return parse_skeleton(read_text(path, "a TOML file of landmarks"), path)
