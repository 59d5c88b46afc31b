"""Whole renders. They need the extra [synth] and OpenGL without a window, and are skipped elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from opengl import need_renders

from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import IBUG68
from cunet_deploy.synthesis.assets import listed_assets
from cunet_deploy.synthesis.charts import draw_definition, draw_faces, plain_recipe
from cunet_deploy.synthesis.dataset import BLOCK, write_renders
from cunet_deploy.synthesis.faces import FaceJob
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.people import Expression, Pose
from cunet_deploy.synthesis.recipe import FaceRecipe
from cunet_deploy.synthesis.render import FaceRenderer
from cunet_deploy.synthesis.view import HIDDEN, VISIBLE

BARE = ("hair", "beards", "glasses", "hats", "collars", "hands", "objects", "heads")
SIZE = 96


@pytest.fixture(scope="module")
def renderer() -> Iterator[FaceRenderer]:
    need_renders()
    with FaceRenderer(FaceOptions(size=SIZE, without=BARE)) as made:
        yield made


def _plain(renderer: FaceRenderer, pose: Pose) -> FaceRecipe:
    """The base mesh itself, without expression, exactly in that pose."""
    return plain_recipe(renderer.sample(0), pose)


def _mirrored(points: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.arange(68)
    for a, b in IBUG68.flip_pairs:
        order[[a, b]] = b, a
    return np.stack([SIZE - 1 - points[order, 0], points[order, 1]], axis=1)


def test_a_straight_face_is_symmetric_and_visible(renderer: FaceRenderer) -> None:
    layer = renderer.layer(_plain(renderer, Pose(0, 0, 0, 0, 0)))
    np.testing.assert_allclose(layer.points, _mirrored(layer.points), atol=0.4)
    assert (layer.visibility == VISIBLE).sum() >= 66
    assert layer.image[SIZE // 2, SIZE // 2, 3] == 255


def test_landmarks_are_in_the_order_of_the_scheme(renderer: FaceRenderer) -> None:
    points = renderer.layer(_plain(renderer, Pose(0, 0, 0, 0, 0))).points
    assert points[36, 0] < points[39, 0] < points[42, 0] < points[45, 0]  # the right eye is at the left of the picture
    assert points[19, 1] < points[37, 1] < points[30, 1] < points[51, 1] < points[57, 1] < points[8, 1]
    assert (np.diff(points[:17, 0]) > 0).all()
    assert (np.diff(points[27:31, 1]) > 0).all()


def test_both_turns_are_mirror_images(renderer: FaceRenderer) -> None:
    left, right = (renderer.layer(_plain(renderer, Pose(yaw, 0, 0, yaw, 0))) for yaw in (-60.0, 60.0))
    np.testing.assert_allclose(left.points, _mirrored(right.points), atol=1.5)
    assert right.points[30, 0] > right.points[[0, 16], 0].mean()  # positive yaw looks to the right


def test_a_profile_hides_its_far_side_and_keeps_the_near_one(renderer: FaceRenderer) -> None:
    layer = renderer.layer(_plain(renderer, Pose(85, 0, 0, 60, 0)))
    assert (layer.visibility[42:48] == HIDDEN).all()  # the left eye
    assert (layer.visibility[36:42] == VISIBLE).sum() >= 5
    assert (layer.visibility[:9] == VISIBLE).sum() >= 8


def test_the_contour_slides_to_the_edge_of_the_turned_face(renderer: FaceRenderer) -> None:
    layer = renderer.layer(_plain(renderer, Pose(50, 0, 0, 30, 0)))
    alpha = layer.image[..., 3]
    for x, y in layer.points[12:16]:
        row = alpha[round(y)]
        assert np.flatnonzero(row)[-1] - x < 0.06 * SIZE  # the far cheek ends the head there


@pytest.mark.parametrize("yaw", [0.0, 30.0])
def test_the_contour_is_evenly_spaced_in_the_picture(renderer: FaceRenderer, yaw: float) -> None:
    points = renderer.layer(_plain(renderer, Pose(yaw, 0, 0, yaw, 0))).points
    gaps = np.linalg.norm(np.diff(points[:17], axis=0), axis=1)
    for half in (gaps[:8], gaps[8:])[: 1 if yaw else 2]:  # the far side may be hidden, and moved
        assert np.ptp(half) < 0.05 * half.mean()


def test_hidden_landmarks_are_moved_or_left_inside(renderer: FaceRenderer) -> None:
    recipe = _plain(renderer, Pose(80, 0, 0, 50, 0))
    edge = renderer.layer(recipe).points
    renderer.options = replace(renderer.options, hidden="through")
    try:
        through = renderer.layer(recipe).points
    finally:
        renderer.options = replace(renderer.options, hidden="edge")
    far = np.r_[42:48]
    assert (edge[far, 0] > through[far, 0] + 1).all()
    np.testing.assert_array_equal(edge[36:42], through[36:42])


def test_an_open_mouth_moves_the_lower_lip_only(renderer: FaceRenderer) -> None:
    shut = _plain(renderer, Pose(0, 0, 0, 0, 0))
    wide = replace(shut, expression=Expression("open", {"unit/jawOpen": 0.8}))
    before, after = renderer.layer(shut).points, renderer.layer(wide).points
    assert after[66, 1] - after[62, 1] > before[66, 1] - before[62, 1] + 0.05 * SIZE


def test_every_loaded_asset_has_a_licence(renderer: FaceRenderer) -> None:
    assert set(renderer.library.loaded.values()) == {asset.name for asset in listed_assets()}


def test_a_picture_can_be_rendered_again(renderer: FaceRenderer) -> None:
    first, other, second = (renderer.render(number) for number in (7, 8, 7))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.points, second.points)
    assert (first.image != other.image).any()


def test_leaving_a_group_out_keeps_the_landmarks(renderer: FaceRenderer) -> None:
    with FaceRenderer(FaceOptions(size=SIZE)) as full:
        for number in range(4):
            np.testing.assert_array_equal(full.render(number).points, renderer.render(number).points)


def test_infrared_pictures_are_grey(renderer: FaceRenderer) -> None:
    with FaceRenderer(FaceOptions(size=SIZE, style="infrared")) as infrared:
        assert np.ptp(infrared.render(1).image, axis=2).max() == 0


@pytest.mark.slow
def test_files_do_not_depend_on_workers_or_interruptions(renderer: FaceRenderer, tmp_path: Path) -> None:
    count = 2 * BLOCK + 3
    steps: list[int] = []
    options = FaceOptions(size=64, seed=3)
    assert write_renders(FaceJob(options), count, tmp_path / "one", advance=steps.append) == count
    assert sum(steps) == count
    _start_and_kill(tmp_path / "two", count)
    (tmp_path / "two" / "faces" / "000021.jpg.part").write_bytes(b"half a picture")
    rendered = write_renders(FaceJob(options), count, tmp_path / "two", workers=2)
    assert 0 < rendered < count
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")
    assert write_renders(FaceJob(options), count, tmp_path / "two") == 0


def _start_and_kill(folder: Path, count: int, workers: int = 1) -> list[str]:
    """Start the command, and kill it when its first block is finished; its children."""
    command = [sys.executable, "-m", "cunet_deploy", "synth", "faces", "-n", str(count), "-o", str(folder)]
    command += ["--size", "64", "--seed", "3", "--workers", str(workers)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while process.poll() is None and not any((folder / "blocks").glob("*.jsonl")):
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
    return children


def _runs(process: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker_behind(renderer: FaceRenderer, tmp_path: Path) -> None:
    children = _start_and_kill(tmp_path / "out", 50 * BLOCK, workers=2)
    assert len(children) >= 2
    while any(_runs(child) for child in children):
        time.sleep(0.01)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_is_read_by_training_and_can_grow(renderer: FaceRenderer, tmp_path: Path) -> None:
    options = FaceOptions(size=64)
    write_renders(FaceJob(options), 3, tmp_path)
    assert write_renders(FaceJob(options), 5, tmp_path) == 5  # the block is made again as a whole
    examples = read_300w(tmp_path / "faces", 68)
    assert len(examples) == 5
    lines = [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [f"faces/{number:06d}.jpg" for number in range(5)]
    assert all(len(line["visibility"]) == 68 for line in lines)
    assert np.asarray(cv2.imread(str(tmp_path / lines[0]["image"]))).shape == (64, 64, 3)
    about = json.loads((tmp_path / "synth.json").read_text())
    assert {asset["licence"] for asset in about["assets"]} == {"CC0-1.0"}
    with pytest.raises(InputError, match="seed was 0, is 1"):
        write_renders(FaceJob(replace(options, seed=1)), 5, tmp_path)


@pytest.mark.parametrize("kind", ["file", "link to itself", "folder of synth.json/"])
def test_what_can_be_no_folder_of_renders_is_refused(renderer: FaceRenderer, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "renders"
    if kind == "file":
        folder.write_bytes(b"")
    elif kind == "link to itself":
        folder.symlink_to(folder)
    else:
        (folder / "synth.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"is no folder of renders; choose|cannot be read \(.*; choose another folder"):
        write_renders(FaceJob(FaceOptions(size=64)), 1, folder)


def test_a_folder_of_something_else_is_left_alone(renderer: FaceRenderer, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match="is no folder of renders"):
        write_renders(FaceJob(FaceOptions(size=64)), 1, tmp_path)


def test_sheets_are_grids_of_faces(renderer: FaceRenderer) -> None:
    sheet = draw_faces(FaceOptions(size=64), 3, 2, landmarks=True)
    assert sheet.shape == (128, 128, 3)
    assert (sheet[64:, 64:] == 255).all()
    assert draw_definition(128).shape == (256, 256, 3)
