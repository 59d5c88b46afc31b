"""Boxes from labelled landmarks, and photos of what is not to be found."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from bodies import COCO_NAMES, write_coco, write_lspet

from cunet_deploy.config import parse_config
from cunet_deploy.data.bodies import MARGINS, body_box, torso_length
from cunet_deploy.data.boxes import read_backgrounds, read_boxes
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.frames import FrameSampler
from cunet_deploy.data.readers import read_examples
from cunet_deploy.data.sources import finds_people
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.skeletons import COCO17, IBUG68, LSP14


def test_boxes_are_tight_around_labelled_joints_and_scored_by_how_many_are(tmp_path: Path) -> None:
    people = write_lspet(tmp_path / "lspet", 6, unlabelled=4)
    photos = read_boxes(Path(f"{tmp_path}/lspet#test"))
    assert [photo.image.name for photo in photos] == ["im00005.jpg", "im00006.jpg"]
    for photo, points in zip(photos, people[4:], strict=True):
        np.testing.assert_allclose(photo.boxes, [[*np.nanmin(points, axis=0), *np.nanmax(points, axis=0)]])
        assert photo.scores.tolist() == [10 / 14]


def test_objects_of_one_photo_come_together(tmp_path: Path) -> None:
    folder, points = tmp_path / "coco", np.stack([np.arange(17) + 5, 2 * np.arange(17) + 7], axis=1)
    people = [
        {
            "id": index,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": 300,
            "num_keypoints": 17,
            "keypoints": np.insert(points + np.array([20 * index, 0]), 2, 2, axis=1).ravel().tolist(),
            "bbox": [5 + 20 * index, 7, 17, 33],
        }
        for index in range(2)
    ]
    write_coco(folder, "val2017", people, COCO_NAMES)
    (photo,) = read_boxes(folder)
    np.testing.assert_allclose(photo.boxes, [[4.5, 6.5, 21.5, 39.5], [24.5, 6.5, 41.5, 39.5]])  # bbox, from the corner
    assert photo.scores.tolist() == [1, 1]


def test_nobody_in_a_photo_counts_as_background(tmp_path: Path) -> None:
    seen = {"image_id": 1, "category_id": 1, "keypoints": [30, 40, 2] * 17}
    unseen = {"image_id": 1, "category_id": 1, "keypoints": []}
    rows = [
        {**seen, "bbox": [10, 10, 50, 80]},
        {**unseen, "bbox": [70, 10, 50, 80]},
        {**unseen, "bbox": [90, 10, 50, 80], "score": 0.85},
        {**seen, "bbox": [0, 0, 200, 80], "iscrowd": 1},
        {**seen, "image_id": 2, "keypoints": [30, 40, 2, 60, 90, 1] + [0, 0, 0] * 15},
    ]
    write_coco(tmp_path, "val2017", rows, COCO_NAMES)
    first, second = read_boxes(Path(f"{tmp_path}#val2017"))
    assert first.scores.tolist() == [1, 0, 0.85, 0]
    assert second.boxes.tolist() == [[30, 40, 60, 90]]


def test_bodies_reach_beyond_their_joints(tmp_path: Path) -> None:
    people = write_lspet(tmp_path / "lspet", 6, unlabelled=4)
    tight, bodies = (read_boxes(Path(f"{tmp_path}/lspet#test"), bodies=bodies)[0].boxes[0] for bodies in (False, True))
    unit = max(torso_length(people[4], LSP14), 0.2 * np.max(tight[2:] - tight[:2]))
    reach = np.abs(bodies - tight) / unit
    assert (bodies[:2] < tight[:2]).all()
    assert (bodies[2:] > tight[2:]).all()
    assert (reach >= min(MARGINS.values()) - 1e-9).all()
    assert (reach <= max(MARGINS.values()) + 1e-9).all()


def test_shoes_and_hair_belong_to_a_body() -> None:
    points = np.full((14, 2), np.nan)
    for name, place in {
        "left_shoulder": (60, 50),
        "right_shoulder": (40, 50),
        "left_hip": (60, 150),
        "right_hip": (40, 150),
        "left_ankle": (55, 300),
        "head_top": (50, 10),
    }.items():
        points[LSP14.landmarks.index(name)] = place
    hip, ankle, top = MARGINS["hip"], MARGINS["ankle"], MARGINS["head_top"]
    np.testing.assert_allclose(
        body_box(points, LSP14), [40 - 100 * hip, 10 - 100 * top, 55 + 100 * ankle, 300 + 100 * ankle]
    )
    points[LSP14.landmarks.index("left_hip")] = np.nan  # no torso: a fifth of the box
    assert body_box(points, LSP14)[3] == pytest.approx(300 + 0.2 * 290 * ankle)


def test_labelled_boxes_of_people_with_joints_give_way_to_bodies(tmp_path: Path) -> None:
    seen = {"image_id": 1, "category_id": 1, "keypoints": [30, 40, 2, 60, 90, 1] + [0, 0, 0] * 15}
    unseen = {"image_id": 1, "category_id": 1, "keypoints": [], "bbox": [70, 10, 50, 80], "score": 0.85}
    write_coco(tmp_path, "val2017", [{**seen, "bbox": [30, 40, 30, 50]}, unseen], COCO_NAMES)
    (photo,) = read_boxes(Path(f"{tmp_path}#val2017"), bodies=True)
    points = np.full((17, 2), np.nan)
    points[:2] = (30, 40), (60, 90)
    np.testing.assert_allclose(photo.boxes, np.stack([body_box(points, COCO17), [69.5, 9.5, 119.5, 89.5]]))


def test_crowds_and_people_without_a_place_keep_their_labelled_boxes(tmp_path: Path) -> None:
    row = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 80]}
    nowhere = {**row, "keypoints": [0, 0, 2] * 17}
    crowd = {**row, "keypoints": [30, 40, 2, 60, 90, 1] + [0, 0, 0] * 15, "iscrowd": 1}
    write_coco(tmp_path, "val2017", [nowhere, crowd], COCO_NAMES)
    (photo,) = read_boxes(Path(f"{tmp_path}#val2017"), bodies=True)
    assert photo.boxes.tolist() == [[9.5, 9.5, 59.5, 89.5]] * 2
    assert photo.scores.tolist() == [1, 0]


def test_keypoints_of_something_else_are_refused_even_where_bad_rows_are_left_out(tmp_path: Path) -> None:
    row = {"image_id": 1, "category_id": 1, "keypoints": [30, 40, 2] * 4}
    write_coco(tmp_path, "val2017", [row], ("front_wheel", "rear_wheel", "roof", "mirror"))
    with pytest.raises(InputError, match="have no joints of a body"):
        read_boxes(Path(f"{tmp_path}#val2017"), bad=[], bodies=True)


def test_bodies_of_what_has_no_joints_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((50, 50, 3), np.uint8))
    (tmp_path / "faces.json").write_text('{"a.png": [[1, 2, 10, 20, 1]]}')
    with pytest.raises(InputError, match='has boxes and no landmarks to make others of; leave out boxes = "bodies"'):
        read_boxes(tmp_path, bodies=True)
    with pytest.raises(InputError, match="have no joints of a body"):
        body_box(np.zeros((68, 2)), IBUG68)


def test_a_list_of_boxes_has_parts(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((50, 50, 3), np.uint8))
    (tmp_path / "faces.json").write_text('{"a.png": [[1, 2, 10, 20, 1]], "b.png": []}')
    (tmp_path / "splits.json").write_text('{"train": ["a.png"], "test": ["b.png"]}')
    assert [photo.image.name for photo in read_boxes(Path(f"{tmp_path}#test"), "faces")] == ["b.png"]


def test_a_folder_without_labels_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"faces\.json: is missing"):
        read_boxes(tmp_path)
    (tmp_path / "points.csv").write_text("image,a_x,a_y\n")
    with pytest.raises(InputError, match="boxes can be made of lsp, 300w, mpii, coco, faces only"):
        read_boxes(tmp_path)


def test_below_a_face_there_may_be_a_body(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((50, 50, 3), np.uint8))
    (tmp_path / "faces.json").write_text('{"a.png": [[100, 40, 10, 20, 0.9]]}')
    (face,), (body,) = read_backgrounds(tmp_path), read_backgrounds(tmp_path, people=True)
    assert face.boxes.tolist() == [[100, 40, 110, 60]]
    assert body.boxes.tolist() == [[70, 30, 140, 240]]
    assert face.scores.tolist() == body.scores.tolist() == [0]


def test_beside_joints_a_photo_shows_a_body_to_its_outline(tmp_path: Path) -> None:
    write_lspet(tmp_path, 2)
    boxes = [photo.boxes for photo in read_backgrounds(tmp_path, people=True)]
    np.testing.assert_allclose(boxes, [[body_box(e.points, LSP14)] for e in read_examples(tmp_path, LSP14, "lsp")])


@pytest.mark.parametrize(
    ("layouts", "finds", "people"),
    [
        (("faces",), "", False),
        (("faces", "lsp"), "", True),
        (("lsp", "faces"), "", True),
        (("faces",), "people", True),
        (("lsp",), "faces", False),
    ],
)
def test_what_a_detector_finds_is_said_or_follows_from_its_data(
    tmp_path: Path, layouts: tuple[str, ...], finds: str, people: bool
) -> None:
    sources = [{"path": f"set{index}", "layout": layout} for index, layout in enumerate(layouts)]
    table = {"name": "x", "skeleton": "box", "data": {"sources": sources}, "boxes": {"finds": finds}}
    assert finds_people(parse_config(table), tmp_path) == people


def test_of_a_background_only_what_is_beside_its_object_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    picture = np.full((120, 200, 3), 200, np.uint8)
    picture[:, :90] = (0, 0, 255)  # the object and its margin; the largest part beside it is grey
    cv2.imwrite(str(folder / "a.png"), picture)
    (folder / "faces.json").write_text('{"a.png": [[10, 10, 70, 100, 1]]}')
    objects = Path(shutil.copytree(folder, tmp_path / "objects"))
    settings = {"mosaic": 0.0, "beside": True, "min_side": 4.0}
    table = {
        "name": "x",
        "skeleton": "box",
        "data": {"train": ["objects"], "background": ["photos"], "layout": "faces"},
        "boxes": settings,
        "augment": {"negative": 1.0, "gain": 0.0, "brightness": 0.0, "blur": 0.0, "erase": 0.0},
    }
    config = parse_config(table)
    sampler = FrameSampler(
        read_boxes(objects), read_backgrounds(folder), PhotoCache(), 64, config.boxes, config.augment
    )
    for seed in range(20):
        frame = sampler.draw(0, np.random.default_rng(seed))
        assert len(frame.boxes) == len(frame.ignored) == 0
        assert not (frame.image[:, :, 2].astype(int) - frame.image[:, :, 0] > 100).any()


def test_layouts_and_boxes_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "faces.json").write_text("{}")
    with pytest.raises(InputError, match='has boxes and no landmarks; set skeleton = "box"'):
        read_examples(tmp_path, LSP14, "faces")
    with pytest.raises(ConfigError, match="no layout of data sets is called 'cocoo'; did you mean 'coco'"):
        read_examples(tmp_path, LSP14, "cocoo")
