"""Drawn people and files of the layouts that data sets of body joints have, made of nothing but numbers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import scipy.io

from cunet_deploy.skeletons import LSP14

UPRIGHT = np.array(
    [
        *[(-12, 60), (-10, 35), (-8, 10), (8, 10), (10, 35), (12, 60)],
        *[(-28, 5), (-24, -15), (-14, -32), (14, -32), (24, -15), (28, 5)],
        *[(0, -36), (0, -58)],
    ],
    np.float64,
)
"""(14, 2) joints of a person who stands, around the middle; the person's right is left in the image."""


def draw_person(rng: np.random.Generator, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A picture with one person of sticks, and the (14, 2) joints, 0-based."""
    turn = rng.uniform(-0.3, 0.3)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = UPRIGHT @ matrix.T * rng.uniform(0.8, 1.0) + size / 2 + rng.uniform(-4, 4, 2)
    points += rng.uniform(-3, 3, points.shape)
    image = np.full((size, size, 3), rng.integers(40, 90), np.uint8)
    for a, b in LSP14.edges:
        colour = (80, 80, 240) if "right" in LSP14.landmarks[a] else (80, 240, 80)
        cv2.line(image, points[a].round().astype(int), points[b].round().astype(int), colour, 3)
    return image, points


def write_lspet(folder: Path, count: int, *, unlabelled: int = 0, seed: int = 0) -> np.ndarray:
    """A folder like LSPET's: ``joints`` (14, 3, N), 1-based, ``unlabelled`` joints of each zero with flag 0.

    The last third is the part ``test``, the others ``train``; every second one is ``clean``.

    Returns:
        (N, 14, 2) joints, 0-based, NaN where not labelled.
    """
    (folder / "images").mkdir(parents=True)
    names, people = [f"im{index + 1:05d}.jpg" for index in range(count)], []
    joints = np.zeros((14, 3, count))
    for index, name in enumerate(names):
        rng = np.random.default_rng([seed, index])
        image, points = draw_person(rng)
        cv2.imwrite(str(folder / "images" / name), image)
        joints[:, :2, index], joints[:, 2, index] = points + 1, 1
        hidden = rng.permutation(14)[:unlabelled]
        joints[hidden, :, index] = 0, 0, 0
        points[hidden] = np.nan
        people.append(points)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    (folder / "images.json").write_text(json.dumps(names))
    first = count - count // 3
    splits = {"train": names[:first], "test": names[first:], "clean": names[::2]}
    (folder / "splits.json").write_text(json.dumps(splits))
    return np.stack(people)


def write_lsp(folder: Path, count: int, seed: int = 0) -> np.ndarray:
    """A folder like LSP's: ``joints`` (3, 14, N), 1-based, every third joint occluded (flag 1); the rest visible (0).

    Returns:
        (N, 14, 2) joints, 0-based.
    """
    (folder / "images").mkdir(parents=True)
    joints, people = np.zeros((3, 14, count)), []
    for index in range(count):
        image, points = draw_person(np.random.default_rng([seed, index]))
        cv2.imwrite(str(folder / "images" / f"im{index + 1:04d}.jpg"), image)
        joints[:2, :, index], joints[2, ::3, index] = points.T + 1, 1
        people.append(points)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    return np.stack(people)


def structs(rows: list[dict[str, object]], fields: tuple[str, ...]) -> np.ndarray:
    """A Matlab array of structs as `scipy.io.savemat` takes it; a field that a row lacks is empty."""
    table = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    for index, row in enumerate(rows):
        for name in fields:
            table[0, index][name] = row.get(name, np.zeros((0, 0)))
    return table


def mpii_person(
    points: np.ndarray, *, hidden: tuple[int, ...] = (), missing: tuple[int, ...] = ()
) -> dict[str, object]:
    """An ``annorect`` of (16, 2) 0-based joints, with centre, scale and head box."""
    joints = [
        {"x": x + 1, "y": y + 1, "id": index, "is_visible": 0 if index in hidden else 1}
        for index, (x, y) in enumerate(points)
        if index not in missing
    ]
    center = points.mean(axis=0) + 1
    head = (
        np.concatenate([points[8:10].min(axis=0) - np.array([3, 0]), points[8:10].max(axis=0) + np.array([4, 0])]) + 1
    )
    return {
        **dict(zip(("x1", "y1", "x2", "y2"), head.tolist(), strict=True)),
        "annopoints": structs([{"point": structs(joints, ("x", "y", "id", "is_visible"))}], ("point",)),
        "scale": float(np.ptp(points[:, 1])) / 200,
        "objpos": structs([{"x": center[0], "y": center[1]}], ("x", "y")),
    }


def write_mpii_mat(folder: Path, photos: list[tuple[str, list[dict[str, object]]]]) -> Path:
    """A folder like MPII's: the release as Matlab writes it, and a photo for each name."""
    (folder / "images").mkdir(parents=True)
    fields = ("x1", "y1", "x2", "y2", "annopoints", "scale", "objpos")
    entries: list[dict[str, object]] = []
    for name, people in photos:
        cv2.imwrite(str(folder / "images" / name), np.full((240, 320, 3), 90, np.uint8))
        entry: dict[str, object] = {"image": structs([{"name": name}], ("name",))}
        if people:
            entry["annorect"] = structs(people, fields)
        entries.append(entry)
    release = {
        "annolist": structs(entries, ("image", "annorect")),
        "img_train": np.array([[int(bool(people)) for _, people in photos]]),
        "version": "12",
    }
    scipy.io.savemat(folder / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    return folder


COCO_NAMES = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle"),
    "right_ankle",
)


def write_coco(folder: Path, part: str, annotations: list[dict[str, object]], names: tuple[str, ...]) -> Path:
    """A folder like COCO's with one file of keypoints, and a photo for each ``image_id``."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / part).mkdir(exist_ok=True)
    images = []
    for identity in sorted({int(str(row["image_id"])) for row in annotations}):
        name = f"{identity:012d}.jpg"
        cv2.imwrite(str(folder / part / name), np.full((240, 320, 3), 90, np.uint8))
        images.append({"id": identity, "file_name": name, "height": 240, "width": 320})
    table = {
        "info": {"description": "made up"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": []}],
    }
    (folder / "annotations" / f"person_keypoints_{part}.json").write_text(json.dumps(table))
    (folder / "annotations" / f"captions_{part}.json").write_text(json.dumps({"info": {}, "annotations": []}))
    return folder
