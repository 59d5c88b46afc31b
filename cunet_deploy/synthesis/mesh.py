"""The base mesh of a person from the chest up, with its shape and expression targets.

Lengths are decimetres, as in the file: x to the person's left, y up, z to the front; the eyes are at y 7.28, z 1.25.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.synthesis.assets import AssetLibrary

__all__ = ["EYE_CENTRE", "HeadMesh", "Part", "load_mesh", "vertex_normals"]

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]

EYE_CENTRE = np.array([0.0, 7.284, 1.245], np.float32)
"""Middle between the eyes of every shaped head, before it is turned."""

_CHEST = 4.7  # what lies below is not drawn
_HALF_WIDTH = 2.6
_BASE = "data/mpfb2/3dobjs/base.obj"
_WEIGHTS = "data/mpfb2/rigs/standard/weights.default.json"
_TARGETS = "data/mpfb2/targets"
_UNITS = "data/faceunits01/targets/faceunits"
_UPPER_LIP = 474  # the vertex in the middle of its inner edge
_SHOWN = 0.04  # upper incisors show so far below a resting lip
_LIP_THICKNESS = 0.085
_INCISORS = (0.1, 1.45)  # upper teeth nearer to the middle and farther to the front than this
_TOPICS = ("head", "eyes", "mouth", "nose", "chin", "cheek", "forehead", "eyebrows", "ears", "neck", "macrodetails")


@dataclass(frozen=True, eq=False)
class Part:
    """Part of a mesh that is drawn with one material.

    Attributes:
        vertices: (P,) index of each corner's vertex in `HeadMesh.rest`; a vertex on a texture seam is there twice.
        uv: (P, 2) texture coordinates.
        triangles: (T, 3) corners, counter-clockwise from outside.
    """

    vertices: Indices
    uv: Floats
    triangles: Indices


@dataclass(frozen=True, eq=False)
class HeadMesh:
    """Vertices in rest pose, parts, and targets as rows of a sparse matrix.

    Attributes:
        rest: (V, 3) vertices in rest pose.
        numbers: (V,) their numbers in the file, from 0, which landmark definitions use.
        parts: ``skin``, ``left_eye``, ``right_eye``, ``upper_teeth``, ``lower_teeth``, ``tongue``, ``lashes``,
            ``hand``.
        target_names: N names such as ``"nose/nose-hump-incr"`` or ``"unit/jawOpen"``.
        targets: (N, 3 V) sparse displacements at full strength.
        eye_vertices: (2, 8) vertices whose mean is the right and the left eye's centre.
    """

    rest: Floats
    numbers: Indices
    parts: dict[str, Part]
    eye_vertices: Indices
    target_names: tuple[str, ...]
    targets: Any

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each target by name."""
        return {name: row for row, name in enumerate(self.target_names)}

    @cached_property
    def lookup(self) -> Indices:
        """Index in `rest` for each number of the file, -1 for vertices that are not kept."""
        table = np.full(int(self.numbers.max()) + 1, -1, np.int32)
        table[self.numbers] = np.arange(len(self.numbers), dtype=np.int32)
        return table

    @cached_property
    def triangles(self) -> Indices:
        """(T, 3) triangles of all parts, as indices of `rest`."""
        return np.concatenate([part.vertices[part.triangles] for part in self.parts.values()])

    @cached_property
    def _corner_matrix(self) -> Any:
        return _incidence(self.triangles, len(self.rest))

    def displacement(self, weights: dict[str, float]) -> Floats:
        """(V, 3) sum of the named targets, each times its weight."""
        row = np.zeros(len(self.target_names), np.float32)
        for name, weight in weights.items():
            row[self.index[name]] += weight
        return np.asarray(self.targets.T @ row, np.float32).reshape(-1, 3)

    def shape(self, identity: dict[str, float], expression: dict[str, float]) -> Floats:
        """(V, 3) vertices of one person: scaled so that all have the same distance between the eyes, eyes in place."""
        vertices = self.rest + self.displacement(identity)
        right, left = (vertices[rows].mean(axis=0) for rows in self.eye_vertices)
        usual = np.linalg.norm(np.subtract(*(self.rest[rows].mean(axis=0) for rows in self.eye_vertices)))
        scale = usual / np.linalg.norm(left - right)
        vertices = (vertices - (left + right) / 2) * scale + EYE_CENTRE
        self._fit_teeth(vertices)
        return np.asarray(vertices + self.displacement(expression), np.float32)

    def _fit_teeth(self, vertices: Floats) -> None:
        """Let the upper teeth follow the lip, which shape targets move alone; incisors then show as they do in life."""
        rows = np.unique(self.parts["upper_teeth"].vertices)
        front = rows[(np.abs(self.rest[rows, 0]) < _INCISORS[0]) & (self.rest[rows, 2] > _INCISORS[1])]
        edge = front[self.rest[front, 1] < self.rest[front, 1].min() + 0.02]
        lip = vertices[self.lookup[_UPPER_LIP]]
        vertices[rows] += lip + np.array([0, -_SHOWN, -_LIP_THICKNESS], np.float32) - vertices[edge].mean(axis=0)

    def normals(self, vertices: Floats) -> Floats:
        """(V, 3) unit normals of moved vertices."""
        return vertex_normals(vertices, self.triangles, self._corner_matrix)


def vertex_normals(vertices: Floats, triangles: Indices, incidence: Any = None) -> Floats:
    """(V, 3) unit normals: the mean of the adjacent triangles' normals, weighted by their areas."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    matrix = _incidence(triangles, len(vertices)) if incidence is None else incidence
    normals = matrix @ np.cross(b - a, c - a)
    return np.asarray(normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12), np.float32)


def _incidence(triangles: Indices, count: int) -> Any:
    """(V, T) matrix with a one where a triangle has a vertex."""
    columns = np.repeat(np.arange(len(triangles)), 3)
    ones = np.ones(triangles.size, np.float32)
    return require("scipy.sparse", "synth").csr_matrix(
        (ones, (triangles.reshape(-1), columns)), (count, len(triangles))
    )


def load_mesh(library: AssetLibrary) -> HeadMesh:
    """Read the mesh and all targets that can move a head; takes about two seconds."""
    vertices, texture, faces, corners, groups = _parse_obj(library.read(_BASE).decode("ascii"))
    hand = _hand_vertices(json.loads(library.read(_WEIGHTS)), len(vertices))
    masks = _part_masks(vertices, faces, groups, hand)
    eye_vertices = np.stack([np.unique(faces[groups == f"joint-{side}-eye"]) for side in "rl"])
    kept = np.unique(np.concatenate([*(faces[mask].reshape(-1) for mask in masks.values()), eye_vertices.reshape(-1)]))
    lookup = np.full(len(vertices), -1, np.int32)
    lookup[kept] = np.arange(len(kept), dtype=np.int32)
    parts = {name: _part(lookup[faces[mask]], corners[mask], texture) for name, mask in masks.items()}
    names, matrix = _load_targets(library, lookup, len(kept))
    return HeadMesh(vertices[kept], kept.astype(np.int32), parts, lookup[eye_vertices], names, matrix)


def _parse_obj(text: str) -> tuple[Floats, Floats, Indices, Indices, NDArray[np.str_]]:
    """Vertices, texture coordinates, quads as vertices, quads as texture coordinates, and the group of each quad."""
    vertices: list[list[str]] = []
    texture: list[list[str]] = []
    faces: list[list[int]] = []
    corners: list[list[int]] = []
    groups: list[str] = []
    group = ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append(rest.split())
        elif kind == "vt":
            texture.append(rest.split()[:2])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            pairs = [item.split("/") for item in rest.split()]
            faces.append([int(pair[0]) - 1 for pair in pairs])
            corners.append([int(pair[1]) - 1 for pair in pairs])
            groups.append(group)
    return (
        np.array(vertices, np.float32),
        np.array(texture, np.float32),
        np.array(faces, np.int32),
        np.array(corners, np.int32),
        np.array(groups),
    )


def _hand_vertices(rig: dict[str, dict[str, list[list[float]]]], count: int) -> NDArray[np.bool_]:
    """(V,) vertices that mostly follow the bones of the left hand and forearm."""
    share = np.zeros(count)
    for bone, pairs in rig["weights"].items():
        if bone.endswith(".L") and bone.startswith(("finger", "wrist", "metacarpal", "lowerarm")):
            numbers, weights = np.array(pairs, np.float64).reshape(-1, 2).T
            np.add.at(share, numbers.astype(int), weights)
    return np.asarray(share > 0.5)


def _part_masks(
    vertices: Floats, faces: Indices, groups: NDArray[np.str_], hand: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """(F,) quads of each part."""
    upper = (vertices[faces][:, :, 1] > _CHEST).all(1) & (np.abs(vertices[faces][:, :, 0]) < _HALF_WIDTH).all(1)
    return {
        "skin": (groups == "body") & upper,
        "right_eye": groups == "helper-r-eye",
        "left_eye": groups == "helper-l-eye",
        "upper_teeth": groups == "helper-upper-teeth",
        "lower_teeth": groups == "helper-lower-teeth",
        "tongue": groups == "helper-tongue",
        "lashes": np.char.find(groups, "eyelashes") >= 0,
        "hand": (groups == "body") & hand[faces].all(1),
    }


def _part(faces: Indices, corners: Indices, texture: Floats) -> Part:
    """Split quads into triangles, and vertices where the texture has a seam."""
    split = [0, 1, 2, 0, 2, 3]
    keys = np.stack([faces[:, split].reshape(-1), corners[:, split].reshape(-1)], axis=1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    triangles = inverse.reshape(-1, 3).astype(np.int32)
    return Part(unique[:, 0].astype(np.int32), texture[unique[:, 1]], triangles)


def _load_targets(library: AssetLibrary, lookup: Indices, count: int) -> tuple[tuple[str, ...], Any]:
    files = [path for topic in _TOPICS for path in library.names(f"{_TARGETS}/{topic}/*.target.gz")]
    files += library.names(f"{_UNITS}/*.target")
    names, rows, columns, values = [], [], [], []
    for row, path in enumerate(files):
        raw = library.read(path)
        numbers, shift = _parse_target(gzip.decompress(raw) if path.endswith(".gz") else raw)
        inside = (numbers < len(lookup)) & (lookup[np.minimum(numbers, len(lookup) - 1)] >= 0)
        index = lookup[numbers[inside]]
        columns.append((index[:, None] * 3 + np.arange(3)).reshape(-1))
        values.append(shift[inside].reshape(-1))
        rows.append(np.full(len(index) * 3, row))
        pure = PurePosixPath(path)
        topic = "unit" if path.startswith(_UNITS) else pure.parent.name
        names.append(f"{topic}/{pure.name.partition('.')[0]}")
    matrix = require("scipy.sparse", "synth").csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (len(files), 3 * count), np.float32
    )
    return tuple(names), matrix


def _parse_target(data: bytes) -> tuple[Indices, Floats]:
    """Vertex numbers and displacements of a target file: lines of a number and three coordinates."""
    text = re.sub(r"^#.*$", "", data.decode("utf-8"), flags=re.MULTILINE)
    table = np.fromstring(text, np.float64, sep=" ").reshape(-1, 4)
    return table[:, 0].astype(np.int32), table[:, 1:].astype(np.float32)
