"""Random crops: the landmarks move with the picture, and the same seed draws the same crops."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn import draw_face, write_faces

from cunet_deploy.config import AugmentConfig
from cunet_deploy.data.augment import NOWHERE, Augmenter
from cunet_deploy.data.batches import plain_batches
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.media import read_image
from cunet_deploy.skeletons import IBUG68

RULE = CropRule(64, 1.4)
STILL: dict[str, Any] = dict.fromkeys(
    ["scale", "shift", "rotation", "flip", "gain", "brightness", "blur", "erase", "negative"], 0.0
)


def augmenter(**changes: float) -> Augmenter:
    return Augmenter(AugmentConfig(**{**STILL, **changes}), RULE, IBUG68)


def dotted() -> tuple[Example, np.ndarray]:
    """A photo that is as grey as the border but for a bright dot on one landmark."""
    _, points = draw_face(np.random.default_rng(3), 200, 220)
    points = (points - points.mean(axis=0)) * 2 + [110, 100]
    photo = np.full((200, 220, 3), 128, np.uint8)
    x, y = points[36].round().astype(int)
    cv2.circle(photo, (int(x), int(y)), 3, (255, 255, 255), -1)
    points[36] = x, y
    return Example(Path("none.png"), points, "none"), photo


@pytest.mark.parametrize("changes", [{"scale": 0.3, "shift": 0.1, "rotation": 30.0}, {"flip": 1.0}, {}])
def test_a_landmark_stays_on_what_it_marks(changes: dict[str, float]) -> None:
    example, photo = dotted()
    for seed in range(10):
        image, points, *_ = augmenter(**changes).draw(example, photo, np.random.default_rng(seed))
        weight = image[..., 0].astype(float) - 128
        rows, columns = np.indices(weight.shape)
        dot = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        marked = points[45 if changes.get("flip") else 36]  # the outer corners of the eyes trade places in a mirror
        assert np.abs(dot - marked).max() < 0.35


def test_without_augmentation_the_crop_is_that_of_the_runtime() -> None:
    example, photo = dotted()
    points = augmenter().draw(example, photo, np.random.default_rng(0)).points
    np.testing.assert_allclose(points, RULE.crop(example.box).to_input(example.points))


def test_background_crops_show_no_known_object_and_have_no_landmarks() -> None:
    photo = np.full((300, 400, 3), 128, np.uint8)
    photo[100:200, 150:250] = 255  # the object
    points = np.full((68, 2), 200.0)
    points[:, 1] = 150
    points[0], points[1] = (150, 100), (249, 199)
    example = Example(Path("none.png"), points, "none")
    draws = [augmenter(negative=1.0).draw(example, photo, np.random.default_rng(seed)) for seed in range(20)]
    background = [crop.image for crop in draws if (crop.points == NOWHERE).all()]
    assert len(background) >= 15
    assert all(image.max() <= 128 for image in background)


def test_an_object_that_fills_the_photo_gives_no_background_crop() -> None:
    points = np.random.default_rng(0).uniform(0, 99, (68, 2))
    points[0], points[1] = (0, 0), (99, 99)
    example = Example(Path("none.png"), points, "none")
    drawn = augmenter(negative=1.0).draw(example, np.zeros((100, 100, 3), np.uint8), np.random.default_rng(0))
    assert np.isfinite(drawn.points).all()


def striped(value: int = 255) -> tuple[Example, np.ndarray]:
    """A photo of stripes one pixel wide, with landmarks on a grid in its middle."""
    photo = np.zeros((200, 220, 3), np.uint8)
    photo[::2] = value
    columns, rows = np.meshgrid(np.linspace(80, 140, 17), np.linspace(70, 130, 4))
    return Example(Path(f"{value}.png"), np.stack([columns, rows], axis=-1).reshape(68, 2), str(value)), photo


def other(rng: np.random.Generator) -> tuple[Example, np.ndarray]:
    """An example whose photo is blue."""
    return striped(1)[0], np.full((200, 220, 3), (255, 0, 0), np.uint8)


def test_what_is_turned_off_takes_no_random_numbers() -> None:
    example, photo = striped()
    plain = Augmenter(AugmentConfig(), RULE, IBUG68)
    for seed in range(5):
        alone = plain.draw(example, photo, np.random.default_rng(seed))
        among_others = plain.draw(example, photo, np.random.default_rng(seed), other)
        for ours, theirs in zip(alone, among_others, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["people", "objects"])
def test_pieces_of_other_photos_hide_landmarks_and_move_none(kind: str) -> None:
    example, photo = striped()
    expected = RULE.crop(example.box).to_input(example.points)
    hidden = 0
    for seed in range(10):
        image, points, weights, visible = augmenter(**{kind: 1.0}).draw(
            example, photo, np.random.default_rng(seed), other
        )
        np.testing.assert_allclose(points, expected)
        assert (weights == 1).all()
        columns, rows = points.round().astype(int).T
        blue = image[rows, columns].astype(int) @ [1, -1, 0] > 128
        np.testing.assert_array_equal(visible == 0, blue)
        hidden += int(blue.sum())
        assert (image.astype(int) @ [1, -1, 0] > 128).any()
    assert hidden > 20


def test_nothing_of_the_same_photo_is_pasted() -> None:
    example, photo = striped()
    drawn = augmenter(people=1.0, objects=1.0).draw(
        example, photo, np.random.default_rng(0), lambda rng: (example, np.full_like(photo, 99))
    )
    assert not (drawn.image == 99).any()


def test_a_cut_photo_ends_across_the_object_and_what_is_beyond_is_nowhere() -> None:
    example, photo = dotted()
    ends = set()
    for seed in range(30):
        image, points, *_ = augmenter(cut=1.0).draw(example, photo, np.random.default_rng(seed))
        gone = np.isinf(points[:, 0])
        assert gone.any()
        assert not gone.all()
        assert (points[gone] == NOWHERE).all()
        # those that are left are where the crop of what is left has them, and fill it
        left = points[~gone]
        assert ((left > -0.5) & (left < 63.5)).all()
        assert 0.4 * 64 < np.ptp(left, axis=0).max() < 64
        weight = image[..., 0].astype(float) - 128
        if not gone[36]:
            rows, columns = np.indices(weight.shape)
            dot = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
            assert np.abs(dot - points[36]).max() < 0.35
            ends.add(True)
        elif weight.max() < 30:
            ends.add(False)
    assert ends == {True, False}


def test_an_object_with_few_landmarks_is_not_cut() -> None:
    example, photo = dotted()
    few = np.where(np.arange(68)[:, None] < 4, example.points, np.nan)
    for seed in range(10):
        drawn = augmenter(cut=1.0).draw(Example(example.image, few, "none"), photo, np.random.default_rng(seed))
        assert not np.isinf(drawn.points).any()


def levels(level: int, **changes: float) -> np.ndarray:
    """(20, 3) grey levels of the channels that a photo of one level has with some seeds."""
    example, photo = striped()
    found = []
    for seed in range(20):
        drawn = augmenter(**changes).draw(example, np.full_like(photo, level), np.random.default_rng(seed))
        assert (drawn.image == drawn.image[0, 0]).all()
        np.testing.assert_array_equal(drawn.points, RULE.crop(example.box).to_input(example.points))
        found.append(drawn.image[0, 0].astype(int))
    return np.array(found)


def test_gain_spreads_each_channel_around_the_middle_level() -> None:
    assert (levels(128, gain=0.4) == 128).all()
    dark = levels(78, gain=0.4)  # 50 below: with 0.6 * 0.8 to 1.4 * 1.2 times that
    assert 128 - 50 * 1.68 - 1 <= dark.min() < 70
    assert 86 < dark.max() <= 128 - 50 * 0.48 + 1
    assert (dark.max(axis=1) > dark.min(axis=1)).mean() > 0.8
    assert (levels(0, gain=0.4) >= 0).all()


def test_brightness_moves_all_channels_alike_and_no_further_than_it_says() -> None:
    moved = levels(128, brightness=40.0)
    assert (moved == moved[:, :1]).all()
    assert 88 <= moved.min() < 108
    assert 148 < moved.max() <= 168
    assert set(levels(250, brightness=40.0).ravel()) >= {255}


def test_blur_takes_detail_and_moves_nothing() -> None:
    example, photo = striped()
    sharp = augmenter().draw(example, photo, np.random.default_rng(0))
    for seed in range(5):
        drawn = augmenter(blur=1.0).draw(example, photo, np.random.default_rng(seed))
        np.testing.assert_array_equal(drawn.points, sharp.points)
        before, after = (np.abs(np.diff(image.astype(float), axis=0)).mean() for image in (sharp.image, drawn.image))
        assert after < 0.8 * before
        assert drawn.image.mean() == pytest.approx(sharp.image.mean(), abs=3)


def test_low_resolution_takes_detail_and_moves_nothing() -> None:
    example, photo = striped()
    sharp = augmenter().draw(example, photo, np.random.default_rng(0))
    for seed in range(5):
        drawn = augmenter(low_resolution=1.0).draw(example, photo, np.random.default_rng(seed))
        np.testing.assert_array_equal(drawn.points, sharp.points)
        assert drawn.image.shape == sharp.image.shape
        before, after = (np.abs(np.diff(image.astype(float), axis=0)).mean() for image in (sharp.image, drawn.image))
        assert after < 0.7 * before


def test_plain_batches_keep_the_order_and_leave_nothing_out(tmp_path: Path) -> None:
    examples = read_300w(write_faces(tmp_path, 5), 68)
    batches = list(plain_batches(examples, RULE, PhotoCache(), size=2))
    assert [len(batch.images) for batch in batches] == [2, 2, 1]
    np.testing.assert_allclose(batches[2].points[0], RULE.crop(examples[4].box).to_input(examples[4].points))


def test_a_photo_larger_than_the_cache_is_still_given(tmp_path: Path) -> None:
    examples = read_300w(write_faces(tmp_path, 2), 68)
    photos = PhotoCache(max_bytes=10)
    np.testing.assert_array_equal(photos[examples[0].image], photos[examples[0].image])
    assert photos[examples[0].image] is not photos[examples[0].image]


def test_the_cache_keeps_the_photos_that_were_used_last_within_its_bytes(tmp_path: Path) -> None:
    first, second, third = (example.image for example in read_300w(write_faces(tmp_path, 3), 68))
    size = read_image(first).nbytes
    photos = PhotoCache(max_bytes=2 * size)
    kept = {path: photos[path] for path in (first, second)}
    assert photos[first] is kept[first]
    assert photos[third] is photos[third]
    assert photos.bytes == 2 * size
    assert photos[first] is kept[first]
    assert photos[second] is not kept[second]


def test_a_pickled_cache_is_empty(tmp_path: Path) -> None:
    path = read_300w(write_faces(tmp_path, 1), 68)[0].image
    photos = PhotoCache(max_bytes=123_456)
    assert photos[path].size
    copy = pickle.loads(pickle.dumps(photos))
    assert (copy.bytes, copy.max_bytes) == (0, 123_456)


def test_photos_are_checked_in_order_and_the_first_bad_one_is_an_error(tmp_path: Path) -> None:
    paths = [example.image for example in read_300w(write_faces(tmp_path, 9), 68)]
    for index in (3, 7):
        paths[index].write_bytes(b"no picture")
    bad: list[str] = []
    assert PhotoCache().check(paths, bad) == set(paths) - {paths[3], paths[7]}
    assert [line.split(":")[0] for line in bad] == [str(paths[3]), str(paths[7])]
    with pytest.raises(InputError, match=paths[3].name):
        PhotoCache().check(paths, None)
