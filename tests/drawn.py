"""A small data set of drawn faces in the 300-W layout, and a configuration small enough to train on it in seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from cunet_deploy.config import Config, parse_config
from cunet_deploy.skeletons import IBUG68

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def template() -> np.ndarray:
    """(68, 2) landmarks of an upright face in [-1, 1]."""
    turn = np.linspace(np.pi, 0, 17)
    jaw = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    brows = [
        np.stack([np.linspace(a, b, 5), -0.55 - 0.08 * np.sin(np.linspace(0, np.pi, 5))], axis=1)
        for a, b in ((-0.8, -0.2), (0.2, 0.8))
    ]
    bridge = np.stack([np.zeros(4), np.linspace(-0.35, 0.05, 4)], axis=1)
    base = np.stack([np.linspace(-0.2, 0.2, 5), np.full(5, 0.15)], axis=1)

    def ring(x: float, y: float, rx: float, ry: float, count: int) -> np.ndarray:
        angles = np.pi - np.linspace(0, 2 * np.pi, count, endpoint=False)
        return np.stack([x + rx * np.cos(angles), y - ry * np.sin(angles)], axis=1)

    eyes = [ring(x, -0.3, 0.18, 0.08, 6) for x in (-0.45, 0.45)]
    mouth = [ring(0, 0.5, 0.35, 0.15, 12), ring(0, 0.5, 0.25, 0.07, 8)]
    return np.concatenate([jaw, *brows, bridge, base, *eyes, *mouth])


def draw_face(rng: np.random.Generator, height: int = 96, width: int = 112) -> tuple[np.ndarray, np.ndarray]:
    """A photo-like picture with one face, and its (68, 2) landmarks, 0-based."""
    image = np.full((height, width, 3), rng.integers(60, 120), np.uint8)
    angle, radius = rng.uniform(-0.2, 0.2), rng.uniform(24, 30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = template() @ turn.T * radius + np.array([width / 2, height / 2]) + rng.uniform(-5, 5, 2)
    for a, b in IBUG68.edges:
        cv2.line(image, points[a].round().astype(int), points[b].round().astype(int), (230, 230, 230), 1)
    return image, points


def write_pts(path: Path, points: np.ndarray) -> None:
    rows = "\n".join(f"{x + 1:.3f} {y + 1:.3f}" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")


def write_faces(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of ``count`` drawn faces with their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, points = draw_face(np.random.default_rng([seed, index]))
        cv2.imwrite(str(folder / f"face{index:03d}_1.png"), image)
        write_pts(folder / f"face{index:03d}_1.pts", points)
    return folder


CONFIG_TOML = """
name = "tiny"
skeleton = "ibug68"
[data]
train = ["faces"]
validation_fraction = 0.2
licence = "drawn by the tests"
[model]
num_unets = 2
channels = 8
growth = 4
bottleneck = 2
depth = 2
block = "post"
stem = "conv3x2"
[crop]
size = 32
[augment]
negative = 0.1
[train]
epochs = 2
batch_size = 4
coordinate_weight = 0.002
[quant]
epochs = 1
calibration_examples = 8
"""


def tiny_config(**tables: dict[str, object]) -> Config:
    """`CONFIG_TOML` with some keys replaced, as ``tiny_config(model={"block": "pre"})``."""
    table = tomllib.loads(CONFIG_TOML)
    for name, changes in tables.items():
        table[name] = {**table.get(name, {}), **changes}
    return parse_config(table)
