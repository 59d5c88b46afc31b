"""A network that finds boxes as a detector: what it is shown, and where its boxes are put."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from cunet_deploy.boxmaps import MAPS, BoxCode
from cunet_deploy.detection.network import NetworkDetector
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import CropRule, box_iou
from cunet_deploy.heatmaps import Decoder
from cunet_deploy.manifest import Manifest
from cunet_deploy.skeletons import BOX

assert BOX.landmarks == MAPS
SIZE, STRIDE = 128, 4
MANIFEST = Manifest(
    "squares", BOX, CropRule(SIZE, 1.4), STRIDE, Decoder(), 8, 8, 0.5, "none", (), 17, "test", "", boxes=BoxCode()
)


class Squares:
    """A session that sees white squares of at least ``least`` pixels in its input."""

    backend = "made up"

    def __init__(self, manifest: Manifest = MANIFEST, least: int = 10) -> None:
        self.manifest = manifest
        self.looks = 0
        self._least = least

    def run(self, images: np.ndarray) -> np.ndarray:
        self.looks += len(images)
        return np.stack([self._maps(image) for image in images])

    def _maps(self, image: np.ndarray) -> np.ndarray:
        assert self.manifest.boxes is not None
        white = (image.min(axis=2) > 200).astype(np.uint8)
        stats = cv2.connectedComponentsWithStats(white)[2][1:]
        boxes = np.array([[x, y, x + w - 1, y + h - 1] for x, y, w, h, _ in stats if max(w, h) >= self._least])
        return self.manifest.boxes.encode(boxes, np.zeros((0, 4)), SIZE // STRIDE, STRIDE).maps

    def close(self) -> None:
        pass


def picture(width: int, height: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 255
    return image


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (100, 90), (1920, 1080)])
def test_boxes_are_where_they_are_in_the_picture(width: int, height: int) -> None:
    wanted = (width // 4, height // 4, width // 2, height // 2)
    found, scores = NetworkDetector(Squares()).find(picture(width, height, wanted))
    assert len(found) == 1
    assert box_iou(found, [wanted])[0, 0] > 0.8
    assert scores[0] > 0.5


def test_small_objects_in_a_single_picture_are_found_in_its_tiles() -> None:
    small = [(100, 60, 140, 100), (500, 400, 540, 440)]  # 8 pixels of the network's input
    image = picture(640, 480, *small)
    assert not len(NetworkDetector(Squares()).find(image)[0])
    found, _ = NetworkDetector(Squares()).detect(image)
    assert len(found) == 2
    assert (box_iou(found, small).max(axis=0) > 0.6).all()


def test_a_large_object_is_not_found_twice_in_tiles() -> None:
    found, _ = NetworkDetector(Squares()).detect(picture(640, 480, (200, 100, 420, 330)))
    assert len(found) == 1


def test_in_video_one_tile_after_the_other_is_looked_at() -> None:
    session = Squares()
    finder, image = NetworkDetector(session), picture(640, 480, (560, 420, 600, 460))
    found = [len(finder.detect(image, index, known=np.zeros((0, 4)))[0]) for index in range(0, 8, finder.retry)]
    assert found == [0, 0, 0, 1]
    assert session.looks == 2 * len(found)


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8, 16, 60, 120, 180, 240])
def test_every_tile_has_its_turn_whatever_frames_are_looked_at(stride: int) -> None:
    finder, image = NetworkDetector(Squares()), picture(640, 480, (560, 420, 600, 460))
    frames = range(0, 24 * stride * finder.retry, stride * finder.retry)
    found = [len(finder.detect(image, index, known=np.zeros((0, 4)))[0]) for index in frames]
    assert sum(found) >= 2


def test_a_small_object_that_is_followed_is_looked_for_in_its_tile() -> None:
    box = np.array([[560.0, 420.0, 600.0, 460.0]])
    image = picture(640, 480, (560, 420, 600, 460))
    for index in range(0, 60, NetworkDetector.every):
        assert len(NetworkDetector(Squares()).detect(image, index, known=box)[0]) == 1


class Weak(Squares):
    """Is sure of less than half of what it has to be sure of."""

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(super().run(images) * np.array([0.3, 1, 1])[:, None, None])


def test_what_is_followed_is_found_with_half_of_the_least_score() -> None:
    box, image = (200, 100, 420, 330), picture(640, 480, (200, 100, 420, 330))
    detector = NetworkDetector(Weak())
    assert len(detector.detect(image)[0]) == 0
    for known, count in ((box, 1), ((230, 100, 450, 330), 1), ((20, 20, 100, 90), 0)):
        assert len(detector.detect(image, known=np.array([known], np.float64))[0]) == count


def test_what_the_edge_of_a_tile_cuts_is_one_object() -> None:
    cut = (350, 100, 450, 160)  # a third of it lies in the tiles on the left, which end at 384
    found, _ = NetworkDetector(Squares()).detect(picture(640, 480, cut))
    assert len(found) == 1
    assert box_iou(found, [cut])[0, 0] > 0.8


@pytest.mark.parametrize(("least", "sure"), [(0.5, 0.75), (0.2, 0.6)])
def test_a_box_is_believed_from_halfway_between_the_least_score_and_one(least: float, sure: float) -> None:
    assert NetworkDetector(Squares(replace(MANIFEST, min_score=least))).confident_score == pytest.approx(sure)


def test_boxes_are_made_tight_as_the_manifest_says() -> None:
    code = BoxCode(tight_down=0.1, tight_width=0.8, tight_height=0.6)
    session = Squares(replace(MANIFEST, boxes=code))
    image = picture(128, 128, (40, 40, 80, 80))
    found, tight = NetworkDetector(session).find(image)[0], NetworkDetector(session).detect(image)[0]
    np.testing.assert_allclose(tight, code.tight(found))


def test_a_network_of_landmarks_is_refused() -> None:
    with pytest.raises(InputError, match="finds landmarks, not boxes"):
        NetworkDetector(Squares(replace(MANIFEST, boxes=None)))
