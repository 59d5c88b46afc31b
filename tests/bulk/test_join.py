"""Parts of a long video, put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="the extra [ray] is not installed: fsspec is missing")
pytest.importorskip("pyarrow", reason="the extra [ray] is not installed: pyarrow is missing")

from cunet_deploy.bulk.items import Item, Part
from cunet_deploy.bulk.join import join_parts
from cunet_deploy.bulk.results import Output, row_left_out, rows_of, schema_of
from cunet_deploy.bulk.worker import Model
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import LeftOut

DESCRIPTION = Path(__file__).resolve().parents[2] / "models" / "face68-xs" / "manifest.json"
MANIFEST = Manifest.from_json(DESCRIPTION.read_text(), DESCRIPTION)
MODEL = Model("face68-xs", None, "0" * 64, MANIFEST.to_json())
WHOLE = Item("video", ("clip.mp4",))
PARTS = [
    Item("video", ("clip.mp4",), Part(0, 0, None, 0, 0, 100)),
    Item("video", ("clip.mp4",), Part(1, 100, 85, 85, 15, None)),
]


def walking(index: int, track_id: int) -> Landmarks:
    """A face that has gone on by half its width after five frames."""
    count = len(MANIFEST.skeleton)
    points = np.random.default_rng(0).uniform(0, 100, (1, count, 2)).astype(np.float32)
    points[..., 0] += 10 * index
    box = np.array([[10 * index, 0, 100 + 10 * index, 100]], np.float32)
    return Landmarks(points, np.ones((1, count), np.float32), box, MANIFEST.skeleton, np.array([track_id]))


def write_part(output: Output, part: Item, frames: Iterable[int], track_id: int, gap: LeftOut | None = None) -> None:
    def rows() -> Iterator[list[dict[str, Any]]]:
        for index in frames:
            yield rows_of(walking(index, track_id), source="clip.mp4", frame=index, time_ms=40.0 * index)
        if gap is not None:
            yield [row_left_out(gap, "clip.mp4")]

    output.write_rows(output.landmarks_path(part), schema_of(MANIFEST, "0" * 64), rows())


def test_a_face_keeps_its_track_id_across_a_joint_behind_frames_that_are_missing(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    write_part(output, PARTS[0], range(90), 0, LeftOut(90, "10 frames cannot be decoded", 10, 3600.0))
    write_part(output, PARTS[1], [*range(85, 90), *range(100, 120)], 3)
    join_parts(WHOLE, PARTS, MODEL, output)
    rows = list(output.read_rows(output.landmarks_path(WHOLE)))
    assert [row["frame"] for row in rows] == [*range(91), *range(100, 120)]
    assert {row["id"] for row in rows} == {0, None}
    assert rows[90]["error"] == "10 frames cannot be decoded"
    assert not output.exists(f"parts/{WHOLE.key}")
