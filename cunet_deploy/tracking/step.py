"""Steps of one frame: those that `Localizer`, ``infer`` and ``bench`` take, one frame at a time.

`VideoStep` looks for the boundary of a shot, asks the detector when it is time, localizes in the boxes that are
followed or new, decides which results to believe and under which track id, and steadies them. `ImageStep` does what is
left of that for pictures that do not follow each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.detection.base import Detector
from cunet_deploy.detection.confirmation import Detections, detect_confirmed, least_score
from cunet_deploy.detection.search import plausible
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import landmark_boxes
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.locate import locate
from cunet_deploy.pixels import as_bgr, depth_of
from cunet_deploy.sessions.base import Session
from cunet_deploy.tracking.one_euro import ASSUMED_STEP_MS, Smoother, Smoothing
from cunet_deploy.tracking.shot_boundary import ShotBoundaryDetector, make_thumbnail
from cunet_deploy.tracking.tracker import Cadence, Tracker

__all__ = ["STAGES", "ImageStep", "VideoState", "VideoStep", "check_landmarks"]

STAGES = ("detect", "crop", "track")
"""Stages that a step reports as it begins them: looking for objects and confirming them; cropping, which the network
and its decoding follow; and what ties frames together: shot boundaries, tracking, smoothing."""

_LATE_CADENCE_RATIO = 4
"""Factor by which the detector runs less often while a camera drops frames."""

UInt8Array = NDArray[np.uint8]
StageHook = Callable[[str], object]


class ImageStep:
    """Localizes in pictures that do not follow each other. Several threads may use one."""

    def __init__(self, session: Session, detector: Detector, *, on_stage: StageHook | None = None) -> None:
        """Use an open network and a detector, which are not closed with it.

        Args:
            session: a network of landmarks.
            detector: where to look.
            on_stage: called with one of `STAGES` as it begins.

        Raises:
            InputError: the network finds boxes.
        """
        check_landmarks(session)
        self._session, self._detector = session, detector
        self._on_stage = on_stage or _ignore

    def update(
        self,
        image: UInt8Array,
        index: int = 0,
        time_ms: float = 0.0,
        name: str = "",
        *,
        thumbnail: NDArray[np.float32] | None = None,
    ) -> Landmarks:
        """Find objects and their landmarks, without those below `least_score`.

        Args:
            image: uint8, as `cunet_deploy.Localizer.predict` takes it.
            index: of the picture in its source.
            time_ms: not used; steps are called alike.
            name: of the image file, without folders, which given boxes may be found by.
            thumbnail: not used, either.
        """
        image, detector, session = as_bgr(image), self._detector, self._session
        self._on_stage("detect")
        boxes, sure = detect_confirmed(detector, session, image, index, name)
        self._on_stage("crop")
        points, heights = locate(session, image, boxes)
        self._on_stage("track")
        if detector.exact or not len(boxes):
            return _landmarks(session, boxes, points, heights)
        likely = heights.mean(axis=1) >= least_score(session.manifest.min_score, sure)
        good = likely & plausible(landmark_boxes(points), boxes)
        return _landmarks(session, boxes[good], points[good], heights[good])


@dataclass(frozen=True, eq=False)
class VideoState:
    """All that a `VideoStep` carries from frame to frame. It can be pickled, and holds no network.

    Attributes:
        tracker: what is followed.
        shots: what the last frame looked like.
        smoother: filters of what is followed; ``None`` where landmarks are not steadied.
        last: index of the last frame; -1 before the first.
        depth: bits that the values of uint16 frames have needed so far.
    """

    tracker: Tracker
    shots: ShotBoundaryDetector
    smoother: Smoother | None
    last: int = -1
    depth: int = 8


class VideoStep:
    """Localizes in one video, one frame at a time. Not for several threads.

    Example:
        >>> step = localizer.video()
        >>> for image in camera:
        ...     landmarks = step.update(image)
    """

    def __init__(
        self,
        session: Session,
        detector: Detector,
        *,
        smooth: bool | Smoothing = True,
        state: VideoState | None = None,
        on_stage: StageHook | None = None,
    ) -> None:
        """Start with nothing followed, or where another step ended.

        Args:
            session: a network of landmarks, not closed with it.
            detector: where to look, not closed with it.
            smooth: whether landmarks of what is followed are steadied as frames come, or how much.
            state: of a step with the same kind of network and detector, which the next frame follows; ``smooth`` is
                not looked at then.
            on_stage: called with one of `STAGES` as it begins.

        Raises:
            InputError: the network finds boxes, ``smooth`` needs frames that are still to come, or an argument is of
                another type.
        """
        check_landmarks(session)
        if not isinstance(smooth, (bool, Smoothing)):
            raise InputError(f"smooth is {smooth!r}; expected True, False or a Smoothing")
        if state is not None and not isinstance(state, VideoState):
            raise InputError(f"state is {type(state).__name__}; expected what VideoStep.state() returns, or None")
        if isinstance(smooth, Smoothing) and smooth.both_ways:
            raise InputError(
                "smoothing both ways needs the whole clip; use Localizer.stream, or smooth_clip afterwards"
            )
        self._session, self._detector = session, detector
        self._on_stage = on_stage or _ignore
        begun = copy.deepcopy(state) if state is not None else _begin(session, detector, smooth)
        self._tracker, self._shots, self._smoother = begun.tracker, begun.shots, begun.smoother
        self._last, self._depth = begun.last, begun.depth

    def state(self) -> VideoState:
        """A copy of what it knows so far, to go on from in another process or after a restart."""
        return copy.deepcopy(VideoState(self._tracker, self._shots, self._smoother, self._last, self._depth))

    def update(
        self,
        image: UInt8Array | NDArray[np.uint16],
        index: int | None = None,
        time_ms: float | None = None,
        name: str = "",
        *,
        thumbnail: NDArray[np.float32] | None = None,
    ) -> Landmarks:
        """Localize in the next frame.

        Args:
            image: as `cunet_deploy.Localizer.predict` takes it; uint16 is scaled by the bits that any frame so far has
                needed.
            index: of the frame in its source, rising; ``None``: the next. A gap says that a camera dropped frames.
            time_ms: since the start; ``None``: not known, and taken as 30 frames a second.
            name: of the image file that it came from, without folders; empty for video.
            thumbnail: `make_thumbnail` of it, if the thread that read it has made it; ``None``: it is made here.

        Returns:
            The objects in it, by rising track id.
        """
        self._on_stage("track")
        self._depth = max(self._depth, depth_of(image))
        bgr, every = as_bgr(image, self._depth), self._detector.every
        index = self._last + 1 if index is None else index
        # frames that a camera dropped say that time is short: then new objects are looked for less often
        self._tracker.pace(_LATE_CADENCE_RATIO * every if index > self._last + 1 else every)
        self._last = index
        if self._shots.update(make_thumbnail(bgr) if thumbnail is None else thumbnail):
            self._tracker.begin_shot()
        found = self._follow(bgr, index, name)
        if self._smoother is None:
            return found
        return self._smoother.update(found, index * ASSUMED_STEP_MS if time_ms is None else time_ms)

    def _follow(self, image: UInt8Array, index: int, name: str) -> Landmarks:
        tracker = self._tracker
        looked, again = tracker.wants_detection(), False
        found = self._look(image, index, name) if looked else None
        while True:
            plan = tracker.plan(None) if found is None else tracker.plan(found.boxes, found.sure)
            self._on_stage("crop")
            points, heights = locate(self._session, image, plan.boxes)
            self._on_stage("track")
            kept, track_ids = tracker.update(plan, points, heights, again=again)
            just_lost = not len(kept) and any(track.missed == 0 for track in plan.tracks)
            if looked or not just_lost or not tracker.wants_detection():
                return _landmarks(self._session, plan.boxes[kept], points[kept], heights[kept], track_ids)
            # all that was followed is lost in this very frame: look for it at once
            looked, again, found = True, True, self._look(image, index, name)

    def _look(self, image: UInt8Array, index: int, name: str) -> Detections:
        self._on_stage("detect")
        found = detect_confirmed(self._detector, self._session, image, index, name, self._tracker.boxes())
        self._on_stage("track")
        return found


def _begin(session: Session, detector: Detector, smooth: bool | Smoothing) -> VideoState:
    """Nothing is followed yet."""
    manifest = session.manifest
    cadence = Cadence(detector.every, detector.retry, detector.exact)
    smoother = None if smooth is False else Smoother(smooth if isinstance(smooth, Smoothing) else None)
    return VideoState(Tracker(manifest.min_score, cadence, manifest.keep_score), ShotBoundaryDetector(), smoother)


def check_landmarks(session: Session) -> None:
    """Refuse a network that finds boxes.

    Raises:
        InputError: it does.
    """
    if session.manifest.boxes is not None:
        name = session.manifest.name
        raise InputError(f"{name} finds boxes, not landmarks; give it as detector, beside a model of landmarks")


def _landmarks(
    session: Session,
    boxes: NDArray[np.float64],
    points: NDArray[np.float32],
    heights: NDArray[np.float32],
    track_ids: NDArray[np.int64] | None = None,
) -> Landmarks:
    ids = np.arange(len(boxes), dtype=np.int64) if track_ids is None else track_ids
    manifest = session.manifest
    return Landmarks(points, manifest.scores(heights), np.asarray(boxes, np.float32), manifest.skeleton, ids)


def _ignore(stage: str) -> None:
    """Nobody asked."""
