"""The whole way of a frame, timed stage by stage: from the file to the picture with landmarks drawn in.

What runs is the step of a frame that `Localizer.stream` and ``cunet-deploy infer`` take, with the same detector (see
`cunet_deploy.tracking.step`), except that all happens in turn: no thread reads ahead, so that each stage can be told
apart. The step says which of its stages begins; its session is wrapped to tell the network from cropping and decoding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.bench.latency import Call, Runner, Scene
from cunet_deploy.detection.base import Detector
from cunet_deploy.detection.open import open_detector
from cunet_deploy.drawing import draw_into
from cunet_deploy.errors import InputError
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import Picture, Source
from cunet_deploy.pixels import as_bgr
from cunet_deploy.sessions.base import Decoding, Session
from cunet_deploy.tracking.step import ImageStep, VideoStep

__all__ = ["FRAME_STAGES", "Frames"]

FRAME_STAGES = ("read", "detect", "crop", "network", "decode", "track", "draw")
"""Reading and decoding the picture or video frame; looking for objects, and confirming what the detector is not
confident of; cutting out and scaling the crops; the network on them; landmarks from its heatmaps; what ties frames
together: shot boundaries, tracking and smoothing; drawing."""


@dataclass(frozen=True)
class Frames:
    """Work of which a call is one frame of a source; after the last comes the first again. See `latency.Work`.

    Attributes:
        source: photos, each searched by itself, or a clip, in which what was found is followed.
        detector: where to look, as `open_detector` takes it, or an open one; ``None``: what the model names.
    """

    source: Source
    detector: str | Detector | None = None

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
        self._since = 0.0
        self.stage, self.crops = "", 0

    def enter(self, stage: str) -> None:
        """From now on it is ``stage``; an empty one: none."""
        now = self._clock()
        if self.stage:
            self._seconds[self.stage] += now - self._since
        self.stage, self._since = stage, now

    def take(self) -> Call:
        """End the frame and forget it."""
        self.enter("")
        call = Call(tuple(self._seconds.values()), self.crops)
        self._seconds, self.crops = dict.fromkeys(FRAME_STAGES, 0.0), 0
        return call


class _TimedSession(Decoding):
    """A session, which may change, whose runs on crops are the stage ``"network"``, with decoding after them."""

    def __init__(self, session: Session, watch: _Stopwatch) -> None:
        self.session, self._watch = session, watch

    @property
    def manifest(self) -> Manifest:
        return self.session.manifest

    @property
    def backend(self) -> str:
        return self.session.backend

    @property
    def decodes(self) -> bool:
        return isinstance(self.session, Decoding) and self.session.decodes

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._network(images):
            return self.session.run(images)

    def landmarks(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        assert isinstance(self.session, Decoding)
        with self._network(images):
            return self.session.landmarks(images)

    @contextlib.contextmanager
    def _network(self, images: NDArray[np.uint8]) -> Iterator[None]:
        if self._watch.stage == "detect":  # a search, or landmarks that confirm a detection
            yield
            return
        self._watch.crops += len(images)
        self._watch.enter("network")
        yield
        self._watch.enter("decode")

    def close(self) -> None:
        """The session belongs to others."""


class _FrameRunner:
    """The frames of a source, again and again. See `latency.Runner`."""

    def __init__(self, frames: Frames, clock: Callable[[], float]) -> None:
        self._frames = frames
        self._watch = _Stopwatch(clock)
        self._warm = Scene.centred(next(iter(frames.source)).image).begin(clock)
        self._session: _TimedSession | None = None
        self._detector: Detector | None = None
        self._step: ImageStep | VideoStep | None = None
        self._pictures = self._read()

    def warm(self, session: Session) -> float:
        """The middle of the first frame through the network: a search would take long, and moves nothing else."""
        return self._warm.warm(session)

    def call(self, session: Session) -> Call:
        self._use(session)
        watch = self._watch
        watch.enter("read")
        picture = next(self._pictures)
        watch.enter("")
        step = self._step = self._step or self._begin()
        watch.enter("track")
        image = as_bgr(picture.image)
        found = step.update(image, picture.index, picture.time_ms, picture.name)
        watch.enter("draw")
        draw_into(image, found.points, found.ids, found.skeleton)
        return watch.take()

    def close(self) -> None:
        self._pictures.close()
        if self._detector is not None and self._detector is not self._frames.detector:
            self._detector.close()

    def _use(self, session: Session) -> None:
        """Run a session, which is another one where models are opened for each turn; what was found stays."""
        if self._session is None:
            self._session = _TimedSession(session, self._watch)
        self._session.session = session
        if self._detector is None:
            given = self._frames.detector
            self._detector = open_detector(given, self._session) if given is None or isinstance(given, str) else given

    def _begin(self) -> ImageStep | VideoStep:
        """The step of a source: of a clip a new one for each pass, with nothing followed."""
        assert self._session is not None
        assert self._detector is not None
        kind = VideoStep if self._frames.source.moving else ImageStep
        return kind(self._session, self._detector, on_stage=self._watch.enter)

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
            self._step = None


def _iterate(source: Source) -> Generator[Picture, None, None]:
    yield from source
