"""Draw pictures of mice from above with four points each: the data set that docs/own-points.md trains on.

    python docs/examples/draw_mice.py build/mice

writes ``cage/`` with pictures and ``points.csv``, ``mouse.toml`` with the landmarks, and ``config.toml``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("nose", "left_ear", "right_ear", "tail")

SKELETON = """# Four points of a mouse that is seen from above.
name = "mouse"
landmarks = ["nose", "left_ear", "right_ear", "tail"]
flip_pairs = [["left_ear", "right_ear"]]
edges = [["nose", "left_ear"], ["nose", "right_ear"], ["left_ear", "tail"], ["right_ear", "tail"]]

[normalizers]
body = ["nose", "tail"]
"""

CONFIG = """# A small network for four points of a mouse.
name = "mouse"
skeleton = "mouse.toml"

[data]
train = ["cage"]
layout = "points"
validation_fraction = 0.2
licence = "drawn"

[model]
channels = 16
growth = 8
depth = 3
block = "post"
stem = "s2d"

[crop]
size = 64
padding = 1.4

[augment]
rotation = 90.0

[train]
epochs = 30
batch_size = 8
learning_rate = 3e-3
ema_decay = 0.98
validate_every = 5

[quant]
epochs = 3
"""


def draw_mouse(rng: np.random.Generator, size: int = 160) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A (size, size, 3) picture of one mouse on straw, and its (4, 2) points."""
    picture = rng.integers(90, 150, (size, size, 1)).astype(np.uint8).repeat(3, axis=2)
    for _ in range(60):
        a, b = rng.integers(0, size, 2), rng.integers(-12, 13, 2)
        cv2.line(picture, _pair(a), _pair(a + b), (120, 170, 190), 1, cv2.LINE_AA)
    turn, length = rng.uniform(0, 2 * np.pi), rng.uniform(24, 34)
    matrix = length * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = rng.uniform(0.4, 0.6, 2) * size

    def place(x: float, y: float) -> NDArray[np.float64]:
        return np.asarray(middle + matrix @ np.array([x, y]))

    # the mouse looks along x; from above, its left side is where y is smaller
    points = np.stack([place(1.25, rng.uniform(-0.1, 0.1)), place(0.75, -0.35), place(0.75, 0.35), place(-0.95, 0)])
    fur = tuple(int(value) for value in rng.integers(20, 70, 3))
    curl = np.stack([points[3], place(-1.3, rng.uniform(-0.4, 0.4)), place(-1.7, rng.uniform(-0.8, 0.8))])
    cv2.polylines(picture, [curl.round().astype(np.int32)], False, (140, 130, 190), 2, cv2.LINE_AA)
    axes = (round(0.95 * length), round(0.5 * length))
    cv2.ellipse(picture, _pair(middle), axes, float(np.degrees(turn)), 0, 360, fur, -1, cv2.LINE_AA)
    head = np.stack([points[0], place(0.7, -0.4), place(0.3, 0), place(0.7, 0.4)])
    cv2.fillConvexPoly(picture, head.round().astype(np.int32), fur, cv2.LINE_AA)
    for ear in points[1:3]:
        cv2.circle(picture, _pair(ear), round(0.18 * length), (150, 140, 200), -1, cv2.LINE_AA)
    cv2.circle(picture, _pair(points[0]), 2, (160, 150, 220), -1, cv2.LINE_AA)
    return picture, points


def write_mice(folder: Path, count: int) -> None:
    """A data set of ``count`` pictures below ``folder``; in some a point is hidden and has no label."""
    (folder / "cage").mkdir(parents=True, exist_ok=True)
    lines = ["image," + ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")]
    for index in range(count):
        rng = np.random.default_rng([7, index])
        picture, points = draw_mouse(rng)
        cells = [[f"{value:.2f}" for value in point] for point in points]
        if rng.random() < 0.1:
            hidden = int(rng.integers(0, 4))
            cv2.circle(picture, _pair(points[hidden]), 9, (200, 200, 200), -1, cv2.LINE_AA)
            cells[hidden] = ["", ""]
        cv2.imwrite(str(folder / "cage" / f"{index:04d}.png"), picture)
        lines.append(f"{index:04d}.png," + ",".join(cell for point in cells for cell in point))
    (folder / "cage" / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "mouse.toml").write_text(SKELETON, encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")


def _pair(point: NDArray[np.floating] | NDArray[np.integer]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    write_mice(arguments.folder, arguments.count)
    print(arguments.folder)


if __name__ == "__main__":
    main()
