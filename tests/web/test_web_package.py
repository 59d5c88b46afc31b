"""The browser package in Node: the same heatmaps, crops and landmarks as the Python package."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy import Frame, Localizer
from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.detection.network import _turn
from cunet_deploy.export.targets.web import write_web_model
from cunet_deploy.geometry import CropRule, whole_image
from cunet_deploy.golden import read_golden
from cunet_deploy.head_pose import head_at
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.media import open_source, read_image
from cunet_deploy.media.writers.jsonl import json_lines
from cunet_deploy.preprocess import sample
from cunet_deploy.skeletons import IBUG68, LSP14
from cunet_deploy.tracking.one_euro import Smoother
from cunet_deploy.web.runtime import PACKAGE, npm_install
from cunet_deploy.zoo import find_model

ROOT = Path(__file__).resolve().parents[2]
RELEASED = sorted(path.parent.name for path in (ROOT / "models").glob("*/golden.npz"))
FRAMES = 40
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give a task to the package and return the answer; skipped where Node or the npm registry is missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed: the browser package is not tested")
    folder = tmp_path_factory.mktemp("node")
    problem = npm_install(folder, "onnxruntime-web")
    if problem:
        pytest.skip(f"onnxruntime-web cannot be installed: {problem}")
    (folder / "node_modules" / "cunet-deploy-web").symlink_to(PACKAGE, target_is_directory=True)

    def run(kind: str, **task: Any) -> dict[str, Any]:
        (folder / "task.json").write_text(json.dumps({"kind": kind, **task}))
        command = ["node", "--preserve-symlinks", str(Path(__file__).with_name("run.mjs")), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result

    run.folder = folder  # type: ignore[attr-defined]
    return run


def write_rgba(run: Run, name: str, image: NDArray[np.uint8], **more: Any) -> dict[str, Any]:
    """An image as a canvas would give it."""
    cv2.cvtColor(image, cv2.COLOR_BGR2RGBA).tofile(run.folder / name)  # type: ignore[attr-defined]
    return {"file": name, "width": image.shape[1], "height": image.shape[0], **more}


def test_types_are_sound(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: types of the browser package are not checked")
    problem = npm_install(tmp_path, "typescript")
    if problem:
        pytest.skip(f"typescript cannot be installed: {problem}")
    command = [str(tmp_path / "node_modules" / ".bin" / "tsc"), "-p", str(PACKAGE / "tsconfig.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", RELEASED)
def test_every_heatmap_value_is_that_of_the_checkpoint(run: Run, name: str) -> None:
    folder = ROOT / "models" / name
    golden = read_golden(folder / "golden.npz")
    golden.images.tofile(run.folder / "images")  # type: ignore[attr-defined]
    golden.heatmaps.astype(np.float32).tofile(run.folder / "heatmaps")  # type: ignore[attr-defined]
    found = run("golden", model=str(folder), images="images", heatmaps="heatmaps", count=len(golden.images))
    assert (found["differing"], found["values"]) == (0, golden.heatmaps.size)


def test_a_model_for_browsers_has_the_same_heatmaps_one_crop_at_a_time(run: Run) -> None:
    folder = ROOT / "models" / "face68-xs"
    golden = read_golden(folder / "golden.npz")
    golden.images.tofile(run.folder / "images")  # type: ignore[attr-defined]
    golden.heatmaps.astype(np.float32).tofile(run.folder / "heatmaps")  # type: ignore[attr-defined]
    web: Path = run.folder / "web"  # type: ignore[attr-defined]
    web.mkdir()
    (web / "model.onnx").write_bytes(write_web_model(load_checkpoint(folder / "checkpoint.pt")))
    (web / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
    single = {"freeDimensionOverrides": {"batch": 1}}
    task = {"model": str(web), "images": "images", "heatmaps": "heatmaps", "count": len(golden.images)}
    found = run("golden", **task, options=single)
    assert (found["differing"], found["values"]) == (0, golden.heatmaps.size)


def test_crops_have_the_same_pixels(run: Run) -> None:
    rng = np.random.default_rng(5)
    image = np.asarray(rng.integers(0, 256, (300, 410, 3)), np.uint8)
    crops = [whole_image(410, 300, size) for size in (128, 160, 192, 256)]
    for size in (96, 128, 160, 192, 256):
        for side in (20, 47, 90, 128, 131, 240, 300, 700):
            x, y = rng.uniform(-40, 400, 2)
            crops.append(CropRule(size, 1.0).crop([x, y, x + side, y + side]))
    source = write_rgba(run, "noise.rgba", image)
    asked = [{"x": crop.center[0], "y": crop.center[1], "side": crop.side, "size": crop.size} for crop in crops]
    run("crops", image=source, crops=asked, out="crops")
    found = np.fromfile(run.folder / "crops", np.uint8)  # type: ignore[attr-defined]
    start = 0
    for crop in crops:
        count = crop.size**2 * 3
        expected = sample(image, crop)
        np.testing.assert_array_equal(found[start : start + count].reshape(expected.shape), expected, str(crop))
        start += count
    assert start == len(found)


@pytest.mark.parametrize("video", [False, True], ids=["single images", "video"])
def test_landmarks_are_those_of_python(run: Run, video: bool) -> None:
    model, detector = (find_model(name).parent for name in ("face68-s", "face-detect-s"))
    clip = ROOT / "tests" / "data" / "demo.mp4"
    with Localizer(model) as localizer:
        if video:
            images = [picture.image for picture in islice(open_source(clip), FRAMES)]
            expected = [(frame.landmarks, frame.time_ms) for frame in islice(localizer.stream(clip), FRAMES)]
        else:
            image = read_image(ROOT / "tests" / "data" / "astronaut.jpg")
            images = [image, tilted(image), np.zeros((60, 80, 3), np.uint8)]
            expected = [(localizer.predict(image), 0.0) for image in images]
    frames = [
        write_rgba(run, f"{index}.rgba", image, time_ms=time_ms)
        for index, (image, (_, time_ms)) in enumerate(zip(images, expected, strict=True))
    ]
    found = run("localize", model=str(model), detector=str(detector), frames=frames, video=video)["results"]
    assert sum(len(landmarks) for landmarks, _ in expected) > 0
    for objects, (landmarks, _) in zip(found, expected, strict=True):
        assert [one["id"] for one in objects] == landmarks.ids.tolist()
        for one, points, scores in zip(objects, landmarks.points, landmarks.scores, strict=True):
            np.testing.assert_allclose(one["points"], points, atol=2e-3)
            np.testing.assert_allclose(one["scores"], scores, atol=1e-6)
        for one, box in zip(objects, landmarks.boxes, strict=True):
            np.testing.assert_allclose(one["box"], box, atol=2e-3)


def tilted(image: np.ndarray) -> np.ndarray:
    """Turn a picture by 30 degrees: of faces in it the detector is not sure, and landmarks have to confirm them."""
    height, width = image.shape[:2]
    return cv2.warpAffine(image, cv2.getRotationMatrix2D((width / 2, height / 2), 30, 1), (width, height))


def test_scores_of_a_body_model_are_those_of_python(run: Run) -> None:
    model, detector = (find_model(name).parent for name in ("pose14-s", "person-detect-s"))
    image = read_image(ROOT / "tests" / "data" / "astronaut.jpg")
    boxes = [[60.0, 20.0, 400.0, 500.0], [150.0, 0.0, 300.0, 250.0], [0.0, 0.0, 60.0, 60.0]]
    with Localizer(model) as localizer:
        assert localizer.manifest.score_curve is not None
        expected = localizer.predict(image, boxes)
    frames = [write_rgba(run, "body.rgba", image, boxes=boxes)]
    (found,) = run("localize", model=str(model), detector=str(detector), frames=frames)["results"]
    np.testing.assert_allclose([one["scores"] for one in found], expected.scores, atol=1e-6)
    np.testing.assert_allclose([one["confidence"] for one in found], expected.confidence, atol=1e-6)
    np.testing.assert_allclose([one["points"] for one in found], expected.points, atol=2e-3)


def heads() -> Landmarks:
    """Faces that look in many directions, some of them no faces."""
    rng, points = np.random.default_rng(3), []
    for yaw in range(-90, 91, 10):
        for pitch, roll in ((0, 0), (20, 10), (-25, -30), (5, 170)):
            head = head_at(yaw)
            for axis, angle in (((0, 1, 0), yaw), ((1, 0, 0), pitch), ((0, 0, 1), roll)):
                head = head @ cv2.Rodrigues(np.radians(angle) * np.array(axis, np.float64))[0].T
            seen = head[:, :2] / (6 - head[:, 2:]) * [1, -1] * 700 + [320, 240]
            points.append(seen + rng.normal(0, rng.choice([0, 1, 3, 100]), seen.shape))
    points.append(np.full((68, 2), 7.0))
    stacked, count = np.array(points, np.float32), len(points)
    boxes = np.sort(rng.uniform(0, 900, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
    return Landmarks(stacked, rng.random((count, 68), np.float32), boxes, IBUG68, np.arange(count))


def test_saved_lines_are_those_of_infer(run: Run) -> None:
    rng, image = np.random.default_rng(4), np.zeros((1, 1, 3), np.uint8)
    none = Landmarks.empty(LSP14)
    body = Landmarks(
        rng.uniform(-5, 2000, (2, 14, 2)).astype(np.float32),
        rng.random((2, 14), np.float32),
        rng.uniform(0, 2000, (2, 4)).astype(np.float32),
        LSP14,
        np.array([3, 8]),
    )
    body.points[0, :2] = [[0.125, 0.375], [-0.125, -0.375]]  # ties of rounding
    frames = [
        Frame(0, 0.0, image, heads(), 'a "face".png'),
        Frame(3, 100.1, image, body),
        Frame(4, 133.33333, image, none),
    ]
    task = [
        {
            "found": [
                {"id": id_, "box": box, "points": points, "scores": scores}
                for id_, box, points, scores in zip(
                    frame.landmarks.ids.tolist(),
                    frame.landmarks.boxes.tolist(),
                    frame.landmarks.points.tolist(),
                    frame.landmarks.scores.tolist(),
                    strict=True,
                )
            ],
            "skeleton": frame.landmarks.skeleton.to_dict(),
            "of": {"frame": frame.index, "timeMs": frame.time_ms, "file": frame.name},
        }
        for frame in frames
    ]
    lines = run("lines", frames=task)["lines"]
    assert "".join(f"{line}\n" for line in lines) == "".join(map(json_lines, frames))


def test_a_score_threshold_that_changes_applies_to_the_running_video(run: Run) -> None:
    model, detector = (find_model(name).parent for name in ("face68-s", "face-detect-s"))
    images = [picture.image for picture in islice(open_source(ROOT / "tests" / "data" / "demo.mp4"), 12)]
    least = {0: 0.42, 4: 2.0, 8: 0.42}  # half of it is asked for where the detector is confident
    frames = [
        write_rgba(
            run, f"{index}.rgba", image, time_ms=40.0 * index, **({"min_score": least[index]} if index in least else {})
        )
        for index, image in enumerate(images)
    ]
    found = run("localize", model=str(model), detector=str(detector), frames=frames, video=True)["results"]
    counts = [len(objects) for objects in found]
    assert counts[:8] == [1] * 4 + [0] * 4
    assert counts[-1] == 1


def test_a_followed_object_keeps_its_share_of_the_threshold(run: Run) -> None:
    manifest = json.loads((ROOT / "models" / "pose14-s" / "manifest.json").read_text())
    least, keep = manifest["min_score"], manifest["keep_score"]
    found = run("thresholds", model=str(ROOT / "models" / "pose14-s"), min_scores=[least, least / 2, 0.0])
    np.testing.assert_allclose(found["keep_scores"], [keep, keep / 2, 0.0], atol=1e-12)


def test_tiles_take_turns_as_in_python(run: Run) -> None:
    looks = [*range(60), 10**6 + 3, 2**32 + 7, 4 * 10**9 + 11]
    assert run("turns", looks=looks, count=4)["turns"] == [_turn(look, 4) for look in looks]


def test_joints_keep_their_sides_as_in_python(run: Run) -> None:
    rng = np.random.default_rng(8)
    smoother, frames, expected = Smoother(), [], []
    body = rng.uniform(0, 200, (14, 2))
    for index in range(60):
        points = (body + rng.normal(0, 2, (14, 2))).astype(np.float32)
        for left, right in LSP14.flip_pairs:
            if rng.random() < (0.2 if index < 30 else 0.9):
                points[[left, right]] = points[[right, left]]
        scores, time_ms = rng.random(14).astype(np.float32), 40.0 * index
        found = Landmarks(points[None], scores[None], np.zeros((1, 4), np.float32), LSP14, np.zeros(1, np.int64))
        frames.append({"points": points.tolist(), "scores": scores.tolist(), "time_ms": time_ms})
        expected.append(smoother.update(found, time_ms))
    results = run("smooth", skeleton=LSP14.to_dict(), frames=frames)["results"]
    for one, landmarks in zip(results, expected, strict=True):
        np.testing.assert_allclose(one["points"], landmarks.points[0], atol=1e-3)
        np.testing.assert_allclose(one["scores"], landmarks.scores[0], atol=1e-6)
