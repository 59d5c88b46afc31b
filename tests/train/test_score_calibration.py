from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy.data.batches import plain_batches
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder, decode, map_to_input
from cunet_deploy.manifest import Manifest
from cunet_deploy.metrics import correct_joints, normalized_errors
from cunet_deploy.skeletons import IBUG68, LSP14
from cunet_deploy.train import score_calibration
from cunet_deploy.train.score_calibration import (
    CropScores,
    background_draws,
    calibrate_scores,
    choose_found_scores,
    choose_visible_score,
    crop_scores,
    joint_score_curve,
)

MANIFEST = Manifest("toy", IBUG68, CropRule(64, 1.2), 4, Decoder(), 8, 8, 0.3, "none", ("drawn",), 17, "test", "0" * 64)


@dataclass
class Brightness:
    """Gives every landmark the mean brightness of the crop as its score."""

    manifest: Manifest = MANIFEST
    backend: str = "toy"
    runs: int = 0

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.runs += 1
        maps = np.zeros((len(images), 68, 16, 16), np.float32)
        maps[:, :, 8, 8] = images.mean(axis=(1, 2, 3))[:, None] / 255
        return maps

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """Black photos of 300 x 200 with one bright square of 40, which is the object."""
    found = []
    for index in range(20):
        photo = np.zeros((200, 300, 3), np.uint8)
        photo[80:120, 130:170] = 200
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), photo)
        corners = np.array([[130, 80], [169, 119]], np.float64)
        found.append(Example(path, np.concatenate([corners, np.tile([150.0, 100.0], (66, 1))]), str(index)))
    return found


def test_the_score_lies_between_objects_and_background(examples: list[Example]) -> None:
    objects, beside, empty = crop_scores(Brightness(), examples, PhotoCache())
    assert len(objects) == score_calibration.DRAWS * len(examples)
    assert len(beside) > len(examples)
    assert len(empty) == 0
    assert beside.max() < objects.min()
    score, kept = choose_found_scores(Brightness(), examples, PhotoCache())
    assert kept is None, "an object that is followed needs the same score where nothing is in doubt"
    assert np.quantile(beside, 0.99) < score < np.quantile(objects, 0.01)


def test_the_size_of_a_batch_changes_nothing(examples: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = Brightness(), Brightness()
    found = crop_scores(few, examples, PhotoCache())
    monkeypatch.setattr(score_calibration, "BATCH", 1)
    single = crop_scores(many, examples, PhotoCache())
    for one, other in zip(found, single, strict=True):
        np.testing.assert_array_equal(one, other)
    assert few.runs < many.runs


def test_photos_without_background_give_the_scores_of_objects_alone(tmp_path: Path, examples: list[Example]) -> None:
    cv2.imwrite(str(tmp_path / "full.png"), np.full((40, 40, 3), 200, np.uint8))
    corners = np.array([[0, 0], [39, 39]], np.float64)
    full = replace(examples[0], image=tmp_path / "full.png", points=np.concatenate([corners, np.full((66, 2), 20.0)]))
    scores = crop_scores(Brightness(), [full], PhotoCache())
    assert [len(kind) for kind in scores] == [score_calibration.DRAWS, 0, 0]


def test_the_score_of_visible_landmarks_parts_them_from_hidden_ones(examples: list[Example]) -> None:
    visible = np.ones(68)
    visible[:20] = 0

    class Low(Brightness):
        """Gives the first 25 landmarks, five of them visible, a lower score."""

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            maps = super().run(images)
            maps[:, :25] *= 0.5
            return maps

    told = [replace(example, visible=visible) for example in examples[:3]]
    (batch,) = plain_batches(told, MANIFEST.crop, PhotoCache(), size=3)
    low, high = Low().run(batch.images).max(axis=(0, 2, 3))[[0, 67]]
    score = choose_visible_score(Low(), [*told, *examples[3:]], PhotoCache())
    assert score == pytest.approx((low + high) / 2, abs=0.01)
    assert choose_visible_score(Low(), examples, PhotoCache()) is None


def test_where_background_looks_like_an_object_now_and_then_a_new_one_needs_a_higher_score(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = np.r_[np.full(991, 0.1), np.full(9, 0.5)]  # rarer than one in a hundred, not than one in 500
    scores = CropScores(np.r_[np.full(200, 0.6), [0.05] * 10], beside, np.zeros(0))
    monkeypatch.setattr(score_calibration, "crop_scores", lambda *given: scores)
    assert choose_found_scores(Brightness(), examples, PhotoCache()) == (0.5, 0.1)


@pytest.mark.parametrize(("height", "found"), [(0.0, 0.05), (1.0, 0.95)])
def test_a_threshold_leaves_room_at_both_ends(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch, height: float, found: float
) -> None:
    scores = CropScores(np.full(100, height), np.full(100, height), np.zeros(0))
    monkeypatch.setattr(score_calibration, "crop_scores", lambda *given: scores)
    assert choose_found_scores(Brightness(), examples, PhotoCache()) == (found, None)


def test_what_is_followed_is_not_measured_against_photos_without_objects(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, beside = np.r_[np.full(200, 0.8), [0.05] * 10], np.r_[np.full(991, 0.1), np.full(9, 0.3)]
    for share, found in ((0.02, 0.7), (0.005, 0.3)):  # of drawings that look like an object, among all background
        empty = np.full(round(share * 1000), 0.7)
        scores = CropScores(objects, beside, empty)
        monkeypatch.setattr(score_calibration, "crop_scores", lambda *given, scores=scores: scores)
        assert choose_found_scores(Brightness(), examples, PhotoCache()) == (found, 0.1)


def test_photos_with_objects_that_nobody_labelled_give_no_background(examples: list[Example]) -> None:
    some = [replace(example, exhaustive=index < 5) for index, example in enumerate(examples)]
    scores = crop_scores(Brightness(), some, PhotoCache())
    assert len(scores.objects) == score_calibration.DRAWS * len(examples)
    few = crop_scores(Brightness(), some[:5], PhotoCache())
    np.testing.assert_array_equal(scores.beside, few.beside)


def test_photos_without_objects_are_background_beside_what_may_be_one(tmp_path: Path, examples: list[Example]) -> None:
    for name, brightness in (("dark", 20), ("half", 40)):
        photo = np.full((200, 300, 3), brightness, np.uint8)
        photo[:, 280:] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), photo)
    unknown = np.array([[279.0, 0, 300, 200]])
    empty = [BoxedPhoto(tmp_path / f"{name}.png", unknown, np.zeros(1), name) for name in ("dark", "half")]
    before = crop_scores(Brightness(), examples, PhotoCache())
    scores = crop_scores(Brightness(), examples, PhotoCache(), empty)
    np.testing.assert_array_equal(scores.objects, before.objects)
    np.testing.assert_array_equal(scores.beside, before.beside)
    values = np.repeat([20, 40], score_calibration.DRAWS) / 255
    np.testing.assert_allclose(scores.empty, values, atol=0.02)  # of a crop turned at an edge, none brighter


def test_few_examples_show_more_background_each(examples: list[Example]) -> None:
    assert background_draws(examples) == 64
    assert background_draws(examples * 10) == 30
    assert background_draws(examples * 100) == 16
    assert (
        background_draws([replace(example, exhaustive=index < 5) for index, example in enumerate(examples * 100)]) == 64
    )


def test_a_body_gets_the_share_of_right_joints_by_the_height_of_their_peaks(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((200, 300, 3), 90, np.uint8))
    rng = np.random.default_rng(0)
    people = [
        Example(tmp_path / "grey.png", rng.uniform((100, 50), (200, 150), (14, 2)), str(index)) for index in range(50)
    ]

    class Middle(Brightness):
        """Gives every joint the middle of the crop: the first seven with high peaks, the others with low ones."""

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            maps = np.zeros((len(images), 14, 16, 16), np.float32)
            maps[:, :7, 8, 8], maps[:, 7:, 8, 8] = 0.9, 0.2
            return maps

    session = Middle(replace(MANIFEST, skeleton=LSP14))
    curve = joint_score_curve(session, people, PhotoCache())
    assert curve is not None
    assert (curve.landmarks, curve.normalizer, curve.within) == (700, "torso", 0.2)
    (batch,) = plain_batches(people, MANIFEST.crop, PhotoCache(), size=50)
    maps, heights = decode(session.run(batch.images), MANIFEST.decoder)
    right = correct_joints(normalized_errors(map_to_input(maps, MANIFEST.stride), batch.points, LSP14), 0.2)
    low, high = right[:, 7:].mean(), right[:, :7].mean()
    expected = [low, high] if low <= high else [right.mean()] * 2
    np.testing.assert_allclose(curve.apply([heights[0, 7], heights[0, 0]]), expected, atol=0.01)
    assert joint_score_curve(session, people[:5], PhotoCache()) is None, "70 joints are too few"


def test_what_is_no_body_gets_no_curve_and_without_hidden_peaks_no_score_of_visible_ones(
    examples: list[Example],
) -> None:
    found = calibrate_scores(Brightness(), examples, PhotoCache())
    assert (found.visible_score, found.score_curve) == (None, None)
    assert found.min_score == choose_found_scores(Brightness(), examples, PhotoCache())[0]
