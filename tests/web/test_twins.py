"""Detection, confirmation and tracking in the browser package: what is believed is what Python believes."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dots import manifest
from numpy.typing import NDArray

from cunet_deploy.detection import search
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.tracking import step
from cunet_deploy.tracking.step import ImageStep, VideoStep
from cunet_deploy.web.runtime import PACKAGE

MANIFEST = replace(manifest(), min_score=0.5, keep_score=0.4)
IMAGE = np.zeros((32, 32, 3), np.uint8)
CORNERS = np.array([[-1, -1], [1, -1], [0, 0], [-1, 1], [1, 1]])
Box = list[int]


def clip(seed: int) -> dict[str, Any]:
    """Up to four objects that move, score high or low and hide, and detections of them, of parts and of nothing."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 5))
    places, speeds = random.integers(60, 340, (count, 2)), random.integers(-4, 5, (count, 2))
    halves, frames = random.integers(16, 40, count), list[dict[str, Any]]()
    for _ in range(25):
        places = places + speeds
        rows = zip(places.tolist(), halves.tolist(), strict=True)
        objects = [
            [*place, half, float(random.choice([0.1, 0.3, 0.43, 0.6, 0.9]))]
            for place, half in rows
            if random.random() < 0.85
        ]
        seen = [
            square(random, place, int(half * random.choice([0.4, 1, 1, 1, 2])))
            for place, half in zip(places.tolist(), halves.tolist(), strict=True)
            if random.random() < 0.7
        ]
        if random.random() < 0.2:
            seen.append(square(random, random.integers(0, 400, 2).tolist(), 20))
        detections = sorted(((box, float(random.choice([0.4, 0.7, 0.9]))) for box in seen), key=lambda each: -each[1])
        frames.append({"objects": objects, "detections": detections})
    return {"every": int(random.integers(1, 6)), "retry": int(random.integers(1, 4)), "frames": frames}


def square(random: np.random.Generator, place: list[int], half: int) -> Box:
    """A box a few pixels beside a place."""
    x, y = (int(value + random.integers(-8, 9)) for value in place)
    return [x - half, y - half, x + half, y + half]


class Told:
    """A detector that finds what the frame says."""

    exact, confident_score = False, 0.7

    def __init__(self, every: int, retry: int) -> None:
        self.every, self.retry, self.found = every, retry, list[Any]()

    def detect(self, *given: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        boxes = np.array([box for box, _ in self.found], np.float64).reshape(-1, 4)
        return boxes, np.array([score for _, score in self.found])

    def close(self) -> None: ...


def located(objects: list[list[float]], boxes: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The nearest object of each box, with a score for each of its five points."""
    points, heights = [], []
    for box in np.asarray(boxes, np.float64):
        middle = (box[:2] + box[2:]) / 2
        far = [np.hypot(*(each[:2] - middle)) for each in objects]
        x, y, half, score = objects[int(np.argmin(far))] if objects else (*middle, 16, 0.0)
        points.append(CORNERS * half + (x, y))
        heights.append([score] * 5)
    return np.array(points, np.float32).reshape(-1, 5, 2), np.array(heights, np.float32).reshape(-1, 5)


def described(found: Landmarks) -> list[dict[str, Any]]:
    rows = zip(found.ids, found.points, found.boxes, strict=True)
    return [{"id": int(number), "points": points.tolist(), "box": box.tolist()} for number, points, box in rows]


def test_what_is_found_followed_and_lost_is_that_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed: the browser package is not tested")
    clips, world = [clip(seed) for seed in range(16)], SimpleNamespace(objects=[])
    table = {"skeleton": {}, "min_score": MANIFEST.min_score, "keep_score": MANIFEST.keep_score}
    (tmp_path / "clips.json").write_text(json.dumps({"manifest": table, "clips": clips}))
    command = ["node", str(Path(__file__).with_name("twins.mjs")), str(PACKAGE / "src"), str(tmp_path / "clips.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for module in (step, search):
        monkeypatch.setattr(module, "locate", lambda session, image, boxes: located(world.objects, boxes))
    session: Any = SimpleNamespace(manifest=MANIFEST)
    for seed, (given, results) in enumerate(zip(clips, json.loads(done.stdout), strict=True)):
        detector = Told(given["every"], given["retry"])
        video, image = VideoStep(session, detector, smooth=False), ImageStep(session, detector)
        for index, (frame, (followed, found, in_boxes)) in enumerate(zip(given["frames"], results, strict=True)):
            world.objects, detector.found = frame["objects"], frame["detections"]
            where = f"clip {seed}, frame {index}"
            assert described(video.update(IMAGE)) == followed, where
            assert described(image.update(IMAGE)) == found, where
            assert len(in_boxes) == len(frame["detections"]), where
