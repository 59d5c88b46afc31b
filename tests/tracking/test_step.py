"""One step of video: what `Localizer.stream` yields, one frame at a time, and going on from a state."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from dots import TEMPLATE, draw

from cunet_deploy import Localizer
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.pixels import depth_of
from cunet_deploy.sessions import open_session
from cunet_deploy.tracking.one_euro import Smoothing
from cunet_deploy.tracking.step import STAGES, ImageStep, VideoStep


@pytest.fixture(scope="module")
def localizer(dots_model: Path) -> Iterator[Localizer]:
    with Localizer(dots_model, threads=1) as localizer:
        yield localizer


def clip(count: int = 40) -> list[np.ndarray]:
    """An object that moves over a noisy ground, is away for a while, and goes on in another shot."""
    rng = np.random.default_rng(0)
    images = []
    for index in range(count):
        place = [100 + 2 * index, 120 - index // 2]
        image = (
            draw((TEMPLATE * 32 + place)[None], 32, (240, 320)) if not 12 <= index < 16 else np.full((240, 320, 3), 128)
        )
        noisy = image + rng.normal(0, 6, image.shape) - (90 if index >= 30 else 0)
        images.append(np.asarray(noisy.clip(0, 255), np.uint8))
    return images


def assert_same(one: Landmarks, other: Landmarks) -> None:
    for name in ("points", "scores", "boxes", "ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("smooth", [False, True, Smoothing(0.5, 5.0)], ids=["plain", "smooth", "smoother"])
def test_steps_find_what_a_stream_yields(localizer: Localizer, smooth: bool | Smoothing) -> None:
    step = localizer.video(smooth=smooth)
    frames = list(localizer.stream(clip(), smooth=smooth))
    assert {len(frame.landmarks) for frame in frames} == {0, 1}
    for image, frame in zip(clip(), frames, strict=True):
        assert_same(step.update(image), frame.landmarks)


@pytest.mark.parametrize("cut", [1, 7, 14, 29, 30, 31])
def test_a_step_goes_on_where_another_one_ended(localizer: Localizer, cut: int) -> None:
    whole, first = localizer.video(), localizer.video()
    images = clip()
    expected = [whole.update(image, time_ms=40.0 * index) for index, image in enumerate(images)]
    for index, image in enumerate(images[:cut]):
        first.update(image, time_ms=40.0 * index)
    state = pickle.loads(pickle.dumps(first.state()))
    for _ in range(2):  # a state is not changed by what follows it
        second = localizer.video(state=state)
        for index, image in enumerate(images[cut:], cut):
            assert_same(second.update(image, time_ms=40.0 * index), expected[index])


@pytest.mark.parametrize("smooth", [True, Smoothing(both_ways=True)], ids=["as they come", "both ways"])
def test_frames_of_more_than_8_bits_are_scaled_alike(localizer: Localizer, smooth: bool | Smoothing) -> None:
    plain = [image // (8 if index % 3 == 2 else 1) for index, image in enumerate(clip(12))]  # each third is dark
    deep = [np.asarray(image.astype(np.uint16) << 4, np.uint16) for image in plain]
    assert [depth_of(image) for image in deep[:3]] == [12, 12, 10]
    for expected, found in zip(
        localizer.stream(plain, smooth=smooth), localizer.stream(deep, smooth=smooth), strict=True
    ):
        np.testing.assert_array_equal(found.image, expected.image)
        assert_same(found.landmarks, expected.landmarks)
    ends = []
    for images in (plain, deep):
        step = localizer.video(smooth=False)
        step.update(images[0])
        ends.append(localizer.video(state=pickle.loads(pickle.dumps(step.state()))).update(images[2]))
    assert_same(*ends)
    (dark,) = localizer.stream(deep[2:3], follow=False)
    np.testing.assert_array_equal(dark.image, plain[2] << 2)  # a picture that follows no other


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint16), (".tif", np.uint16), (".tif", np.int32)])
@pytest.mark.parametrize("smooth", [True, Smoothing(both_ways=True)], ids=["as they come", "both ways"])
def test_image_files_of_more_than_8_bits_are_scaled_alike_where_they_follow_each_other(
    localizer: Localizer, tmp_path: Path, smooth: bool | Smoothing, suffix: str, dtype: type[np.generic]
) -> None:
    light, other = (image[:, :, 0] for image in clip(2))
    for name, image in [("0", light), ("1", other // 8)]:
        assert cv2.imwrite(str(tmp_path / f"{name}{suffix}"), image.astype(dtype) * 16)  # 12 and 10 bits
    followed = list(localizer.stream(tmp_path, follow=True, smooth=smooth))
    np.testing.assert_array_equal(followed[0].image[:, :, 1], light)
    np.testing.assert_array_equal(followed[1].image[:, :, 1], other // 8)
    alone = list(localizer.stream(tmp_path, follow=False))
    np.testing.assert_array_equal(alone[1].image[:, :, 1], other // 8 * 4)


class Looker:
    every, retry, exact, confident_score = 4, 1, False, 0.0

    def detect(
        self, image: np.ndarray, index: int = 0, name: str = "", known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.array([[68.0, 88, 132, 152]]), np.ones(1)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("stride", "looks"), [(1, 10), (2, 3)], ids=["all frames", "every other is dropped"])
def test_a_camera_that_drops_frames_is_searched_more_rarely(dots_model: Path, stride: int, looks: int) -> None:
    stages: list[str] = []
    session = open_session(dots_model, threads=1)
    step = VideoStep(session, Looker(), on_stage=stages.append)
    for index in range(0, 40 * stride, stride):
        assert len(step.update(clip(1)[0], index)) == 1
    session.close()
    assert set(stages) == set(STAGES)
    assert stages.count("detect") == looks


def test_in_a_picture_the_mean_of_all_landmarks_decides(dots_model: Path) -> None:
    session, image = open_session(dots_model, threads=1), clip(1)[0].copy()
    step = ImageStep(session, Looker())
    assert len(step.update(image)) == 1
    image[112:] = 128  # two of five are left, both as sure as before
    assert len(step.update(image)) == 0
    session.close()


class Blind(Looker):
    """Finds nothing, every second frame."""

    retry = 2

    def detect(
        self, image: np.ndarray, index: int = 0, name: str = "", known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((0, 4)), np.zeros(0)


def test_an_empty_scene_is_searched_no_more_often_than_the_detector_says(dots_model: Path) -> None:
    stages: list[str] = []
    session = open_session(dots_model, threads=1)
    step = VideoStep(session, Blind(), on_stage=stages.append)
    for _ in range(40):
        assert not len(step.update(np.full((240, 320, 3), 128, np.uint8)))
    session.close()
    assert stages.count("detect") == 20


class Once(Looker):
    """Finds something in the first frame alone."""

    retry = 1

    def detect(
        self, image: np.ndarray, index: int = 0, name: str = "", known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        boxes, scores = super().detect(image)
        return (boxes, scores) if index == 0 else (boxes[:0], scores[:0])


def test_a_frame_that_is_searched_again_counts_once(dots_model: Path) -> None:
    session = open_session(dots_model, threads=1)
    step = VideoStep(session, Once())
    assert len(step.update(clip(1)[0])) == 1
    for missed in (1, 2):
        assert not len(step.update(np.full((240, 320, 3), 128, np.uint8)))
        assert [track.missed for track in step.state().tracker._tracks] == ([missed] if missed < 2 else [])
    session.close()


def test_without_times_filters_of_what_is_gone_are_given_up(localizer: Localizer) -> None:
    step = localizer.video()
    for image in [clip(1)[0], *[np.full((240, 320, 3), 128, np.uint8)] * 20]:
        step.update(image)
    smoother = step.state().smoother
    assert smoother is not None
    assert not smoother._objects
    frames = list(localizer.stream(clip(3)))
    np.testing.assert_allclose([frame.time_ms for frame in frames], [0, 100 / 3, 200 / 3])


@pytest.mark.parametrize("kind", [ImageStep, VideoStep])
def test_a_network_of_boxes_is_refused(kind: type[ImageStep] | type[VideoStep]) -> None:
    session = open_session("face-detect-s", threads=1)
    with pytest.raises(InputError, match="finds boxes, not landmarks"):
        kind(session, Looker())
    session.close()


def test_smoothing_both_ways_is_nothing_for_one_frame_at_a_time(localizer: Localizer) -> None:
    with pytest.raises(InputError, match="needs the whole clip"):
        localizer.video(smooth=Smoothing(both_ways=True))
