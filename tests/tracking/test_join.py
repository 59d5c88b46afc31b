"""Parts of a video put together again."""

from __future__ import annotations

import numpy as np
import pytest
from dots import DOTS, TEMPLATE

from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.tracking.join import PartJoiner

Objects = dict[int, tuple[float, float]]


def frame(objects: Objects) -> Landmarks:
    ids = np.array(sorted(objects), np.int64)
    points = np.array([TEMPLATE * 20 + objects[i] for i in ids.tolist()], np.float32).reshape(-1, 5, 2)
    return Landmarks(points, np.ones((len(ids), 5), np.float32), np.zeros((len(ids), 4), np.float32), DOTS, ids)


def video(count: int) -> list[Objects]:
    """Two objects that walk past each other; the second comes later and leaves earlier."""
    frames = []
    for t in range(count):
        objects: Objects = {0: (50 + 4.0 * t, 100)}
        if 10 <= t < 30:
            objects[1] = (300 - 4.0 * t, 160)
        frames.append(objects)
    return frames


def places(frames: list[Landmarks]) -> list[dict[int, tuple[float, ...]]]:
    return [
        {int(i): tuple(points.mean(axis=0).round(3).tolist()) for i, points in zip(each.ids, each.points, strict=True)}
        for each in frames
    ]


@pytest.mark.parametrize("size", [4, 7, 12, 25, 60])
def test_objects_keep_their_ids_across_joints(size: int) -> None:
    truth, overlap = video(40), 4
    joiner, joined = PartJoiner(overlap), list[Landmarks]()
    for start in range(0, 40, size):
        own: dict[int, int] = {}  # each part counts in the order in which it meets the objects, the second one first
        part = []
        for objects in truth[max(start - overlap, 0) : start + size]:
            for i in sorted(objects, reverse=True):
                own.setdefault(i, len(own))
            part.append(frame({own[i]: place for i, place in objects.items()}))
        joined += joiner.add(part)
    assert places(joined) == places([frame(objects) for objects in truth])


def test_what_is_new_gets_the_next_id() -> None:
    joiner = PartJoiner(1)
    joiner.add([frame({0: (50, 50)})])
    (found,) = joiner.add([frame({0: (200, 50), 1: (51, 50)}), frame({0: (200, 50), 1: (52, 50)})])
    assert found.ids.tolist() == [0, 1]
    np.testing.assert_allclose(found.points.mean(axis=1), [[52, 50], [200, 50]], atol=1e-4)
    (later,) = joiner.add([frame({0: (400, 50)}), frame({0: (400, 50)})])
    assert later.ids.tolist() == [2]


def test_two_tracks_of_a_part_never_become_one() -> None:
    joiner = PartJoiner(2)
    joiner.add([frame({0: (50, 50)}), frame({0: (50, 50)})])
    # a track that ends and another that begins in its place
    (found,) = joiner.add([frame({0: (50, 50)}), frame({1: (50, 50)}), frame({0: (90, 50), 1: (50, 50)})])
    assert len(set(found.ids.tolist())) == 2


def test_a_track_is_that_on_which_it_lies_in_most_frames() -> None:
    joiner = PartJoiner(4)
    joiner.add([frame({0: (50, 50), 1: (200, 50)})] * 4)
    (found,) = joiner.add([*[frame({0: (50, 50)})] * 3, frame({0: (200, 50)}), frame({0: (210, 50)})])
    assert found.ids.tolist() == [0]


def test_in_a_frame_each_object_lies_on_one_other() -> None:
    joiner, near = PartJoiner(3), frame({0: (52, 50), 1: (72, 50)})
    joiner.add([*[frame({0: (50, 50), 1: (70, 50)})] * 2, frame({1: (70, 50)})])
    # the first overlaps the second of before in all frames, but in two of them another one overlaps that more
    (found,) = joiner.add([near, near, frame({0: (60, 50)}), near])
    assert places([found]) == places([near])


def test_parts_without_overlap_go_on_counting() -> None:
    joiner = PartJoiner(0)
    ids = [each.ids.tolist() for _ in range(2) for each in joiner.add([frame({0: (50, 50)})])]
    assert ids == [[0], [1]]


def test_a_part_that_is_too_short_is_refused() -> None:
    joiner = PartJoiner(3)
    joiner.add([frame({})] * 5)
    with pytest.raises(InputError, match="cannot overlap the one before by 3"):
        joiner.add([frame({})] * 2)
    with pytest.raises(InputError, match="0 frames or more"):
        PartJoiner(-1)
