"""Following objects through a video: each box follows from the landmarks of the frame before. Pure bookkeeping.

For each frame: `Tracker.wants_detection` says whether to look for objects, `Tracker.plan` gives the boxes to localize
in, and `Tracker.update` takes what was found there and says which of it to believe, and under which track id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.detection.confirmation import SAME_OBJECT_IOU, least_score
from cunet_deploy.detection.search import plausible
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou, landmark_boxes, share_inside
from cunet_deploy.locate import check_boxes

__all__ = ["Cadence", "Plan", "Track", "Tracker"]

FloatArray = NDArray[np.float64]

_DUPLICATE_IOU = 0.5
"""Two results that overlap by this much are one object."""
_SAME_OBJECT_INSIDE = 0.8
"""Share of a followed box inside that of a detection from which it has shrunk onto a part of the detected object."""
_MAX_UNSEEN = 2
"""Looks of a detector in a row that a followed object may be missing from: the network alone can mistake background."""
_MAX_MISSED_FRAMES = 5
"""Frames for which a lost object is still looked for where it was."""
_MAX_LOST_FRAMES = 30
"""Frames for which one that was given up gets its track id back when it is detected where it was last."""
_FALLING_RATIO = 0.75
"""Share of its usual confidence from which an object is looked for again: it is about to be lost."""
_CONFIDENCE_MEMORY = 0.9
"""Share that the usual confidence keeps of itself from frame to frame."""


@dataclass(frozen=True)
class Cadence:
    """Intervals at which the detector runs.

    Attributes:
        every: frames between looks while objects are followed; 0: then never.
        retry: frames between looks while something is missing.
        exact: detections are used as they are, in place of boxes that follow, and are believed whatever their score.
    """

    every: int = 15
    retry: int = 3
    exact: bool = False


@dataclass(frozen=True)
class Track:
    """An object that is followed.

    Attributes:
        track_id: -1 until it was found for the first time.
        box: (4,) xyxy where to look next.
        missed: frames since it was last found.
        given: the box is an exact detection of this frame.
        unseen: looks of the detector in a row that did not see it.
        sure: the detector was confident of it, and has seen it in every look since.
        usual: its mean score over the last frames.
        falling: its score is far below that.
    """

    track_id: int
    box: FloatArray
    missed: int = 0
    given: bool = False
    unseen: int = 0
    sure: bool = False
    usual: float = 0.0
    falling: bool = False


@dataclass(frozen=True)
class Plan:
    """Boxes to localize in one frame: (N, 4) boxes and the track of each."""

    boxes: FloatArray
    tracks: tuple[Track, ...]


class Tracker:
    """State of one video. Not for several threads; make one for each video.

    Example:
        >>> tracker = Tracker(min_score=0.3)
        >>> for image in video:
        ...     boxes = my_detector(image) if tracker.wants_detection() else None
        ...     plan = tracker.plan(boxes)
        ...     points, scores = my_localizer(image, plan.boxes)  # (N, K, 2), (N, K)
        ...     kept, ids = tracker.update(plan, points, scores)
        ...     points = points[kept]  # those to believe, with their track ids
    """

    def __init__(self, min_score: float, cadence: Cadence | None = None, keep_score: float | None = None) -> None:
        """Start without objects.

        Args:
            min_score: mean landmark score from which an object counts as found; half of it is enough for one that the
                detector is confident of.
            cadence: how often to look for new ones; ``None``: the defaults.
            keep_score: the same for an object that was found in the frame before; ``None``: ``min_score``.
        """
        self._min_score = min_score
        self._keep_score = min_score if keep_score is None else keep_score
        self._cadence = cadence or Cadence()
        self._gone: tuple[Track, ...] = ()
        self._tracks: tuple[Track, ...] = ()
        self._next_id = 0
        self._since_look: int | None = None

    def wants_detection(self) -> bool:
        """Return whether this frame should be searched before `plan`."""
        if self._since_look is None or self._cadence.exact:
            return True
        every, retry = self._cadence.every, self._cadence.retry
        found = any(track.missed == 0 for track in self._tracks)
        lost = any(track.missed > 0 or track.falling for track in self._tracks)
        if found and (every == 0 or not lost):
            return 0 < every <= self._since_look
        return self._since_look >= retry

    def begin_shot(self) -> None:
        """Another shot begins with this frame: nothing that was followed is there any more."""
        self._tracks, self._gone, self._since_look = (), (), None

    def pace(self, every: int) -> None:
        """Look for objects every so many frames from now on while all are found, for a video that must keep up."""
        if self._cadence.every not in (0, every):
            self._cadence = replace(self._cadence, every=every)

    def boxes(self) -> FloatArray:
        """(N, 4) where the objects that are followed should be in this frame."""
        return np.array([track.box for track in self._tracks if track.missed == 0], np.float64).reshape(-1, 4)

    def plan(self, detections: ArrayLike | None, sure: ArrayLike | None = None) -> Plan:
        """Choose where to localize: followed boxes, and detections that are not followed yet.

        Args:
            detections: (M, 4) xyxy boxes, best first; ``None`` where the frame was not searched.
            sure: (M,) whether the detector is confident of them, so that lower scores of landmarks are enough;
                ``None``: of none.

        Raises:
            InputError: the boxes have another shape, are not finite, or one has no area; or ``sure`` is not of M.
        """
        found = None if detections is None else check_boxes(detections)
        confident = np.zeros(0 if found is None else len(found), np.bool_)
        if sure is not None:
            confident = np.asarray(sure, np.bool_)
            if found is None or confident.shape != (len(found),):
                raise InputError(f"sure has shape {confident.shape}; expected one value for each detection")
        self._since_look = 1 if found is not None else (self._since_look or 0) + 1
        tracks = list(self._tracks)
        if found is not None:
            tracks = self._merge(tracks, found, confident)
        return Plan(np.array([track.box for track in tracks], np.float64).reshape(-1, 4), tuple(tracks))

    def _merge(self, tracks: list[Track], detections: FloatArray, sure: NDArray[np.bool_]) -> list[Track]:
        """Give each detection to the track that it overlaps most, else to one that it holds, or start a new one."""
        exact = self._cadence.exact
        followed = np.array([track.box for track in tracks]).reshape(-1, 4)
        taken: dict[int, int] = {}
        left: list[int] = []
        for place, row in enumerate(box_iou(detections, followed)):
            free = [index for index in range(len(tracks)) if index not in taken and row[index] >= SAME_OBJECT_IOU]
            if free:
                taken[max(free, key=lambda index: float(row[index]))] = place
            elif exact or not len(row) or row.max() < SAME_OBJECT_IOU:
                left.append(place)
        fresh: list[Track] = []
        shrunk: set[int] = set()
        for place in left:
            box = detections[place]
            inside = np.zeros(0) if exact else share_inside(followed, box[None])[:, 0]
            held = [index for index, share in enumerate(inside) if index not in taken and share >= _SAME_OBJECT_INSIDE]
            if held:
                shrunk.add(held[0])
                taken[held[0]] = place
            else:
                fresh.append(Track(-1, box, given=exact, sure=bool(sure[place])))
        if exact:
            if not len(detections):
                return [replace(track, sure=False) for track in tracks]
            given = [
                replace(tracks[index], box=detections[place], given=True, sure=tracks[index].sure or bool(sure[place]))
                for index, place in taken.items()
            ]
            return given + fresh
        # a lost object that is detected again is looked for there; one that is followed keeps its own, steadier box
        kept: list[Track] = []
        for index, track in enumerate(tracks):
            if index not in taken:
                kept.append(replace(track, unseen=track.unseen + 1, sure=False))
            else:
                box = detections[taken[index]] if track.missed > 0 or index in shrunk else track.box
                kept.append(replace(track, box=box, unseen=0, sure=track.sure or bool(sure[taken[index]])))
        return [track for track in kept if track.unseen < _MAX_UNSEEN] + fresh

    def update(
        self, plan: Plan, points: NDArray[np.floating], scores: NDArray[np.floating], *, again: bool = False
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Take what was localized in the N boxes of the plan of a frame.

        Args:
            plan: of this frame.
            points: (N, K, 2) pixels of the frame.
            scores: (N, K).
            again: the frame was searched after an update in which all was lost, and this is the second one of it.

        Returns:
            kept: (M,) indices of the results to believe, by rising track id.
            track_ids: (M,) of them.

        Raises:
            InputError: the points or scores are not those of N boxes.
        """
        _check_results(len(plan.tracks), points, scores)
        confidence = scores.mean(axis=1) if len(plan.tracks) else np.zeros(0)
        boxes = landmark_boxes(points) if len(plan.tracks) else np.zeros((0, 4))
        good = (confidence >= self._least_scores(plan)) & plausible(boxes, plan.boxes)
        # an older track wins over a younger one, a more certain new object over a less certain one
        order = sorted(
            range(len(plan.tracks)),
            key=lambda i: (plan.tracks[i].track_id < 0, plan.tracks[i].track_id, -float(confidence[i])),
        )
        following: list[Track] = []
        passed = 0 if again else 1  # frames since the last update
        gone, results = self._given_up(plan, passed), list[tuple[int, int]]()
        for index in order:
            track = plan.tracks[index]
            believed = bool(good[index])
            if believed and not track.given and _overlaps(boxes[index], following):
                continue
            if not (believed or track.given):
                if track.track_id >= 0 and track.missed < _MAX_MISSED_FRAMES:
                    following.append(replace(track, missed=track.missed + passed, given=False))
                elif track.track_id >= 0:
                    gone.append(replace(track, unseen=0))
                continue
            track_id = track.track_id if track.track_id >= 0 else self._id_at(boxes[index], gone)
            results.append((track_id, index))
            box, score = boxes[index] if believed else track.box, float(confidence[index])
            following.append(
                Track(
                    track_id,
                    box,
                    0 if believed else track.missed + passed,
                    unseen=track.unseen,
                    sure=track.sure,
                    usual=_CONFIDENCE_MEMORY * track.usual + (1 - _CONFIDENCE_MEMORY) * score if track.usual else score,
                    falling=score < _FALLING_RATIO * track.usual,
                )
            )
        self._tracks, self._gone = tuple(following), tuple(gone)
        results.sort()
        kept = np.array([index for _, index in results], np.intp)
        return kept, np.array([track_id for track_id, _ in results], np.int64)

    def _least_scores(self, plan: Plan) -> FloatArray:
        """(N,) mean landmark score from which each result is believed."""
        followed = np.array([track.track_id >= 0 and not track.missed for track in plan.tracks], np.bool_)
        sure = np.array([track.sure for track in plan.tracks], np.bool_)
        return np.minimum(np.where(followed, self._keep_score, np.inf), least_score(self._min_score, sure))

    def _given_up(self, plan: Plan, passed: int) -> list[Track]:
        """Tracks that were given up a moment ago, and those that the plan of a frame leaves out."""
        known = (track for track in self._gone if not passed or track.unseen < _MAX_LOST_FRAMES)
        planned = {track.track_id for track in plan.tracks}
        left_out = (track for track in self._tracks if track.track_id not in planned)
        return [*(replace(t, unseen=t.unseen + passed) for t in known), *(replace(t, unseen=0) for t in left_out)]

    def _id_at(self, box: FloatArray, gone: list[Track]) -> int:
        """The track id of what was given up here a moment ago, which is taken off the list, or the next one."""
        boxes = np.array([track.box for track in gone]).reshape(-1, 4)
        overlaps, inside = box_iou(box[None], boxes)[0], share_inside(boxes, box[None])[:, 0]
        same = (overlaps >= SAME_OBJECT_IOU) | (inside >= _SAME_OBJECT_INSIDE)
        if same.any():
            return gone.pop(int(np.where(same, overlaps, -1).argmax())).track_id
        self._next_id += 1
        return self._next_id - 1


def _check_results(count: int, points: NDArray[np.floating], scores: NDArray[np.floating]) -> None:
    """Refuse results that are not those of as many boxes; of no box anything will do."""
    fits = len(points) == len(scores) == count and points.shape == (*scores.shape, 2) and scores.ndim == 2
    if count and not fits:
        raise InputError(
            f"a plan of {count} boxes takes points ({count}, K, 2) and scores ({count}, K), got {points.shape} and "
            f"{scores.shape}"
        )


def _overlaps(box: FloatArray, tracks: list[Track]) -> bool:
    """Return whether a found object lies on one of these."""
    found = [track.box for track in tracks if track.missed == 0]
    return bool(found) and float(box_iou(box[None], np.array(found)).max()) >= _DUPLICATE_IOU
