"""Parts of a long video, put together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="the extra [ray] is not installed: fsspec is missing")
pytest.importorskip("pyarrow", reason="the extra [ray] is not installed: pyarrow is missing")

from cunet_deploy.bulk.items import Item, Part
from cunet_deploy.bulk.join import join_parts
from cunet_deploy.bulk.results import Output, schema_of, write_results
from cunet_deploy.bulk.worker import Model
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import Frame, LeftOut

DESCRIPTION = Path(__file__).resolve().parents[2] / "models" / "face68-xs" / "manifest.json"
MANIFEST = Manifest.from_json(DESCRIPTION.read_text(), DESCRIPTION)
MODEL = Model("face68-xs", None, "0" * 64, MANIFEST.to_json())
SCHEMA = schema_of(MANIFEST, MODEL.sha256)
WHOLE = Item("video", ("clip.mp4",))
PARTS = [
    Item("video", ("clip.mp4",), Part(0, 0, None, 0, 0, 100)),
    Item("video", ("clip.mp4",), Part(1, 100, 85, 85, 15, None)),
]
GAP = LeftOut(90, "10 frames cannot be decoded", 10, 3600.0)


def walking(index: int, track_id: int) -> Landmarks:
    """A face that has gone on by half its width after five frames."""
    count = len(MANIFEST.skeleton)
    points = np.random.default_rng(0).uniform(0, 100, (1, count, 2)).astype(np.float32)
    points[..., 0] += 10 * index
    box = np.array([[10 * index, 0, 100 + 10 * index, 100]], np.float32)
    return Landmarks(points, np.ones((1, count), np.float32), box, MANIFEST.skeleton, np.array([track_id]))


def frames(indices: Iterable[int], track_id: int, *gaps: LeftOut) -> list[tuple[str, Frame | LeftOut]]:
    image = np.zeros((1, 1, 3), np.uint8)
    found: list[Frame | LeftOut] = [Frame(i, 40.0 * i, image, walking(i, track_id)) for i in indices]
    return [("clip.mp4", frame) for frame in sorted([*found, *gaps], key=lambda frame: frame.index)]


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """Results of parts, the first of which ends with frames that are missing."""
    output = Output(str(tmp_path / "parts"))
    write_results(output, PARTS[0], SCHEMA, frames(range(90), 0, GAP))
    write_results(output, PARTS[1], SCHEMA, frames([*range(85, 90), *range(100, 120)], 3))
    return output


def test_a_face_keeps_its_track_id_across_a_joint_behind_frames_that_are_missing(output: Output) -> None:
    join_parts(WHOLE, PARTS, MODEL, output)
    rows = list(output.read_rows(output.landmarks_path(WHOLE)))
    assert [row["frame"] for row in rows] == [*range(91), *range(100, 120)]
    assert {row["id"] for row in rows} == {0, None}
    assert rows[90]["error"] == GAP.reason
    assert not output.exists(f"parts/{WHOLE.key}")
    assert not output.exists("jsonl")


def test_json_lines_of_parts_are_those_of_the_whole_video(output: Output, tmp_path: Path) -> None:
    join_parts(WHOLE, PARTS, MODEL, output, jsonl=True)
    whole = Output(str(tmp_path / "whole"))
    write_results(whole, WHOLE, SCHEMA, frames([*range(90), *range(100, 120)], 0, GAP), jsonl=True)
    lines = whole.read_bytes(f"jsonl/{WHOLE.key}.jsonl")
    assert b'"frames":10,"error"' in lines
    assert output.read_bytes(f"jsonl/{WHOLE.key}.jsonl") == lines


def test_json_lines_are_complete_before_the_file_that_marks_an_item_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, finished = Output(str(tmp_path)), []
    replacing = output.replacing

    @contextlib.contextmanager
    def noted(path: str) -> Iterator[Any]:
        with replacing(path) as file:
            yield file
        finished.append(path)

    monkeypatch.setattr(output, "replacing", noted)
    write_results(output, WHOLE, SCHEMA, frames(range(3), 0), jsonl=True)
    assert finished == [f"jsonl/{WHOLE.key}.jsonl", output.landmarks_path(WHOLE)]


def test_json_lines_of_an_item_that_fails_are_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, Frame | LeftOut]]:
        yield from frames(range(3), 0)
        raise InputError("breaks off")

    with pytest.raises(InputError):
        write_results(Output(str(tmp_path)), WHOLE, SCHEMA, broken(), jsonl=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
