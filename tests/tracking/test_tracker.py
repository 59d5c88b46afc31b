"""The tracker alone: what is localized in a box is made up here."""

from __future__ import annotations

import numpy as np
import pytest
from dots import TEMPLATE

from cunet_deploy.errors import InputError
from cunet_deploy.tracking.tracker import Cadence, Tracker

HERE, THERE = (100.0, 100.0), (400.0, 100.0)


def _points(center: tuple[float, float], half: float = 50) -> np.ndarray:
    return np.asarray(TEMPLATE * half + np.array(center))


def _boxes(*centers: tuple[float, float]) -> np.ndarray:
    return np.array([[x - 50, y - 50, x + 50, y + 50] for x, y in centers]).reshape(-1, 4)


class World:
    """Objects at places; a network that finds the object nearest to the middle of a box that it touches."""

    def __init__(self, *centers: tuple[float, float]) -> None:
        self.objects = [np.array(center) for center in centers]
        self.looks = 0

    def detect(self) -> np.ndarray:
        self.looks += 1
        return _boxes(*map(tuple, self.objects))

    def localize(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, scores = np.zeros((len(boxes), 5, 2)), np.zeros((len(boxes), 5))
        for index, box in enumerate(boxes):
            middle = (box[:2] + box[2:]) / 2
            points[index] = _points(tuple(middle))
            near = [center for center in self.objects if np.abs(center - middle).max() < 50]
            if near:
                points[index] = _points(tuple(min(near, key=lambda c: float(np.abs(c - middle).max()))))
                scores[index] = 0.9
        return points, scores

    def step(self, tracker: Tracker) -> dict[int, tuple[float, float]]:
        plan = tracker.plan(self.detect() if tracker.wants_detection() else None)
        points, scores = self.localize(plan.boxes)
        kept, identities = tracker.update(plan, points, scores)
        return {int(i): tuple(points[k].mean(axis=0).round(6)) for k, i in zip(kept, identities, strict=True)}


def test_an_object_is_detected_once_and_then_followed() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=0))
    for _ in range(40):
        world.objects[0] = world.objects[0] + [9, 4]
        found = world.step(tracker)
        assert list(found) == [0]
        assert np.allclose(found[0], _points(tuple(world.objects[0])).mean(axis=0))
    assert world.looks == 1


def test_an_empty_video_is_searched_only_every_few_frames() -> None:
    world, tracker = World(), Tracker(0.5, Cadence(every=15, retry=5))
    for _ in range(51):
        assert world.step(tracker) == {}
    assert world.looks == 11


def test_a_new_object_is_picked_up_at_the_next_periodic_look() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=10))
    assert list(world.step(tracker)) == [0]
    world.objects.append(np.array(THERE))
    seen = [sorted(world.step(tracker)) for _ in range(12)]
    assert [0, 1] in seen
    assert seen[:9] == [[0]] * 9
    assert seen[-1] == [0, 1]


def test_two_objects_keep_their_numbers_while_they_move() -> None:
    world, tracker = World(HERE, THERE), Tracker(0.5, Cadence(every=7))
    start = world.step(tracker)
    for step in range(30):
        world.objects = [np.array((HERE[0] + step, HERE[1] + 5)), np.array((THERE[0] - step, THERE[1] - 3))]
        found = world.step(tracker)
        assert sorted(found) == [0, 1]
        for identity in (0, 1):
            assert abs(found[identity][0] - start[identity][0]) <= step + 1e-6


def test_an_object_hidden_for_a_moment_comes_back_under_its_number() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=0, retry=50))
    world.step(tracker)
    hidden, world.objects = world.objects, []
    assert world.step(tracker) == {}
    assert world.step(tracker) == {}
    world.objects = hidden
    assert list(world.step(tracker)) == [0]


def test_a_lost_object_is_looked_for_where_it_was_in_five_more_frames() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=0, retry=1000))
    world.step(tracker)
    world.objects, planned = [], []
    for _ in range(8):
        plan = tracker.plan(None)
        planned.append(len(plan.boxes))
        tracker.update(plan, *world.localize(plan.boxes))
    assert planned == [1] * 6 + [0] * 2


@pytest.mark.parametrize(("away", "number"), [(25, 0), (45, 1)])
def test_a_track_id_is_kept_for_an_object_that_left_for_thirty_frames(away: int, number: int) -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=0, retry=1))
    world.step(tracker)
    objects, world.objects = world.objects, []
    for _ in range(away):
        assert world.step(tracker) == {}
    world.objects = objects
    assert list(world.step(tracker)) == [number]


def test_an_object_that_left_is_not_followed_and_the_next_one_gets_a_new_number() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=0, retry=2))
    world.step(tracker)
    world.objects = []
    for _ in range(10):
        assert world.step(tracker) == {}
    world.objects = [np.array(THERE)]
    found = [world.step(tracker) for _ in range(3)]
    assert list(found[-1]) == [1]


def test_two_boxes_that_find_the_same_object_become_one() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence())
    near = np.concatenate([_boxes(HERE), _boxes((140, 100))])
    plan = tracker.plan(near)
    assert len(plan.boxes) == 2
    kept, identities = tracker.update(plan, *world.localize(plan.boxes))
    assert identities.tolist() == [0]
    assert len(kept) == 1


@pytest.mark.parametrize(("shift", "kept"), [(20, [1]), (33, [1]), (34, [0, 1]), (50, [0, 1])])
def test_of_results_that_overlap_by_half_the_surest_stays(shift: float, kept: list[int]) -> None:
    tracker = Tracker(0.5, Cadence())
    plan = tracker.plan(_boxes(HERE, (HERE[0] + shift, HERE[1])))
    points = np.stack([_points(HERE), _points((HERE[0] + shift, HERE[1]))])
    found, _ = tracker.update(plan, points, np.repeat([[0.6], [0.9]], 5, axis=1))
    assert sorted(found.tolist()) == kept


def test_tracks_that_run_into_one_object_keep_the_older_number() -> None:
    world, tracker = World(HERE, (180, 100)), Tracker(0.5, Cadence(every=0))
    assert sorted(world.step(tracker)) == [0, 1]
    world.objects = [np.array((140.0, 100.0))]
    assert list(world.step(tracker)) == [0]


def test_what_the_detector_does_not_see_twice_in_a_row_is_given_up() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=5, retry=100))
    world.step(tracker)
    world.detect = lambda: np.zeros((0, 4))  # type: ignore[method-assign]
    alive = [bool(world.step(tracker)) for _ in range(12)]
    assert alive[:9] == [True] * 9
    assert not alive[-1]


def test_a_detection_is_of_the_track_that_it_overlaps_most() -> None:
    beside = (HERE[0] + 50, HERE[1])  # a third of the union
    world, tracker = World(HERE, beside), Tracker(0.5, Cadence(every=1))
    assert sorted(world.step(tracker)) == [0, 1]
    world.detect = lambda: _boxes(beside)  # type: ignore[method-assign]
    assert [sorted(world.step(tracker)) for _ in range(2)] == [[0, 1], [1]]


def test_an_object_that_comes_back_is_the_one_that_left_nearest_to_it() -> None:
    beside = (HERE[0] + 50, HERE[1])
    world, tracker = World(HERE, beside), Tracker(0.5, Cadence(every=0, retry=1))
    assert sorted(world.step(tracker)) == [0, 1]
    world.objects = []
    for _ in range(4):
        assert world.step(tracker) == {}
    world.objects = [np.array(beside)]
    assert list(world.step(tracker)) == [1]


def test_given_boxes_are_used_as_they_are_whatever_the_score() -> None:
    world, tracker = World(), Tracker(0.5, Cadence(every=1, exact=True))
    for center in ((100.0, 100.0), (110.0, 100.0), (120.0, 100.0)):
        assert tracker.wants_detection()
        plan = tracker.plan(_boxes(center))
        np.testing.assert_array_equal(plan.boxes, _boxes(center))
        _, identities = tracker.update(plan, *world.localize(plan.boxes))
        assert identities.tolist() == [0]


def test_between_given_boxes_the_object_is_followed() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=1, exact=True))
    plan = tracker.plan(_boxes(HERE))
    tracker.update(plan, *world.localize(plan.boxes))
    world.objects = [np.array((120.0, 110.0))]
    plan = tracker.plan(np.zeros((0, 4)))
    _, identities = tracker.update(plan, *world.localize(plan.boxes))
    assert identities.tolist() == [0]


def test_results_come_in_order_of_their_numbers() -> None:
    world, tracker = World(HERE, THERE), Tracker(0.5, Cadence(every=1))
    world.step(tracker)
    plan = tracker.plan(_boxes(THERE, HERE))
    _, identities = tracker.update(plan, *world.localize(plan.boxes))
    assert identities.tolist() == [0, 1]


def test_after_a_cut_everything_is_new_and_is_looked_for_at_once() -> None:
    world, tracker = World(HERE), Tracker(0.5)
    first = world.step(tracker)
    tracker.begin_shot()
    assert tracker.wants_detection()
    assert set(world.step(tracker)).isdisjoint(first)


def test_an_object_that_comes_back_where_it_was_gets_its_number_back() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=5, retry=2))
    world.step(tracker)
    objects, world.objects = world.objects, []
    for _ in range(15):  # longer than a lost object is looked for
        assert not world.step(tracker)
    world.objects = objects
    found = [world.step(tracker) for _ in range(3)]
    assert {number for frame in found for number in frame} == {0}


def test_an_object_whose_score_falls_is_looked_for_before_it_is_lost() -> None:
    tracker = Tracker(0.3, Cadence(every=1000, retry=1))
    points = _points(HERE)[None]
    for score in [0.9] * 10 + [0.5]:
        plan = tracker.plan(_boxes(HERE) if tracker.wants_detection() else None)
        kept, _ = tracker.update(plan, points, np.full((1, 5), score))
        assert len(kept) == 1
    assert tracker.wants_detection()


@pytest.mark.parametrize(
    ("scores", "falls"), [([0.7], False), ([0.65], True), ([0.7, 0.55], True), ([0.7] * 30 + [0.55], False)]
)
def test_a_score_falls_against_the_usual_one_of_many_frames(scores: list[float], falls: bool) -> None:
    tracker = Tracker(0.3, Cadence(every=1000, retry=1))
    for score in [0.9] * 10 + scores:
        assert not tracker._tracks or not tracker.wants_detection()
        plan = tracker.plan(_boxes(HERE) if tracker.wants_detection() else None)
        tracker.update(plan, _points(HERE)[None], np.full((1, 5), score))
    assert tracker.wants_detection() == falls


def test_how_often_to_look_can_be_set_on_the_way() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=10))
    tracker.pace(3)
    for _ in range(9):
        world.step(tracker)
    assert world.looks == 3


def test_what_is_followed_may_be_less_sure_than_what_is_new() -> None:
    world, tracker = World(HERE), Tracker(0.5, Cadence(every=0), keep_score=0.425)

    def step(score: float) -> int:
        plan = tracker.plan(world.detect() if tracker.wants_detection() else None)
        points, scores = world.localize(plan.boxes)
        return len(tracker.update(plan, points, np.minimum(scores, score))[0])

    assert [step(score) for score in (0.45, 0.45, 0.45, 0.45)] == [0, 0, 0, 0]
    assert [step(score) for score in (0.6, 0.6, 0.6, 0.45, 0.45, 0.4)] == [0, 0, 1, 1, 1, 0]


def test_what_the_detector_is_confident_of_needs_half_the_score_while_it_sees_it() -> None:
    tracker, points = Tracker(0.5, Cadence(every=2)), _points(HERE)[None]

    def step(boxes: np.ndarray, sure: list[bool], score: float) -> int:
        plan = tracker.plan(boxes, sure) if tracker.wants_detection() else tracker.plan(None)
        count = len(plan.boxes)
        return len(tracker.update(plan, np.tile(points, (count, 1, 1)), np.full((count, 5), score))[0])

    assert step(_boxes(HERE), [False], 0.49) == 0
    tracker.begin_shot()
    assert step(_boxes(HERE), [True], 0.24) == 0
    tracker.begin_shot()
    # confident once, then seen again, then not seen
    looks = [(_boxes(HERE), [True])] + [(_boxes(HERE), [False])] * 4 + [(_boxes(), [])] * 2
    assert [step(*look, 0.26) for look in looks] == [1, 1, 1, 1, 1, 1, 0]


def test_a_given_box_needs_half_the_score_until_a_frame_without_boxes() -> None:
    tracker, points = Tracker(0.5, Cadence(exact=True)), _points(HERE)[None]
    for sure, boxes, found in ((True, _boxes(HERE), True), (False, _boxes(HERE), True), (False, _boxes(), False)):
        plan = tracker.plan(boxes, [sure] * len(boxes))
        kept, _ = tracker.update(plan, points, np.full((1, 5), 0.3))
        assert (len(kept) == 1) == found


@pytest.mark.parametrize(("boxes", "sure"), [(_boxes(HERE), [True, True]), (None, [True]), (_boxes(), [False])])
def test_each_detection_has_its_confidence(boxes: np.ndarray | None, sure: list[bool]) -> None:
    with pytest.raises(InputError, match="one value for each detection"):
        Tracker(0.5).plan(boxes, sure)


def follow(tracker: Tracker, boxes: np.ndarray | None, center: tuple[float, float], half: float) -> list[int]:
    """One frame in which landmarks are found at a place in every planned box; the track ids."""
    plan = tracker.plan(boxes)
    count = len(plan.boxes)
    points = np.tile(_points(center, half), (count, 1, 1))
    return [int(track_id) for track_id in tracker.update(plan, points, np.full((count, 5), 0.9))[1]]


def test_a_box_that_shrank_onto_a_part_of_its_object_takes_that_of_the_detector() -> None:
    tracker, whole = Tracker(0.5, Cadence(every=1)), np.array([[0.0, 0.0, 100.0, 300.0]])
    assert follow(tracker, whole, (50, 60), 40) == [0]
    followed = tracker.boxes()
    assert followed[0, 3] < 120
    plan = tracker.plan(whole)
    assert len(plan.boxes) == 1, "the same object, and no second one around it"
    np.testing.assert_array_equal(plan.boxes, whole)


def test_a_detection_around_a_followed_object_that_has_its_own_is_another_object() -> None:
    tracker = Tracker(0.5, Cadence(every=1))
    small, large = [0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 400.0, 400.0]
    assert follow(tracker, np.array([small]), (50, 50), 48) == [0]
    plan = tracker.plan(np.array([large, small]))
    assert [track.track_id for track in plan.tracks] == [0, -1]
    np.testing.assert_array_equal(plan.boxes[1], large)


def test_what_was_given_up_inside_a_new_object_gives_it_its_id() -> None:
    tracker = Tracker(0.5, Cadence(every=0, retry=1))
    assert follow(tracker, np.array([[0.0, 100.0, 60.0, 160.0]]), (30, 130), 28) == [0]
    nobody = np.zeros((0, 4))
    for _ in range(3):
        plan = tracker.plan(nobody)
        tracker.update(plan, np.zeros((len(plan.boxes), 5, 2)), np.zeros((len(plan.boxes), 5)))
    assert not len(tracker.boxes())
    assert follow(tracker, np.array([[0.0, 0.0, 150.0, 300.0]]), (75, 150), 74) == [0]


@pytest.mark.parametrize("detections", [np.ones((4, 5)), np.ones(4), [[0, 0, 0, 9]], [[0, 0, np.nan, 9]]])
def test_what_are_no_boxes_is_refused(detections: list[list[float]]) -> None:
    tracker = Tracker(0.5)
    with pytest.raises(InputError, match="box"):
        tracker.plan(detections)
    assert len(tracker.plan([[0, 0, 9, 9]]).boxes) == 1


@pytest.mark.parametrize(
    ("points", "scores"), [((2, 5, 2), (2, 5)), ((1, 5, 2), (1, 4)), ((1, 5), (1, 5)), ((1, 2), (1,))]
)
def test_results_of_other_boxes_are_refused(points: tuple[int, ...], scores: tuple[int, ...]) -> None:
    tracker = Tracker(0.5)
    plan = tracker.plan(_boxes(HERE))
    with pytest.raises(InputError, match=r"a plan of 1 boxes takes points \(1, K, 2\) and scores \(1, K\)"):
        tracker.update(plan, np.zeros(points), np.zeros(scores))
