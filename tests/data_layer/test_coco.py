"""COCO keypoints, as the data set has them and as labelling tools export them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bodies import COCO_NAMES, write_coco

from cunet_deploy.data.readers import find_layout, read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import COCO17, LSP14, Skeleton

POINTS = np.random.default_rng(2).integers(20, 200, (17, 2)).astype(float)


def person(image: int, flags: np.ndarray, **changes: object) -> dict[str, object]:
    rows = np.concatenate([np.where(flags[:, None] > 0, POINTS, 0), flags[:, None]], axis=1)
    own = {"id": 7, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 4000.0, "bbox": [10, 20, 100, 150]}
    return {**own, "num_keypoints": int((flags > 0).sum()), "keypoints": rows.ravel().tolist(), **changes}


def test_hidden_points_are_labelled_and_absent_ones_are_not(tmp_path: Path) -> None:
    flags = np.array([2, 1, 0] + [2] * 14)
    folder = write_coco(tmp_path, "val2017", [person(1, flags)], COCO_NAMES)
    assert find_layout(folder) == "coco"
    (example,) = read_examples(folder, COCO17)
    assert example.image == tmp_path / "val2017" / "000000000001.jpg"
    assert np.isnan(example.points[2]).all()
    np.testing.assert_array_equal(np.delete(example.points, 2, axis=0), np.delete(POINTS, 2, axis=0))
    assert example.box.tolist() == [9.5, 19.5, 109.5, 169.5]
    assert example.sizes == {"area": 4000.0}


def test_crowds_and_people_without_keypoints_are_boxes_only(tmp_path: Path) -> None:
    all_seen, none = np.full(17, 2), np.zeros(17)
    rows = [person(1, all_seen), person(1, all_seen, iscrowd=1), person(1, none), person(2, none)]
    (example,) = read_examples(write_coco(tmp_path, "train2017", rows, COCO_NAMES), COCO17)
    assert len(example.others) == 3


def test_a_file_is_a_part(tmp_path: Path) -> None:
    for part, images in (("train2017", (1, 2)), ("val2017", (3,))):
        write_coco(tmp_path, part, [person(image, np.full(17, 2)) for image in images], COCO_NAMES)
    assert len(read_examples(tmp_path, COCO17)) == 3
    (example,) = read_examples(Path(f"{tmp_path}#val2017"), COCO17)
    assert example.photo == "000000000003"
    with pytest.raises(InputError, match=r"splits\.json: is missing"):
        read_examples(Path(f"{tmp_path}#test2017"), COCO17)


def test_landmarks_are_matched_by_the_names_in_the_file(tmp_path: Path) -> None:
    folder = write_coco(tmp_path, "default", [person(1, np.full(17, 2))], COCO_NAMES)
    (example,) = read_examples(folder, LSP14)
    assert example.points[LSP14.landmarks.index("left_wrist")].tolist() == POINTS[9].tolist()
    assert np.isnan(example.points[LSP14.landmarks.index("neck")]).all()
    with pytest.raises(InputError, match=r"default\.json: skeletons .* and mouse have no landmark in common"):
        read_examples(folder, Skeleton("mouse", ("snout", "tail"), (), ()))


def test_another_json_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"dataset": "x"}')
    assert find_layout(tmp_path) is None
    (tmp_path / "instances.json").write_text('{"info": {}, "images": [], "annotations": [], "categories": []}')
    with pytest.raises(InputError, match="no category names keypoints"):
        read_examples(tmp_path, COCO17)
    (tmp_path / "instances.json").write_text('{"info": {}, "images": [')
    with pytest.raises(InputError, match=r"instances\.json: is not COCO keypoints"):
        read_examples(tmp_path, COCO17)
