"""Settings, boxes and labels of every layout, and what reads them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from cunet_deploy.config import QuantConfig, load_bits, load_config
from cunet_deploy.data.agreement import apply_agreement
from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.readers import read_examples
from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.manifest import Manifest
from cunet_deploy.skeletons import LSP14, Skeleton
from fuzz.pictures import picture

MOUSE = Skeleton("mouse", ("nose", "left_ear", "right_ear", "tail"), ((1, 2),), ((0, 3),))


def write_config(root: Path) -> list[Path]:
    from drawn import CONFIG_TOML

    skeleton = {
        "name": "mouse",
        "landmarks": ["nose", "left_ear", "right_ear", "tail"],
        "flip_pairs": [["left_ear", "right_ear"]],
        "edges": [["nose", "tail"]],
    }
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in skeleton.items())
    (root / "mouse.toml").write_text(lines + "\n")
    (root / "config.toml").write_text(CONFIG_TOML)
    (root / "own.toml").write_text(CONFIG_TOML.replace('"ibug68"', '"mouse.toml"'))
    (root / "bits.toml").write_text('weight_bits = 4\nternary = false\n[layers]\n"down.0.*" = "ternary"\n')
    sources = '[{path = "a", weight = 1.5}, {path = "b#c", labels = "d.json"}]'
    (root / "mixed.toml").write_text(f'name = "m"\nskeleton = "lsp14"\n[data]\nsources = {sources}\n')
    return sorted(root.glob("*.toml"))


def read_config(root: Path, path: Path) -> None:
    if path.name == "bits.toml":
        load_bits(path, QuantConfig())
    else:
        load_config(root / "own.toml" if path.name == "mouse.toml" else path)


def write_boxes(root: Path) -> list[Path]:
    (root / "b.csv").write_text("frame,x0,y0,x1,y1\n0,1,2,30,40\n1,,,,\n2,5.5,6,70,80\n")
    (root / "f.csv").write_text("file,x0,y0,x1,y1,score\na.jpg,1,2,30,40,0.5\nb.jpg,1,2,3,4,1\n")
    rows: list[dict[str, object]] = [{"frame": 0, "box": [1, 2, 30, 40]}, {"frame": 1, "box": None}]
    (root / "b.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (root / "list.json").write_text(json.dumps(rows))
    (root / "map.json").write_text(json.dumps({"a.jpg": [[1, 2, 30, 40]], "7": [[1, 2, 3, 4], [5, 6, 7, 8]]}))
    return sorted(root.iterdir())


def load_boxes(root: Path, path: Path) -> None:
    boxes = GivenBoxes.read(path)
    boxes.detect(picture(), 0, "a.jpg")


def read_layout(skeleton: Skeleton, dataset: str, layout: str | None, root: Path, path: Path) -> None:
    """Read a data set with and without ``--skip-bad``, and the boxes in it."""
    folder = Path(str(root / dataset))
    bad: list[str] = []
    try:
        read_examples(folder, skeleton, None, bad)
        read_boxes(folder, layout)
    finally:
        assert all(len(line.splitlines()) == 1 for line in bad), bad
    read_examples(folder, skeleton)


def write_photos(root: Path) -> list[Path]:
    write_ibug(root)
    return [root / "faces.json"]


def read_photos(root: Path, path: Path) -> None:
    read_boxes(root, "faces")


def write_ibug(root: Path) -> list[Path]:
    from drawn import write_faces

    write_faces(root, 2)
    names = [path.name for path in sorted(root.glob("*.png"))]
    (root / "faces.json").write_text(json.dumps({name: [[20.0, 20, 50, 50, 0.9]] for name in names}))
    return [*sorted(root.glob("*.pts")), root / "faces.json", sorted(root.glob("*.png"))[0]]


def write_lsp(root: Path) -> list[Path]:
    from bodies import write_lspet

    write_lspet(root / "lspet", 3)
    return sorted(path for path in (root / "lspet").iterdir() if path.is_file())


def write_mpii_mat(root: Path) -> list[Path]:
    from bodies import mpii_person, write_mpii_mat

    person = mpii_person(np.random.default_rng(1).uniform(40, 200, (16, 2)).round(1))
    write_mpii_mat(root / "mpii", [("0.jpg", [person, person]), ("1.jpg", [])])
    return sorted((root / "mpii").glob("*.mat"))


def write_mpii_json(root: Path) -> list[Path]:
    points = np.random.default_rng(1).uniform(40, 200, (16, 2)).round(1)
    (root / "mpii" / "annot").mkdir(parents=True)
    (root / "mpii" / "images").mkdir()
    cv2.imwrite(str(root / "mpii" / "images" / "0.jpg"), picture())
    row = {"joints_vis": [1] * 16, "joints": points.tolist(), "image": "0.jpg", "scale": 0.8, "center": [101.0, 91.0]}
    (root / "mpii" / "annot" / "train.json").write_text(json.dumps([row, row]))
    joints = np.concatenate([points, np.ones((16, 1))], axis=1).tolist()
    other = {
        "dataset": "MPI",
        "isValidation": 1.0,
        "img_paths": "0.jpg",
        "objpos": [101.0, 91.0],
        "joint_self": joints,
        "scale_provided": 0.8,
    }
    (root / "mpii" / "annot" / "openpose.json").write_text(json.dumps([other]))
    return sorted((root / "mpii" / "annot").iterdir())


def write_coco(root: Path) -> list[Path]:
    from bodies import COCO_NAMES, write_coco

    rng = np.random.default_rng(2)
    people: list[dict[str, object]] = [
        {
            "id": index,
            "image_id": index % 2 + 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": 900.5,
            "num_keypoints": 17,
            "keypoints": np.insert(rng.integers(10, 200, (17, 2)), 2, 2, axis=1).ravel().tolist(),
            "bbox": [5.0, 7, 170, 180],
        }
        for index in range(3)
    ]
    write_coco(root / "coco", "val2017", people, COCO_NAMES)
    return sorted((root / "coco" / "annotations").glob("person_keypoints*.json"))


def write_points(root: Path) -> list[Path]:
    header = ",".join(
        ["image", *(f"{name}_{axis}" for name in MOUSE.landmarks for axis in "xy"), "x0", "y0", "x1", "y1"]
    )
    for folder in ("table", "list"):
        (root / folder).mkdir()
        cv2.imwrite(str(root / folder / "a.png"), picture())
    (root / "table" / "points.csv").write_text(f"{header}\na.png,1,2,3,4,5,6,7,8,,,,\na.png,9,8,7,6,5,4,,,0,0,40,40\n")
    rows = [{"image": "a.png", "points": {"nose": [1, 2], "left_ear": [3, 4], "tail": [9, 9], "right_ear": None}}]
    (root / "list" / "points.json").write_text(json.dumps([*rows, {**rows[0], "box": [0, 0, 20, 20]}]))
    return [root / "table" / "points.csv", root / "list" / "points.json"]


def read_points(root: Path, path: Path) -> None:
    bad: list[str] = []
    read_examples(path.parent, MOUSE, None, bad)
    assert all(len(line.splitlines()) == 1 for line in bad), bad
    read_examples(path.parent, MOUSE)


def write_split(root: Path) -> list[Path]:
    from bodies import write_lspet

    write_lspet(root / "lspet", 3)
    return [root / "lspet" / "splits.json"]


def write_agreement(root: Path) -> list[Path]:
    from bodies import write_lspet

    write_lspet(root / "lspet", 3)
    row = {"a": [None, None, *range(4, 26)], "from": "0" + "123" * 3 + "11", "torso": 40.5}
    table = {"joints": LSP14.landmarks[:12], "about": "x", "images": {"im00001.jpg": row, "im00003.jpg": row}}
    (root / "agreed.json").write_text(json.dumps(table))
    return [root / "agreed.json"]


def read_agreement(root: Path, path: Path) -> None:
    examples = read_examples(root / "lspet", LSP14)
    bad: list[str] = []
    apply_agreement(examples, path, LSP14, bad)
    assert all(len(line.splitlines()) == 1 for line in bad), bad
    apply_agreement(examples, path, LSP14)


def write_manifest(root: Path) -> list[Path]:
    released = Path(__file__).parents[2] / "models" / "face-detect-s" / "manifest.json"
    (root / "manifest.json").write_bytes(released.read_bytes())
    return [root / "manifest.json"]


def read_manifest(root: Path, path: Path) -> None:
    Manifest.from_json(path.read_bytes(), path).to_json()
