"""Whole scenes with no, one or several heads, for detectors: pictures and the ``faces.json`` that they learn from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import write_text_atomic
from cunet_deploy.errors import InputError
from cunet_deploy.synthesis.dataset import Product
from cunet_deploy.synthesis.lens import encode_jpeg, take_picture
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.recipe import FaceRecipe
from cunet_deploy.synthesis.render import FaceRenderer, Layer
from cunet_deploy.synthesis.view import COVERED

__all__ = ["Head", "SceneJob", "SceneOptions", "place_heads"]

Boxes = NDArray[np.float64]

_EMPTY = 0.07  # share of scenes without a head
_ALONE = 0.25
_SMALLEST = 10.0  # pixels of the longer side of a face
_LARGEST = 0.62  # of the scene's side
_OVERLAP = 0.3  # of the smaller box, at most
_TRIES = 12
_EXTENT = 0.42  # of a face in its own picture: shoulders reach the lower edge
_SHIFT = (0.0, -0.15)  # down, so that high hair fits
_GONE = 0.1  # a head with fewer landmarks to be seen is not there
_SEEN = 0.5  # share of landmarks in the picture and not behind other heads; with less a head is not sure
_STRIDE = 16  # numbers of faces that a scene may use


@dataclass(frozen=True)
class SceneOptions:
    """Options of scenes to render.

    Attributes:
        faces: how each head looks; its size is that of the separate pictures of heads.
        size: side of the square scenes in pixels.
        heads: the most heads in a scene.

    Raises:
        InputError: a value is out of range.
    """

    faces: FaceOptions = field(default_factory=FaceOptions)
    size: int = 480
    heads: int = 10

    def __post_init__(self) -> None:
        if not 128 <= self.size <= 2048:
            raise InputError(f"size is {self.size}; expected 128 to 2048 pixels")
        if not 1 <= self.heads < _STRIDE:
            raise InputError(f"heads is {self.heads}; expected 1 to {_STRIDE - 1}")


@dataclass(frozen=True, eq=False)
class Head:
    """Place of a head: its number, the middle of its face and the longer side of its landmarks, in pixels."""

    number: int
    x: float
    y: float
    side: float


def place_heads(rng: np.random.Generator, size: int, most: int) -> list[Head]:
    """Random places, farthest first; faces overlap little, and their middles are in the picture.

    Args:
        rng: consumed.
        size: side of the scene.
        most: heads.
    """
    kind = rng.random()
    wanted = 0 if kind < _EMPTY else 1 if kind < _EMPTY + _ALONE or most == 1 else int(rng.integers(2, most + 1))
    largest = _LARGEST * size / max(1.0, 0.7 * wanted**0.5)
    heads: list[Head] = []
    for number in range(wanted):
        for _ in range(_TRIES):
            side = float(np.exp(rng.uniform(np.log(_SMALLEST), np.log(largest))))
            x, y = (float(v) for v in rng.uniform(0.3 * side, size - 0.3 * side, 2))
            if all(_overlap((x, y, side), (one.x, one.y, one.side)) < _OVERLAP for one in heads):
                heads.append(Head(number, x, y, side))
                break
    return sorted(heads, key=lambda head: head.side)


def _overlap(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Intersection of two squares as a share of the smaller one."""
    width, height = ((a[2] + b[2]) / 2 - abs(a[i] - b[i]) for i in (0, 1))
    inner = min(a[2], b[2])
    return max(0.0, min(width, inner)) * max(0.0, min(height, inner)) / inner**2


class _SceneMaker:
    def __init__(self, options: SceneOptions) -> None:
        self.options = options
        self._renderer = FaceRenderer(replace(options.faces, without=(*options.faces.without, "heads")))

    def close(self) -> None:
        self._renderer.close()

    def make(self, number: int) -> Product:
        """The scene of that number: picture, and a line with boxes, landmarks and what is visible of them."""
        size, renderer = self.options.size, self._renderer
        rng = np.random.default_rng([self.options.faces.seed, number, 4711])
        main = renderer.sample(number * _STRIDE)
        image = renderer.surroundings.behind(main.background, main.light.environment, main.light.turn, size)
        faces: list[dict[str, Any]] = []
        for head in place_heads(rng, size, self.options.heads):
            recipe = self._recipe(main, number * _STRIDE + head.number)
            points, alpha = _put(image, renderer.layer(recipe), head)
            for one in faces:
                _cover(one, alpha)
            faces.append({"points": points[0], "visibility": points[1], "yaw": recipe.pose.yaw})
        lens = replace(main.lens, defocus=min(main.lens.defocus, 1.0), motion=0.5 * main.lens.motion)
        picture = encode_jpeg(take_picture(image, lens), lens.quality, lens.twice)
        lines = [_describe(face, size) for face in faces if _in_sight(face, size) >= _GONE]
        return Product({".jpg": picture}, {"faces": lines})

    def _recipe(self, main: FaceRecipe, number: int) -> FaceRecipe:
        """A person in the light of the scene, sharp, with shoulders."""
        recipe = self._renderer.sample(number)
        camera = replace(recipe.camera, distance=max(recipe.camera.distance, 0.9), extent=_EXTENT, shift=_SHIFT)
        return replace(recipe, light=main.light, camera=camera)


def _put(
    image: NDArray[np.float32], layer: Layer, head: Head
) -> tuple[tuple[Boxes, NDArray[np.int64]], NDArray[np.float32]]:
    """Put a head into the scene; below its picture the body goes on as its last row does.

    Returns:
        Landmarks in the scene and their visibility, and the head's (S, S) opacity.
    """
    scene, own = image.shape[0], layer.image.shape[0]
    extent = float(np.ptp(layer.points, axis=0).max())
    scale = head.side / extent
    middle = (layer.points.max(axis=0) + layer.points.min(axis=0)) / 2
    side = max(4, round(own * scale))
    scale = side / own
    piece = layer.image.astype(np.float32)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    piece = np.asarray(cv2.resize(piece, (side, side), interpolation=method), np.float32)
    left, top = (round(place - (m + 0.5) * scale) for place, m in zip((head.x, head.y), middle, strict=True))
    body = np.repeat(piece[-1:], max(0, scene - top - side), axis=0)
    piece = np.concatenate([piece, body], axis=0)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, scene), min(top + len(piece), scene)
    cut = piece[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = np.zeros((scene, scene), np.float32)
    alpha[y0:y1, x0:x1] = cut[..., 3] / 255
    window = image[y0:y1, x0:x1]
    window *= 1 - cut[..., 3:] / 255
    window += cut[..., :3]
    points = (layer.points + 0.5) * scale - 0.5 + [left, top]
    return (points, layer.visibility.copy()), alpha


def _cover(face: dict[str, Any], alpha: NDArray[np.float32]) -> None:
    """Note which landmarks of a farther face a nearer head covers."""
    size = alpha.shape[0]
    x, y = (np.clip(np.round(face["points"][:, axis]).astype(int), 0, size - 1) for axis in (0, 1))
    face["visibility"] = np.where(alpha[y, x] > 0.5, np.minimum(face["visibility"], COVERED), face["visibility"])
    face["behind"] = face.get("behind", np.zeros(len(x), bool)) | (alpha[y, x] > 0.5)


def _in_sight(face: dict[str, Any], size: int) -> float:
    """Share of the landmarks that lie in the picture and not behind nearer heads."""
    points = face["points"]
    inside = ((points >= -0.5) & (points < size - 0.5)).all(axis=1)
    return float((inside & ~face.get("behind", np.zeros(len(points), bool))).mean())


def _describe(face: dict[str, Any], size: int) -> dict[str, Any]:
    """Describe one head for its line."""
    points = face["points"]
    low, high = points.min(axis=0), points.max(axis=0)
    return {
        "box": [round(float(value), 2) for value in (*low, *high)],
        "sure": _in_sight(face, size) >= _SEEN,
        "yaw": round(face["yaw"], 2),
        "landmarks": [[round(float(value), 2) for value in point] for point in points],
        "visibility": [int(state) for state in face["visibility"]],
    }


@dataclass(frozen=True)
class SceneJob:
    """Scenes as `SceneOptions` describes them, see `cunet_deploy.synthesis.dataset.Job`."""

    options: SceneOptions
    name = "scenes"

    def as_json(self) -> dict[str, Any]:
        """All options."""
        return {**self.options.faces.as_json(), "head_size": self.options.faces.size} | {
            "size": self.options.size,
            "heads": self.options.heads,
        }

    def user_folders(self) -> list[str]:
        """Backgrounds and environments, where given."""
        return [folder for folder in (self.options.faces.backgrounds, self.options.faces.environments) if folder]

    def open(self) -> _SceneMaker:
        """A renderer."""
        return _SceneMaker(self.options)

    def finish(self, folder: Path, lines: list[str]) -> None:
        """Write ``scenes/faces.json``: for each picture ``[x, y, width, height, score]`` of every head; unsure is 0."""
        table = {}
        for line in map(json.loads, lines):
            boxes = []
            for face in line["faces"]:
                x0, y0, x1, y1 = face["box"]
                boxes.append([x0, y0, round(x1 - x0, 2), round(y1 - y0, 2), float(face["sure"])])
            table[Path(line["image"]).name] = boxes
        write_text_atomic(folder / self.name / "faces.json", json.dumps(table, indent=0) + "\n", overwrite=True)
