from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from dots import DOTS, TEMPLATE, box, draw, scene

import cunet_deploy
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import DEPTH, Frame, Picture, WriteBehind
from cunet_deploy.tracking.one_euro import Smoothing


@pytest.fixture(scope="module")
def localizer(dots_model: Path) -> Localizer:
    return Localizer(dots_model, threads=1)


def moving(count: int = 30, *, missing: range = range(0)) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Frames in which the object moves, and its landmarks; ``None`` where it is gone."""
    frames: list[tuple[np.ndarray, np.ndarray | None]] = []
    for index in range(count):
        image, points = scene((110 + 3 * index, 120 + 20 * np.sin(index / 5)), 36)
        frames.append((np.full_like(image, 128), None) if index in missing else (image, points))
    return frames


class TwoObjects:
    """A detector that knows where the two objects of every picture are; counts its calls."""

    every, retry, exact, confident_score = 15, 3, False, 0.0

    def __init__(self) -> None:
        self.calls = 0

    def detect(
        self, image: np.ndarray, index: int = 0, name: str = "", known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        return np.concatenate([box((80, 120), 30), box((240, 120), 30)]), np.ones(2)

    def close(self) -> None:
        self.closed = True


def test_the_package_offers_the_localizer() -> None:
    assert cunet_deploy.Localizer is Localizer


def test_a_given_box_gives_the_landmarks_in_it(localizer: Localizer) -> None:
    image, points = scene()
    result = localizer.predict(image, box())
    assert np.abs(result.points[0] - points).max() < 0.5
    np.testing.assert_allclose(result.boxes, box())
    assert result.skeleton == DOTS
    assert result.ids.tolist() == [0]


def test_without_boxes_the_image_is_searched(localizer: Localizer) -> None:
    image, points = scene((220, 90), 30)
    result = localizer.predict(image)
    assert len(result) == 1
    assert np.abs(result.points[0] - points).max() < 0.5


def test_nothing_found_is_an_empty_result(localizer: Localizer) -> None:
    result = localizer.predict(np.full((240, 320, 3), 128, np.uint8))
    assert len(result) == 0
    assert result.points.shape == (0, 5, 2)


def test_every_given_box_has_a_result_however_low_its_score(localizer: Localizer) -> None:
    result = localizer.predict(scene()[0], [[0, 0, 30, 30], *box().tolist()])
    assert len(result) == 2
    assert result.confidence[0] < 0.2 < 0.8 < result.confidence[1]


def test_a_detector_finds_several_objects_and_the_network_confirms_them(dots_model: Path) -> None:
    two = Localizer(dots_model, threads=1, detector=TwoObjects())
    both = draw(np.stack([TEMPLATE * 30 + [80, 120], TEMPLATE * 30 + [240, 120]]), 30, (240, 320))
    assert len(two.predict(both)) == 2
    assert len(two.predict(scene((80, 120), 30)[0])) == 1


@pytest.mark.parametrize("kind", ["BGRA", "grey", "grey with a channel", "not contiguous"])
def test_other_layouts_of_uint8_work(localizer: Localizer, kind: str) -> None:
    image, points = scene()
    made = {
        "BGRA": cv2.cvtColor(image, cv2.COLOR_BGR2BGRA),
        "grey": image[:, :, 0],
        "grey with a channel": image[:, :, :1],
        "not contiguous": np.concatenate([image, image], axis=1)[:, :320],
    }[kind]
    result = localizer.predict(made, box())
    assert len(result) == 1
    if not kind.startswith("grey"):  # the dots are told apart by their colour
        assert np.abs(result.points[0] - points).max() < 0.5


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((240, 320, 3), np.float32),
        np.zeros((0, 320, 3), np.uint8),
        np.zeros((240, 320, 2), np.uint8),
        np.zeros((2, 240, 320, 3), np.uint8),
        "portrait.jpg",
        None,
    ],
    ids=["float", "empty", "two channels", "batch", "path", "none"],
)
def test_what_is_not_an_image_is_refused_with_what_is_accepted(localizer: Localizer, image: object) -> None:
    with pytest.raises(InputError, match="expected uint8 of shape"):
        localizer.predict(image)  # type: ignore[arg-type]


def test_a_huge_image_and_a_tiny_one_work(localizer: Localizer) -> None:
    image, points = scene((2600, 1900), 600, (3700, 5400))
    found = localizer.predict(image, box((2600, 1900), 600))
    assert np.abs(found.points[0] - points).max() < 0.5 * 1200 * 1.4 / 64
    assert len(localizer.predict(np.zeros((8, 8, 3), np.uint8))) == 0
    assert len(localizer.predict(np.zeros((8, 8, 3), np.uint8), [[0, 0, 7, 7]])) == 1


@pytest.mark.parametrize("boxes", [[1, 2, 3, 4], [[4, 4, 2, 2]], [[0, 0, np.inf, 1]]])
def test_bad_boxes_are_refused(localizer: Localizer, boxes: list[float]) -> None:
    with pytest.raises(InputError, match="box"):
        localizer.predict(scene()[0], boxes)


def test_several_threads_get_what_one_gets(localizer: Localizer) -> None:
    scenes = [scene((120 + 5 * i, 110 + 3 * i), 30 + i) for i in range(12)]
    alone = [localizer.predict(image) for image, _ in scenes]
    barrier = threading.Barrier(4)

    def work(_: int) -> list[np.ndarray]:
        barrier.wait()
        return [localizer.predict(image).points for image, _ in scenes]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, range(4)):
            for one, many in zip(alone, results, strict=True):
                np.testing.assert_array_equal(one.points, many)


def test_in_a_stream_boxes_follow_the_landmarks(localizer: Localizer) -> None:
    frames = moving()
    results = list(localizer.stream([image for image, _ in frames], smooth=False))
    assert [frame.index for frame in results] == list(range(30))
    for frame, (image, points) in zip(results, frames, strict=True):
        assert frame.image is image
        assert frame.landmarks.ids.tolist() == [0]
        assert np.abs(frame.landmarks.points[0] - points).max() < 0.8
        assert frame.seconds > 0
    second = results[1].landmarks.boxes[0]
    np.testing.assert_allclose(second[:2], results[0].landmarks.points[0].min(axis=0), atol=1e-3)


def test_frames_without_an_object_are_part_of_the_stream(localizer: Localizer) -> None:
    frames = moving(40, missing=range(10, 20))
    counts = [len(frame.landmarks) for frame in localizer.stream([image for image, _ in frames])]
    assert counts[:10] == [1] * 10
    assert counts[10:20] == [0] * 10
    assert counts[25:] == [1] * 15


def test_an_object_that_jumps_is_found_again_in_the_same_frame(dots_model: Path) -> None:
    frames = [scene((80, 120), 30)[0]] * 6 + [scene((240, 120), 30)[0]] * 6
    with Localizer(dots_model, threads=1) as localizer:
        assert [len(frame.landmarks) for frame in localizer.stream(frames)] == [1] * 12


def test_a_detector_is_asked_only_now_and_then(dots_model: Path) -> None:
    detector = TwoObjects()
    both = draw(np.stack([TEMPLATE * 30 + [80, 120], TEMPLATE * 30 + [240, 120]]), 30, (240, 320))
    results = list(Localizer(dots_model, threads=1, detector=detector).stream([both] * 45))
    assert all(frame.landmarks.ids.tolist() == [0, 1] for frame in results)
    assert detector.calls == 3


class Unsure:
    """Finds what it is told, with a low score."""

    every, retry, exact, confident_score = 1, 1, False, 0.9

    def __init__(self, *rounds: list[list[float]]) -> None:
        self.rounds = list(rounds)
        self.score = 0.4

    def detect(
        self, image: np.ndarray, index: int = 0, name: str = "", known: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        boxes = np.array(self.rounds[min(index, len(self.rounds) - 1)], np.float64).reshape(-1, 4)
        return boxes, np.full(len(boxes), self.score)

    def close(self) -> None:
        pass


def test_landmarks_confirm_what_a_detector_is_not_sure_of(dots_model: Path) -> None:
    image, background = scene((80, 120), 30)[0], [200.0, 90, 260, 150]
    told = Unsure([[50, 90, 110, 150], background])
    with Localizer(dots_model, threads=1, detector=told) as localizer:
        (points,) = localizer.predict(image).points
        assert np.abs(points.mean(axis=0) - [80, 120]).max() < 2
        told.rounds = [[background]]
        assert len(localizer.predict(image)) == 0


def test_where_a_detector_is_confident_lower_scores_of_landmarks_are_enough(dots_model: Path) -> None:
    image = (scene((80, 120), 30)[0] * 0.5 + 64).astype(np.uint8)  # pale dots
    told = Unsure([[50, 90, 110, 150]])
    with Localizer(dots_model, threads=1, detector=told) as localizer:
        least = localizer.manifest.min_score
        (scores,) = localizer.predict(image, told.rounds[0]).scores
        assert least / 2 < scores.mean() < least
        assert len(localizer.predict(image)) == 0
        assert [len(frame.landmarks) for frame in localizer.stream([image] * 3)] == [0] * 3
        told.score = told.confident_score
        assert len(localizer.predict(image)) == 1
        assert [len(frame.landmarks) for frame in localizer.stream([image] * 3)] == [1] * 3
        told.rounds = [[[200.0, 90, 260, 150]]]
        assert len(localizer.predict(image)) == 0


def test_a_part_of_what_is_followed_says_that_it_is_there_and_is_nothing_new(dots_model: Path) -> None:
    image, part = scene((80, 120), 30)[0], [55.0, 95, 80, 120]
    with Localizer(dots_model, threads=1, detector=Unsure([[50, 90, 110, 150]], [part])) as localizer:
        frames = list(localizer.stream([image] * 8))
    assert [frame.landmarks.ids.tolist() for frame in frames] == [[0]] * 8
    with Localizer(dots_model, threads=1, detector=Unsure([[50, 90, 110, 150]], [])) as localizer:
        frames = list(localizer.stream([image] * 8))
    assert len(frames[-1].landmarks) == 0  # what the detector misses twice is given up


def test_images_that_do_not_follow_each_other_are_searched_one_by_one(localizer: Localizer) -> None:
    places = [(80, 100), (240, 140), (100, 150)]
    pictures = [Picture(i, 0.0, scene(place, 30)[0], f"{i}.png") for i, place in enumerate(places)]
    results = list(localizer.stream(pictures, follow=False))
    assert [frame.name for frame in results] == ["0.png", "1.png", "2.png"]
    for frame, place in zip(results, places, strict=True):
        assert np.abs(frame.landmarks.points[0].mean(axis=0) - place).max() < 1
        assert frame.landmarks.ids.tolist() == [0]


def test_a_stream_can_be_left_early(localizer: Localizer) -> None:
    before = threading.active_count()
    stream = localizer.stream([image for image, _ in moving(200)])
    next(stream)
    stream.close()
    assert threading.active_count() <= before


def test_a_stream_opens_files_itself(localizer: Localizer, tmp_path: Path) -> None:
    image, points = scene()
    cv2.imwrite(str(tmp_path / "one.png"), image)
    (frame,) = localizer.stream(tmp_path / "one.png")
    assert frame.name == "one.png"
    assert np.abs(frame.landmarks.points[0] - points).max() < 0.5


def test_one_image_needs_no_thread(localizer: Localizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread.name} was started")

    cv2.imwrite(str(tmp_path / "one.png"), scene()[0])
    monkeypatch.setattr(threading.Thread, "start", start)
    assert len(list(localizer.stream(tmp_path / "one.png"))) == 1
    assert len(list(localizer.stream(tmp_path))) == 1


def test_the_image_of_a_frame_that_came_may_be_drawn_into(localizer: Localizer) -> None:
    plain = [frame.landmarks.points for frame in localizer.stream([image for image, _ in moving(40)])]
    for frame, points in zip(localizer.stream([image for image, _ in moving(40)]), plain, strict=True):
        frame.image[:] = 0
        np.testing.assert_array_equal(frame.landmarks.points, points)


def test_a_slow_writer_bounds_the_frames_in_memory(localizer: Localizer) -> None:
    made = 0
    gone: list[int] = []
    counts, written = [], []
    full = threading.Event()

    def frames() -> Iterator[np.ndarray]:
        nonlocal made
        for index in range(40):
            image = scene((110 + 3 * index, 120), 36)[0]
            weakref.finalize(image, gone.append, index)
            made += 1
            counts.append(made - len(gone))
            if made == 2 * DEPTH + 3:
                full.set()
            yield image
            del image

    def write(frame: Frame) -> None:
        assert full.wait(20)
        written.append(frame.index)

    with WriteBehind(write) as writer:
        for frame in localizer.stream(frames()):
            writer.put(frame)
        del frame
    assert written == list(range(40))
    assert max(counts) == 2 * DEPTH + 3


def test_a_bad_detector_is_refused(dots_model: Path) -> None:
    with pytest.raises(InputError, match=r"expected one of NAME\|PATH, full, boxes:FILE"):
        Localizer(dots_model, detector="haar")


def test_a_closed_localizer_says_so(dots_model: Path) -> None:
    with Localizer(dots_model, threads=1) as localizer:
        pass
    with pytest.raises(CunetError, match="closed"):
        localizer.predict(scene()[0], box())


def test_a_face_model_looks_with_the_released_detector_unless_told_otherwise(astronaut: Path) -> None:
    image = cv2.imread(str(astronaut))
    assert image is not None
    small = np.full((720, 1280, 3), 90, np.uint8)
    small[400:660, 900:1160] = cv2.resize(image, (260, 260), interpolation=cv2.INTER_AREA)
    with Localizer("face68-xs", threads=1) as ours, Localizer("face68-xs", threads=1, detector="full") as searching:
        found = ours.predict(small)
        assert len(found) == 1
        assert ((found.points[0] > (900, 400)) & (found.points[0] < (1160, 660))).all()
        assert len(searching.predict(small)) == 0  # it looks for one large object


def test_landmarks_of_a_stream_are_steadied_unless_told_otherwise(localizer: Localizer) -> None:
    rng = np.random.default_rng(0)
    still = [np.asarray((scene()[0] + rng.normal(0, 12, scene()[0].shape)).clip(0, 255), np.uint8) for _ in range(40)]

    def jitter(smooth: bool | Smoothing) -> float:
        frames = list(localizer.stream(still, smooth=smooth))
        points = np.array([frame.landmarks.points[0] for frame in frames])
        return float(np.abs(np.diff(points[10:], axis=0)).mean())

    plain = jitter(False)
    assert plain > 0
    assert jitter(True) < 0.5 * plain
    assert jitter(Smoothing(both_ways=True)) < 0.5 * plain


def test_smoothing_both_ways_needs_a_source_that_can_be_read_again(localizer: Localizer) -> None:
    with pytest.raises(InputError, match="reads the source twice"):
        list(localizer.stream(iter([scene()[0]]), smooth=Smoothing(both_ways=True)))


def test_nothing_is_smeared_over_a_cut(localizer: Localizer) -> None:
    first, (image, points) = scene((100, 100), 36)[0], scene((150, 120), 36)
    other = np.where(image == 128, 40, image).astype(np.uint8)  # another room
    frames = list(localizer.stream([first] * 5 + [other] * 5))
    assert [frame.landmarks.ids.tolist() for frame in frames] == [[0]] * 5 + [[1]] * 5
    assert np.abs(frames[5].landmarks.points[0] - points).max() < 0.8


def test_several_threads_stream_with_one_localizer(localizer: Localizer) -> None:
    clips = [[image for image, _ in moving(20)], [image for image, _ in moving(20)][::-1]]

    def stream(clip: list[np.ndarray]) -> list[np.ndarray]:
        return [frame.landmarks.points for frame in localizer.stream(clip)]

    alone = [stream(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        for index, found in enumerate(pool.map(stream, clips * 4)):
            np.testing.assert_array_equal(found, alone[index % 2])
