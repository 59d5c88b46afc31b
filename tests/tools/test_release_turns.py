"""A head that turns is followed: found or lost by yaw, one track id or several."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn import template, write_pts

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.media import Frame
from cunet_deploy.skeletons import IBUG68
from tools.release import turns

YAWS = np.array([0.0, 20.0, 50.0, 90.0, 70.0, -40.0])
LABELS = np.stack([template() * 40 + [100 + index, 90] for index in range(len(YAWS))])


def frames(*seen: tuple[int, float] | None) -> Iterator[Frame]:
    """A frame each, with a face of that id, moved by a share of its size; or without one."""
    for index, one in enumerate(seen):
        count = 0 if one is None else 1
        size = np.sqrt(np.ptp(LABELS[index], axis=0).prod())
        points = np.zeros((count, 68, 2), np.float32)
        if one is not None:
            points[0] = LABELS[index] + np.array([one[1] * size, 0])
        ids = np.full(count, -1 if one is None else one[0], np.int64)
        boxes, scores = np.zeros((count, 4), np.float32), np.ones((count, 68), np.float32)
        yield Frame(index, 40.0 * index, np.zeros((8, 8, 3), np.uint8), Landmarks(points, scores, boxes, IBUG68, ids))


def test_frames_are_counted_by_yaw_and_ids_by_change() -> None:
    found = turns.follow(frames((0, 0), (0, 0.05), (0, 0.1), None, None, (3, 0)), YAWS, LABELS)
    assert (found["ids"], found["id_changes"], found["longest_gap_frames"]) == (2, 1, 2)
    rows = {(row["yaw_from"], row["yaw_to"]): row for row in found["by_yaw"]}
    assert [row["frames"] for row in rows.values()] == [2, 2, 2, 6]
    assert [row["found_percent"] for row in rows.values()] == [100, 100, 0, 66.67]
    assert [row["close_percent"] for row in rows.values()] == [100, 50, 0, 50]
    table = turns.table([{"model": "s", **found}])
    assert "at 0 to 30° (2 frames) | 30 to 60° (2 frames) | 60 to 90° (2 frames) | 0 to 90° (6 frames) |" in table
    assert "| s | 100 (100) % | 100 (50) % | 0 (0) % | 67 (50) % | 2 | 2 frames | 0 |" in table


def test_what_is_found_elsewhere_is_no_face() -> None:
    found = turns.follow(frames((0, 0), (0, 3.0), (0, 0), (0, 0), (0, 0), (0, 0)), YAWS, LABELS)
    assert (found["frames_with_something_else"], found["longest_gap_frames"], found["ids"]) == (1, 1, 1)
    assert found["by_yaw"][-1]["found_percent"] == 83.33


def test_the_folder_of_a_clip_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder of cunet-deploy synth turn"):
        turns.read_turn(tmp_path)
    (tmp_path / "frames").mkdir()
    write_pts(tmp_path / "frames" / "000000.pts", LABELS[0])
    (tmp_path / "frames.jsonl").write_text(json.dumps({"image": "frames/000000.jpg", "yaw": 7.5}) + "\n")
    yaws, labels = turns.read_turn(tmp_path)
    assert yaws.tolist() == [7.5]
    np.testing.assert_allclose(labels[0], LABELS[0], atol=1e-3)
