"""The generic head is fitted to labels of known pose, and its errors are measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from drawn import draw_face, write_faces, write_pts

from cunet_deploy.head_pose import FOCAL, head_at, normalized
from cunet_deploy.skeletons import IBUG68
from tools import head_pose


def labels(poses: np.ndarray, head: np.ndarray) -> np.ndarray:
    """(N, 68, 2) normalized labels of one head in given poses."""
    faces = []
    for yaw, pitch, roll in poses:
        turned = head @ head_pose._rotation(yaw, pitch, roll).T
        faces.append(normalized(turned[:, :2] / (turned[:, 2:] + FOCAL)))
    return np.array(faces)


def test_the_fit_finds_the_head_that_was_turned() -> None:
    rng = np.random.default_rng(2)
    poses = np.column_stack([rng.uniform(-90, 90, 300), rng.uniform(-25, 25, 300), rng.uniform(-20, 20, 300)])
    head = head_at(30.0)
    head = (head + head[IBUG68.flip_order] * [-1, 1, 1]) / 2
    views = head_pose.fit_views(labels(poses, head), poses)
    assert views.shape == (7, 68, 3)
    turned = np.array([[25.0, 10.0, 5.0], [75.0, -10.0, 0.0]])
    for pose, view in zip(turned, views[[2, 5]], strict=True):
        apart = labels(pose[None], view)[0] - labels(pose[None], head)[0]
        assert np.abs(apart).max() < 0.02


def test_renders_of_known_pose_are_measured(tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "faces", 4)
    poses = np.array([[0.0, 5.0, 10.0], [40.0, -5.0, 0.0], [-70.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    lines = []
    for index, pose in enumerate(poses):
        face = labels(pose[None], head_at(pose[0]))[0] * 60 + [56, 48]
        write_pts(folder / f"face{index:03d}_1.pts", face)
        named = dict(zip(head_pose.ANGLES, pose.tolist(), strict=True))
        lines.append(json.dumps({"image": f"faces/face{index:03d}_1.png", **named}))
    (tmp_path / "faces.jsonl").write_text("\n".join(lines))
    report = tmp_path / "r.json"
    done = CliRunner().invoke(head_pose.main, ["measure", str(folder), "--json", str(report)])
    assert done.exit_code == 0, done.output
    rows = json.loads(report.read_text())["by_yaw"]
    assert [row["faces"] for row in rows] == [2, 1, 1, 4]
    assert rows[3]["yaw_mean_degrees"]["value"] < 3
    assert done.output.count("|\n") == 6


def test_folders_without_poses_are_refused(tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "faces", 1)
    done = CliRunner().invoke(head_pose.main, ["measure", str(folder)])
    assert done.exit_code == 2
    assert "the poses are not known" in done.output


def test_browsers_have_the_same_head() -> None:
    text = head_pose.FILE.read_text("utf-8")
    rows = text.split('"views": [\n')[1].removesuffix("\n]}\n")
    assert head_pose.MODULE.read_text("utf-8") == head_pose.browser_module(rows)


def test_the_shipped_head_is_the_mean_of_a_face() -> None:
    _, face = draw_face(np.random.default_rng(0))
    flat = normalized(face)
    front = labels(np.zeros((1, 3)), head_at(0.0))[0]
    assert np.corrcoef(flat.ravel(), front.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(head_at(0.0), head_at(-0.0))
    assert np.abs(front - (front * [-1, 1])[IBUG68.flip_order]).max() == pytest.approx(0, abs=0.01)
