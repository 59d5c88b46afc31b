"""Damage in a label file of any layout never escapes the error tree, with and without ``--skip-bad``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from bodies import COCO_NAMES, mpii_person, write_coco, write_lspet, write_mpii_mat
from mutations import damaged_bytes, damaged_json

from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import CunetError
from cunet_deploy.skeletons import LSP14, MPII16, Skeleton

CASES = 120
FOUR = Skeleton("four", ("a", "b", "c", "d"), (), ())


def coco(folder: Path) -> Path:
    row = {"category_id": 1, "keypoints": [30, 40, 2, 60, 90, 1] + [20, 30, 2] * 15, "area": 300, "iscrowd": 0}
    write_coco(folder, "val", [{**row, "id": n, "image_id": n, "bbox": [1, 2, 30, 40]} for n in (1, 2)], COCO_NAMES)
    return folder / "annotations" / "person_keypoints_val.json"


def baselines(folder: Path) -> Path:
    row = {"image": "a.jpg", "center": [90, 90], "scale": 0.8, "joints": [[9, 8]] * 16, "joints_vis": [1] * 16}
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps([row, row]))
    return folder / "train.json"


def openpose(folder: Path) -> Path:
    row = {"img_paths": "a.jpg", "objpos": [90, 90], "scale_provided": 0.8, "joint_self": [[9, 8, 1]] * 16}
    folder.mkdir()
    (folder / "train.json").write_text(json.dumps([{**row, "isValidation": 0}, {**row, "isValidation": 1}]))
    return folder / "train.json"


def points_json(folder: Path) -> Path:
    folder.mkdir()
    row = {"image": "a.jpg", "points": {"a": [1, 2], "b": [3, 4], "c": [9, 9], "d": None}, "box": [1, 2, 30, 40]}
    (folder / "points.json").write_text(json.dumps([row, row]))
    return folder / "points.json"


def points_csv(folder: Path) -> Path:
    folder.mkdir()
    cells = "\n".join(f"{n}.jpg,1,2,3,4,5,{n},,,1,2,30,40" for n in range(4))
    (folder / "points.csv").write_text(f"image,a_x,a_y,b_x,b_y,c_x,c_y,d_x,d_y,x0,y0,x1,y1\n{cells}\n")
    return folder / "points.csv"


def pts(folder: Path) -> Path:
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((40, 40, 3), np.uint8))
    (folder / "a.pts").write_text("version: 1\nn_points: 4\n{\n1 2\n3 4\n5 6.5\n7 9\n}\n")
    return folder / "a.pts"


def faces(folder: Path) -> Path:
    folder.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), np.zeros((40, 40, 3), np.uint8))
    (folder / "faces.json").write_text('{"a.png": [[1, 2, 10, 20, 1], [3, 4, 5, 6, 0.5]], "b.png": []}')
    return folder / "faces.json"


def splits(folder: Path) -> Path:
    write_lspet(folder, 3)
    return folder / "splits.json"


def names(folder: Path) -> Path:
    write_lspet(folder, 3)
    return folder / "images.json"


def joints_mat(folder: Path) -> Path:
    write_lspet(folder, 3)
    return folder / "joints.mat"


def mpii_mat(folder: Path) -> Path:
    person = np.stack([np.arange(16) * 5 + 20, np.arange(16) * 9 + 20], axis=1)
    return write_mpii_mat(folder, [("a.jpg", [mpii_person(person)]), ("b.jpg", [])]) / "mpii_human_pose_v1_u12_1.mat"


MAKERS = {
    make.__name__: (make, skeleton)
    for make, skeleton in (
        (coco, LSP14),
        (baselines, MPII16),
        (openpose, MPII16),
        (points_json, FOUR),
        (points_csv, FOUR),
        (pts, FOUR),
        (faces, None),
        (splits, LSP14),
        (names, LSP14),
        (joints_mat, LSP14),
        (mpii_mat, MPII16),
    )
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.filterwarnings("ignore")  # of scipy and numpy, about what they read
def test_damage_is_named_or_left_out(tmp_path: Path, kind: str) -> None:
    make, skeleton = MAKERS[kind]
    folder = tmp_path / "set"
    path = make(folder)
    content = path.read_bytes()
    dataset = Path(f"{folder}#test:clean") if kind == "splits" else folder
    if kind == "splits":
        content = content.replace(b'"test": [', b'"test": ["im00001.jpg", ')
        path.write_bytes(content)

    def read(bad: list[str] | None) -> int:
        if skeleton is None:
            return len(read_boxes(dataset, "faces", bad))
        return len(read_examples(dataset, skeleton, bad=bad)) + len(
            read_boxes(dataset, bad=bad) if kind == "coco" else ()
        )

    assert read(None)
    refusals: list[str] = []
    for data in _damaged(path.name, content):
        path.write_bytes(data)
        either: tuple[list[str] | None, ...] = (None, [])
        for bad in either:
            try:
                read(bad)
            except CunetError as error:
                refusals.append(str(error))
            refusals.extend(bad or ())
    assert len(refusals) > CASES // 10
    assert [line for line in refusals if len(line.splitlines()) != 1] == []


def _damaged(name: str, content: bytes) -> Iterator[bytes]:
    yield from damaged_bytes(content, CASES)
    if name.endswith(".json"):
        yield from damaged_json(content, CASES)
