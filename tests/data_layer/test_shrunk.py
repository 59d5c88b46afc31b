"""Large photos are halved once, and what is labelled in them moves along."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from drawn import draw_face, tiny_config, write_faces, write_pts

from cunet_deploy.config import BoxConfig
from cunet_deploy.data.examples import BoxedPhoto, Example, PhotoCache
from cunet_deploy.data.shrunk import box_ratio, crop_ratio, shrunk_photos
from cunet_deploy.geometry import CropRule
from cunet_deploy.preprocess import sample
from cunet_deploy.train.tasks import load_task

RULE = CropRule(32, 1.25)


def large_photo(path: Path, scale: int) -> Example:
    """A drawn face, each pixel of it ``scale`` pixels wide."""
    image, points = draw_face(np.random.default_rng(1))
    cv2.imwrite(str(path), image.repeat(scale, axis=0).repeat(scale, axis=1))
    large = (points + 0.5) * scale - 0.5
    box = np.array([10.0, 20.0, 70.0, 80.0])
    return Example(path, large, "face", box[None], box, {"head": 40.0, "area": 900.0}, stated=(112 * scale, 96 * scale))


def test_a_photo_is_halved_as_often_as_its_objects_allow(tmp_path: Path) -> None:
    for scale in (1, 2, 4, 8):
        example = large_photo(tmp_path / f"{scale}.png", scale)
        example = Example(example.image, example.points, "face")
        (small,) = shrunk_photos([example], photos := PhotoCache(), tmp_path / "cache", partial(crop_ratio, rule=RULE))
        ratio = crop_ratio(small, 0, 0, RULE)
        assert ratio < 4
        assert ratio >= 2 or small is example
        shape = photos[small.image].shape[:2]
        assert np.ptp(small.points[:, 0]) / shape[1] == np.float64(np.ptp(example.points[:, 0]) / (112 * scale))


def test_the_least_object_of_a_photo_decides(tmp_path: Path) -> None:
    large = large_photo(tmp_path / "photo.png", 8)
    small = Example(large.image, large.points / 8, "face")
    items = [Example(large.image, large.points, "face"), small]
    assert shrunk_photos(items, PhotoCache(), tmp_path / "cache", partial(crop_ratio, rule=RULE)) == items
    assert not (tmp_path / "cache").exists()


def test_everything_that_is_labelled_moves_along(tmp_path: Path) -> None:
    example = large_photo(tmp_path / "photo.png", 4)
    (small,) = shrunk_photos([example], PhotoCache(), tmp_path / "cache", lambda *_: 8.0)
    expected = (example.points + 0.5) / 4 - 0.5
    np.testing.assert_allclose(small.points, expected)
    assert small.given is not None
    np.testing.assert_allclose(small.given, (np.array([10.0, 20.0, 70.0, 80.0]) + 0.5) / 4 - 0.5)
    np.testing.assert_allclose(small.others, small.given[None])
    assert small.sizes == {"head": 10.0, "area": 900 / 16}
    assert small.stated is None
    assert small.image.name == "photo.jpg"


def test_a_crop_of_the_smaller_photo_shows_the_same(tmp_path: Path) -> None:
    example = large_photo(tmp_path / "photo.png", 8)
    example = Example(example.image, example.points, "face")
    photos = PhotoCache()
    (small,) = shrunk_photos([example], photos, tmp_path / "cache", partial(crop_ratio, rule=RULE))
    assert small is not example
    one, other = (sample(photos[item.image], RULE.crop(item.box)).astype(float) for item in (example, small))
    assert np.abs(one - other).mean() < 4  # of 255


def test_photos_are_shrunk_once_and_again_when_they_change(tmp_path: Path) -> None:
    example = large_photo(tmp_path / "photo.png", 4)
    (first,) = shrunk_photos([example], PhotoCache(), tmp_path / "cache", lambda *_: 8.0)
    before = first.image.stat().st_mtime_ns
    (again,) = shrunk_photos([example], PhotoCache(), tmp_path / "cache", lambda *_: 8.0)
    assert (again.image, again.image.stat().st_mtime_ns) == (first.image, before)
    cv2.imwrite(str(example.image), np.zeros((96 * 4, 112 * 4, 3), np.uint8))
    (changed,) = shrunk_photos([example], PhotoCache(), tmp_path / "cache", lambda *_: 8.0)
    assert changed.image != first.image
    assert not PhotoCache()[changed.image].any()


def test_photos_with_boxes_are_halved_as_far_as_their_pieces_allow(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((1600, 1600, 3), np.uint8))
    boxes = BoxConfig(drawn_to=50.0)
    photo = BoxedPhoto(tmp_path / "photo.png", np.array([[0.0, 0, 200, 400]]), np.ones(1), "photo")
    assert box_ratio(photo, 1600, 1600, 64, boxes) == 400 / 50
    (small,) = shrunk_photos(
        [photo], photos := PhotoCache(), tmp_path / "cache", partial(box_ratio, size=64, boxes=boxes)
    )
    assert photos.size(small.image) == (400, 400)
    np.testing.assert_allclose(small.boxes, [[-0.375, -0.375, 49.625, 99.625]])
    nothing = BoxedPhoto(photo.image, np.zeros((0, 4)), np.zeros(0), "photo")
    assert box_ratio(nothing, 1600, 1200, 64, boxes) == 0.4 * 1200 / 64


def test_a_task_trains_on_the_smaller_photos(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", 6)
    for path in sorted(faces.glob("*.png")):
        image, points = draw_face(np.random.default_rng(3))
        cv2.imwrite(str(path), image.repeat(6, axis=0).repeat(6, axis=1))
        write_pts(path.with_suffix(".pts"), (points + 0.5) * 6 - 0.5)
    task = load_task(tiny_config(), tmp_path, shrunk=tmp_path / "cache")
    images, _ = task.sampler.batch([task.sampler.draw(0, np.random.default_rng(0))])
    assert [image.shape for image in images] == [(32, 32, 3)]
    assert str(tmp_path / "cache") in task.sampler.name(0)
    assert len(list((tmp_path / "cache").rglob("*.jpg"))) == 6
