"""Objects and pieces of backgrounds at random places: what is labelled is there to be seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy.config import BoxConfig
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.data.scatter import Scatterer, beside

SIZE = 128


def photo(folder: Path, name: str, colour: tuple[int, int, int], score: float = 1.0) -> BoxedPhoto:
    """A bright square on a dark photo."""
    image = np.full((100, 100, 3), 20, np.uint8)
    image[30:70, 30:70] = colour
    cv2.imwrite(str(folder / name), image)
    return BoxedPhoto(folder / name, np.array([[30.0, 30, 69, 69]]), np.array([score]), name)


@pytest.fixture
def scatterer(tmp_path: Path) -> Scatterer:
    """Red squares to find, in front of what is beside grey ones."""
    boxes = BoxConfig(drawn_from=24, drawn_to=60, beside=True)
    objects = [photo(tmp_path, f"{index}.png", (0, 0, 255)) for index in range(3)]
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((90, 90, 3), 60, np.uint8))
    grounds = [BoxedPhoto(tmp_path / "empty.png", np.zeros((0, 4)), np.zeros(0), "empty")]
    return Scatterer(objects, grounds, PhotoCache(), SIZE, boxes)


def red(image: np.ndarray) -> np.ndarray:
    return np.asarray((image[:, :, 2].astype(int) - image[:, :, 0] > 150) & (image[:, :, 1] < 60))


def test_every_box_shows_its_object_and_objects_are_everywhere(scatterer: Scatterer) -> None:
    middles = []
    for seed in range(60):
        image, boxes, _ = scatterer.draw(seed % 3, np.random.default_rng(seed))
        again = scatterer.draw(seed % 3, np.random.default_rng(seed))[0]
        np.testing.assert_array_equal(image, again)
        for box in boxes:
            x0, y0, x1, y1 = box.round().astype(int).clip(0, SIZE - 1)
            assert red(image[y0 : y1 + 1, x0 : x1 + 1]).mean() > 0.5
            assert 15 < (box[2:] - box[:2]).max() < 75
            middles.append((box[:2] + box[2:]) / 2)
    places = np.array(middles)
    assert len(places) > 60
    ninths = (places // (SIZE / 3)).clip(0, 2).astype(int)
    assert len({(x, y) for x, y in ninths.tolist()}) == 9


def test_what_shows_of_an_object_is_found_or_unknown(scatterer: Scatterer) -> None:
    for seed in range(60):
        image, boxes, ignored = scatterer.draw(seed % 3, np.random.default_rng(seed))
        rest = red(image)
        for x0, y0, x1, y1 in np.concatenate([boxes, ignored]).round().astype(int):
            rest[max(y0 - 3, 0) : y1 + 4, max(x0 - 3, 0) : x1 + 4] = False
        assert rest.sum() < 0.02 * rest.size  # of what is all but covered, a strip may be left


def test_photos_without_objects_are_allowed(scatterer: Scatterer) -> None:
    nothing = replace(scatterer.photos[0], boxes=np.zeros((0, 4)), scores=np.zeros(0))
    mixed = replace(scatterer, photos=[nothing, scatterer.photos[1]])
    counts = [len(mixed.draw(index, np.random.default_rng(seed))[1]) for seed in range(20) for index in (0, 1)]
    assert 0 in counts
    assert max(counts) > 0


def test_unsure_labels_are_unknown(scatterer: Scatterer, tmp_path: Path) -> None:
    unsure = Scatterer([photo(tmp_path, "u.png", (0, 0, 255), 0.3)], (), PhotoCache(), SIZE, scatterer.boxes)
    drawn = [unsure.draw(0, np.random.default_rng(seed)) for seed in range(10)]
    assert all(len(boxes) == 0 for _, boxes, _ in drawn)
    assert sum(len(ignored) for _, _, ignored in drawn) >= 8


def test_a_photo_that_its_object_fills_has_nothing_beside_it(tmp_path: Path) -> None:
    own = photo(tmp_path, "a.png", (0, 0, 255))
    pixels = np.zeros((100, 100, 3), np.uint8)
    assert beside(pixels, own)[1] is own  # 26 pixels at most
    wide = np.zeros((100, 190, 3), np.uint8)
    piece, empty = beside(wide, own)
    assert piece.shape == (100, 190 - 72, 3)
    assert len(empty.boxes) == 0
