"""Stages of a frame, on a clock that moves only where a test lets it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from clocks import Clock
from numpy.typing import NDArray

from cunet_deploy.bench.frames import FRAME_STAGES, Frames
from cunet_deploy.bench.latency import Candidate, Scene, Timing, Work, measure_latency
from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder, decode, map_to_input
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import open_files
from cunet_deploy.sessions.base import Decoding
from cunet_deploy.skeletons import IBUG68

MANIFEST = Manifest("toy", IBUG68, CropRule(32, 1.4), 4, Decoder(), 8, 8, 0.3, "none", ("drawn",), 17, "test", "0" * 64)
CLIP = Path(__file__).resolve().parents[1] / "data" / "demo.mp4"


class Network:
    """Takes 10 ms a crop, and sees landmarks spread over every crop."""

    manifest, backend = MANIFEST, "toy"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        rng = np.random.default_rng(0)
        self.maps = np.zeros((1, 68, 8, 8), np.float32)
        for index, (x, y) in enumerate(rng.integers(1, 7, (68, 2))):
            self.maps[0, index, y, x] = 0.9

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.clock.now += 0.01 * len(images)
        return np.repeat(self.maps, len(images), axis=0)

    def close(self) -> None:
        pass


class Detector:
    """Takes 30 ms and sees the same objects in every frame, or none."""

    every, retry, exact, confident_score = 4, 2, False, 0.0

    def __init__(self, clock: Clock, objects: int = 1) -> None:
        self.clock, self.looks = clock, list[int]()
        self.found = np.array([[10 + 60 * i, 10, 50 + 60 * i, 50] for i in range(objects)], np.float64).reshape(-1, 4)

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self.clock.now += 0.03
        self.looks.append(index)
        return self.found, np.ones(len(self.found))

    def close(self) -> None:
        pass


class DecodingNetwork(Network, Decoding):
    """Finds the same landmarks itself, in 20 ms a crop."""

    decodes = True

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("infer does not ask for heatmaps where the graph finds landmarks")

    def landmarks(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.clock.now += 0.02 * len(images)
        cells, scores = decode(np.repeat(self.maps, len(images), axis=0), MANIFEST.decoder)
        return map_to_input(cells, MANIFEST.stride).astype(np.float32), scores


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index in range(3):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((80, 200, 3), 40 * index, np.uint8))
    return tmp_path


def timed(source: Path, clock: Clock, detector: Detector | GivenBoxes | str, **options: int | bool) -> Timing:
    work = Frames(open_files(source), detector)
    candidate = Candidate("toy", lambda: Network(clock), work)
    (timing,) = measure_latency([candidate], work, clock=clock, **options)  # type: ignore[arg-type]
    return timing


def test_each_photo_is_searched_and_its_time_goes_to_the_right_stage(photos: Path) -> None:
    clock = Clock()
    timing = timed(photos, clock, Detector(clock, objects=2), rounds=2, calls=3)
    assert timing.stages == FRAME_STAGES
    assert timing.typical_ms() == pytest.approx(
        {"read": 0, "detect": 30, "crop": 0, "network": 20, "decode": 0, "track": 0, "draw": 0}
    )
    assert timing.crops is not None
    assert timing.crops.tolist() == [[2] * 3] * 2
    assert timing.network_ms_per_crop() == pytest.approx(10)
    assert timing.per_second == pytest.approx(20)


def test_in_a_clip_the_detector_looks_now_and_then_and_each_pass_starts_anew() -> None:
    clock, source = Clock(), open_files(CLIP)
    detector = Detector(clock)
    assert source.count == 100
    timed(CLIP, clock, detector, rounds=53, calls=2)
    assert detector.looks[:3] == [0, 4, 8]
    assert detector.looks[-2:] == [0, 4]  # frames 100 to 105 are the first ones again


def test_without_a_detector_the_search_is_detection_and_not_network(photos: Path) -> None:
    clock = Clock()
    timing = timed(photos, clock, "full", rounds=1, calls=3)
    assert timing.typical_ms()["detect"] >= 10 * 6  # several windows
    assert timing.typical_ms()["network"] <= 10


def test_a_photo_without_an_object_takes_no_time_in_the_network(photos: Path) -> None:
    clock = Clock()
    timing = timed(photos, clock, Detector(clock, objects=0), rounds=1, calls=3)
    assert timing.typical_ms()["network"] == 0
    assert timing.network_ms_per_crop() == 0
    assert timing.per_second == pytest.approx(1 / 0.03)


def test_given_boxes_are_used_frame_by_frame_where_models_are_opened_for_each_turn(photos: Path) -> None:
    boxes = photos / "boxes.csv"
    boxes.write_text("file,x0,y0,x1,y1\n" + "".join(f"{index}.png,10,10,50,50\n" for index in (0, 2)))
    clock = Clock()
    timing = timed(photos, clock, GivenBoxes.read(boxes), rounds=3, calls=2, keep_open=False)
    assert timing.crops is not None
    assert timing.crops.ravel().tolist() == [1, 0, 1, 1, 0, 1]


def test_reading_is_timed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def slow(data: bytes, name: str, page: int, most_pixels: int) -> NDArray[np.uint8]:
        clock.now += 0.005
        return np.zeros((80, 200, 3), np.uint8)

    monkeypatch.setattr("cunet_deploy.media.readers.images._decode_deep", slow)
    assert timed(photos, clock, Detector(clock), rounds=1, calls=3).typical_ms()["read"] == pytest.approx(5)


@pytest.mark.parametrize("whole", [True, False], ids=["frames", "crops"])
def test_a_graph_that_finds_landmarks_is_run_as_infer_runs_it(photos: Path, whole: bool) -> None:
    clock = Clock()
    picture = Scene.centred(np.zeros((80, 200, 3), np.uint8))
    work: Work = Frames(open_files(photos), Detector(clock)) if whole else picture
    candidate = Candidate("toy", lambda: DecodingNetwork(clock), work)
    (timing,) = measure_latency([candidate], work, rounds=1, calls=3, clock=clock)
    assert timing.network_ms_per_crop() == pytest.approx(20)
