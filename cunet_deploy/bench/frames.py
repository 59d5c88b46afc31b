"""The whole way of a frame, timed stage by stage: from the file to the picture with landmarks drawn in.

What runs is the `Localizer` itself, as ``cunet-deploy infer`` uses it, except that all happens in turn: no thread
reads ahead, so that each stage can be told apart. Its session and its detector are wrapped, and each call of them says
that another stage begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.bench.latency import Call, Runner, Scene
from cunet_deploy.detection import Detector
from cunet_deploy.detection.search import CoarseToFineSearch
from cunet_deploy.drawing import draw_into
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.localizer import Localizer
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import ImageFiles, Picture, VideoFile
from cunet_deploy.preprocess import as_bgr
from cunet_deploy.sessions.base import Decoding, Session
from cunet_deploy.tracking.tracker import Cadence, Tracker

__all__ = ["FRAME_STAGES", "Frames"]

FRAME_STAGES = ("read", "detect", "crop", "network", "decode", "draw")
"""Reading and decoding the picture or video frame; looking for objects, which runs the network too where no detector is
given; cutting out and scaling the crops; the network on them; landmarks from its heatmaps; drawing them."""


@dataclass(frozen=True)
class Frames:
    """Work of which a call is one frame of a source; after the last comes the first again. See `latency.Work`.

    Attributes:
        source: photos, each searched by itself, or a clip, in which what was found is followed.
        detector: where to look; ``None`` searches whole frames, as ``infer`` does by default.
    """

    source: ImageFiles | VideoFile
    detector: Detector | None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """`FRAME_STAGES`."""
        return FRAME_STAGES

    def begin(self, clock: Callable[[], float]) -> Runner:
        """Start with the first frame."""
        return _FrameRunner(self, clock)


class _Stopwatch:
    """Adds up the seconds of the stages of one frame."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = dict.fromkeys(FRAME_STAGES, 0.0)
        self._stage, self._since = "", 0.0
        self.crops = 0

    def enter(self, stage: str) -> None:
        """From now on it is ``stage``; an empty one: none."""
        now = self._clock()
        if self._stage:
            self._seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def take(self) -> Call:
        """End the frame and forget it."""
        self.enter("")
        call = Call(tuple(self._seconds.values()), self.crops)
        self._seconds, self.crops = dict.fromkeys(FRAME_STAGES, 0.0), 0
        return call


class _TimedSession(Decoding):
    """A session whose runs are the stage ``"network"``, with decoding after them."""

    def __init__(self, session: Session, watch: _Stopwatch) -> None:
        self._session, self._watch = session, watch

    @property
    def manifest(self) -> Manifest:
        return self._session.manifest

    @property
    def backend(self) -> str:
        return self._session.backend

    @property
    def decodes(self) -> bool:
        return isinstance(self._session, Decoding) and self._session.decodes

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._network(images):
            return self._session.run(images)

    def landmarks(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        assert isinstance(self._session, Decoding)
        with self._network(images):
            return self._session.landmarks(images)

    @contextlib.contextmanager
    def _network(self, images: NDArray[np.uint8]) -> Iterator[None]:
        self._watch.crops += len(images)
        self._watch.enter("network")
        yield
        self._watch.enter("decode")

    def close(self) -> None:
        self._session.close()


class _TimedDetector:
    """A detector whose looks are the stage ``"detect"``, with cropping after them."""

    def __init__(self, detector: Detector, watch: _Stopwatch) -> None:
        self._detector, self._watch = detector, watch
        self.every, self.retry, self.exact = detector.every, detector.retry, detector.exact

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self._watch.enter("detect")
        found = self._detector.detect(image, index, name, known)
        self._watch.enter("crop")
        return found


class _StepwiseLocalizer(Localizer):
    """A localizer that is given one frame at a time."""

    def step(self, picture: Picture, tracker: Tracker | None) -> tuple[NDArray[np.uint8], Landmarks]:
        """What `Localizer.stream` does with a frame: the image to draw into, and what was found."""
        image = as_bgr(picture.image)
        if tracker is None:
            return image, self._find(image, picture.index, picture.name)
        return image, self._track(tracker, image, picture)


class _FrameRunner:
    """The frames of a source, again and again. See `latency.Runner`."""

    def __init__(self, frames: Frames, clock: Callable[[], float]) -> None:
        self._frames = frames
        self._watch = _Stopwatch(clock)
        self._warm = Scene.centred(next(iter(frames.source)).image).begin(clock)
        self._session: Session | None = None
        self._localizer: _StepwiseLocalizer | None = None
        self._tracker: Tracker | None = None
        self._pictures = self._read()

    def warm(self, session: Session) -> float:
        """The middle of the first frame through the network: a search would take long, and moves nothing else."""
        return self._warm.warm(session)

    def call(self, session: Session) -> Call:
        localizer, watch = self._around(session), self._watch
        watch.enter("read")
        picture = next(self._pictures)
        watch.enter("crop")
        image, found = localizer.step(picture, self._tracker)
        watch.enter("draw")
        draw_into(image, found.points, found.ids, found.skeleton)
        return watch.take()

    def close(self) -> None:
        self._pictures.close()

    def _around(self, session: Session) -> _StepwiseLocalizer:
        """The localizer of a session, which is another one where models are opened for each turn."""
        if self._localizer is None or self._session is not session:
            detector = _TimedDetector(self._frames.detector or CoarseToFineSearch(session), self._watch)
            self._session = session
            self._localizer = _StepwiseLocalizer(_TimedSession(session, self._watch), detector=detector)
            if self._tracker is None and self._frames.source.moving:
                self._tracker = self._new_tracker()
        return self._localizer

    def _new_tracker(self) -> Tracker:
        assert self._session is not None
        detector = self._frames.detector or CoarseToFineSearch(self._session)
        return Tracker(self._session.manifest.min_score, Cadence(detector.every, detector.retry, detector.exact))

    def _read(self) -> Generator[Picture, None, None]:
        """Pictures without end; each pass over a clip starts with nothing followed."""
        while True:
            seen = 0
            with contextlib.closing(_iterate(self._frames.source)) as pictures:
                for picture in pictures:
                    seen += 1
                    yield picture
            if not seen:
                raise InputError("the input holds no frame; give another photo, folder or clip")
            if self._frames.source.moving:
                self._tracker = self._new_tracker()


def _iterate(source: ImageFiles | VideoFile) -> Generator[Picture, None, None]:
    yield from source
