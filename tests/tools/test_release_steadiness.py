"""Paths of people are followed while their track is there, and measured where joints are sure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.media import Frame
from cunet_deploy.skeletons import LSP14
from tools.docs import __main__ as docs
from tools.release import steadiness

ROOT = Path(__file__).resolve().parents[2]
KNEES = [LSP14.landmarks.index(f"{side}_knee") for side in ("left", "right")]


def person() -> np.ndarray:
    """Joints on a circle, so that no two are at one place."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * 100


def frames(tracks: Sequence[Sequence[int]], score: float = 0.9, swapped: Sequence[int] = ()) -> Iterator[Frame]:
    """A frame for each list of track ids, a tenth of a second apart; in some the knees are exchanged."""
    for index, ids in enumerate(tracks):
        points = np.repeat(person()[None], len(ids), axis=0).astype(np.float32)
        if index in swapped:
            points[:, KNEES] = points[:, KNEES[::-1]]
        scores, boxes = np.full((len(ids), 14), score, np.float32), np.zeros((len(ids), 4), np.float32)
        landmarks = Landmarks(points, scores, boxes, LSP14, np.array(ids, np.int64))
        yield Frame(index, 100.0 * index, np.zeros((8, 8, 3), np.uint8), landmarks)


def test_a_path_ends_where_its_track_is_not_there_and_short_ones_do_not_count() -> None:
    paths = list(steadiness.paths_of(frames([[1], [1, 2], [1, 2], [2], [1, 2], [1], [1], [1]])))
    assert [len(path.points) for path in paths] == [3, 4, 4]
    assert [path.milliseconds for path in paths] == pytest.approx([200, 300, 300])


def test_a_swap_of_the_knees_is_counted_there_and_back() -> None:
    clip = frames([[1]] * 11, swapped=[5])
    figures = steadiness.measure(steadiness.paths_of(clip), LSP14)
    assert figures["exchanges"] == 2
    assert figures["exchanges_per_minute"] == pytest.approx(2 / (1 / 60), rel=0.02)
    assert figures["jitter_p50_percent"] == 0


def test_joints_that_are_unsure_do_not_count() -> None:
    with pytest.raises(InputError, match="nobody was followed long enough in these clips"):
        steadiness.measure(steadiness.paths_of(frames([[1]] * 11, score=0.4, swapped=[5])), LSP14)


def test_a_pattern_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"asl_\*.mkv: there is no such file"):
        steadiness.clips_of(str(tmp_path / "asl_*.mkv"))


def test_what_the_cards_quote_is_current() -> None:
    assert steadiness in docs.OF_CARDS
    assert steadiness.update_cards(ROOT / "models", write=False) == []
