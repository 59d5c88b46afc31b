"""Frames with and without people are counted as they were marked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.media import Frame
from cunet_deploy.skeletons import LSP14
from tools.release import people as people_tool

script = people_tool


def frames(*middles: float | None) -> Iterator[Frame]:
    """A frame each: a person whose middle is there, or nobody."""
    for index, x in enumerate(middles):
        found = 0 if x is None else 1
        points = np.zeros((found, 14, 2), np.float32)
        points[:, :, 0] = 0 if x is None else np.linspace(x - 40, x + 40, 14)
        points[:, :, 1] = np.linspace(0, 200, 14)
        ids = np.full(found, index // 2, np.int64)
        landmarks = Landmarks(points, np.ones((found, 14), np.float32), np.zeros((found, 4), np.float32), LSP14, ids)
        yield Frame(index, 100.0 * index, np.zeros((8, 8, 3), np.uint8), landmarks)


def test_a_person_counts_where_the_marked_one_is_and_nowhere_else() -> None:
    mark = script.Mark
    marks = {0: mark("whole", 100), 1: mark("whole", 100), 2: mark("whole", 100), 3: mark("part", float("nan"))}
    marks |= {4: mark("empty", float("nan")), 6: mark("empty", float("nan"))}
    counts = script.count(frames(130, 300, None, 5, None, None, 7), marks)
    assert counts == {"whole": 3, "found": 1, "empty": 2, "nobody": 1, "numbers": 3}


def test_whoever_is_found_where_nobody_is_is_a_mistake() -> None:
    counts = script.count_mistakes("film.mp4", frames(None, 100, 20, None))
    assert counts == {"clip": "film.mp4", "frames": 4, "somebody": 2}
    whole = {"clip": "c", "detector": "d", "found": 1, "whole": 1, "nobody": 1, "empty": 1, "numbers": 1}
    assert "somebody is found in 2 of\n4 frames." in script.text_of({**whole, "without_people": counts})
    assert "somebody" not in script.text_of(whole)


def test_another_clip_is_refused() -> None:
    with pytest.raises(InputError, match="the clip has 2 of 100 marked frames"):
        script.count(frames(*[None] * 20), script.read_marks())


def test_the_marks_are_of_a_hundred_frames() -> None:
    marks = script.read_marks()
    assert sorted(marks) == list(range(0, 1394, 14))
    assert {mark.shown for mark in marks.values()} == {"whole", "part", "empty"}
    assert all(np.isfinite(mark.x) == (mark.shown == "whole") for mark in marks.values())


def test_what_the_cards_quote_is_current() -> None:
    assert script.update_cards(Path(script.ROOT) / "models", write=False) == []
