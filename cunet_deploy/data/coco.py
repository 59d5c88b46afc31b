"""COCO keypoints: one JSON file with ``images``, ``annotations`` and ``categories``, as many tools export it.

``keypoints`` of an annotation are x, y, v of each landmark that its category names; v = 0 is not labelled, 1 is
labelled but hidden, 2 is visible: 1 and 2 count alike. People without keypoints and crowds are nobody's background.

Keypoints count pixels from 0 and mean the middle of one. Boxes are ``[x, y, width, height]`` from the photo's corner,
which is half a pixel before the middle of its first pixel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.examples import Example
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton, map_landmarks

__all__ = ["read_coco"]


def read_coco(path: Path, folders: Sequence[Path], skeleton: Skeleton) -> list[Example]:
    """Everything with keypoints, in the file's order; landmarks are matched by the names that the categories give.

    Args:
        path: the file.
        folders: where to look for the photos; the first that has one counts.
        skeleton: whose landmarks are wanted.

    Raises:
        InputError: the file holds something else, or has no landmark of the skeleton.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        sources = {
            category["id"]: Skeleton(str(category["name"]), tuple(map(str, category["keypoints"])), (), ())
            for category in table["categories"]
            if category.get("keypoints")
        }
        names = {image["id"]: str(image["file_name"]) for image in table["images"]}
        boxes: dict[Any, list[NDArray[np.float64]]] = {}
        for row in table["annotations"]:
            boxes.setdefault(row["image_id"], []).append(_box(row))
        rows = [row for row in table["annotations"] if row["category_id"] in sources and _labelled(row)]
        points = [_points(row, sources[row["category_id"]]) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is not COCO keypoints ({error!r}); export it again") from error
    if not sources:
        raise InputError(f"{path}: no category names keypoints; is it the file of boxes or captions?")
    found = []
    for row, own in zip(rows, points, strict=True):
        mapped, name = map_landmarks(own, sources[row["category_id"]], skeleton), names[row["image_id"]]
        sizes = {"area": float(row["area"])} if row.get("area") else {}
        box = _box(row) if "bbox" in row else None
        others = np.stack(boxes[row["image_id"]])
        found.append(Example(_image(name, folders), mapped, Path(name).stem, others, box, sizes))
    return found


def _labelled(row: Mapping[str, Any]) -> bool:
    return not row.get("iscrowd", 0) and any(row.get("keypoints", ())[2::3])


def _points(row: Mapping[str, Any], source: Skeleton) -> NDArray[np.float64]:
    """(K, 2) points; NaN where not labelled."""
    rows = np.asarray(row["keypoints"], np.float64).reshape(len(source), 3)
    return np.where(rows[:, 2:] > 0, rows[:, :2], np.nan)


def _box(row: Mapping[str, Any]) -> NDArray[np.float64]:
    """(4,) xyxy box; that of the labelled points where there is none."""
    if "bbox" in row:
        x, y, width, height = (float(value) for value in row["bbox"])
        return np.array([x, y, x + width, y + height]) - 0.5
    rows = np.asarray(row["keypoints"], np.float64).reshape(-1, 3)
    seen = rows[rows[:, 2] > 0, :2] if (rows[:, 2] > 0).any() else np.zeros((1, 2))
    return np.concatenate([seen.min(axis=0), seen.max(axis=0)])


def _image(name: str, folders: Sequence[Path]) -> Path:
    """Where a photo is; where it should be when it is nowhere, so that the message about it names a place."""
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)
