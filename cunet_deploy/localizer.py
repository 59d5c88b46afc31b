"""`Localizer`: images and videos in, landmarks out. Joins the network, the detector, the tracker and the media."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.detection import Detector, open_detector
from cunet_deploy.detection.network import NetworkDetector
from cunet_deploy.detection.search import CoarseToFineSearch, confirmed, plausible
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou, share_inside
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.locate import check_boxes, locate
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import DEPTH, LIVE_DEPTH, Frame, ImageFiles, LiveSource, Picture, open_source, read_ahead
from cunet_deploy.metrics import pck_threshold
from cunet_deploy.preprocess import as_bgr
from cunet_deploy.sessions import Session, open_session
from cunet_deploy.tracking.one_euro import Smoother, Smoothing, smooth_clip
from cunet_deploy.tracking.shot_boundary import ShotBoundaryDetector
from cunet_deploy.tracking.tracker import SAME_OBJECT, Cadence, Tracker
from cunet_deploy.zoo import DEFAULT_MODEL, default_detector

__all__ = ["FULL", "Frame", "Localizer"]

FULL = "full"
"""What `Localizer` calls the search of whole frames, without a detector."""


_BEHIND = 4
"""How many times as rarely new objects are looked for while a camera drops frames."""


_HELD = 0.85
"""Share of the least score that is enough for a body which was found in the frame before: it turns and hides its own
joints, and networks are less sure of these from frame to frame than of a face."""
_PART = 0.7
"""A box of which this share lies in that of something followed shows a part of it."""


class Localizer:
    """Finds landmarks. Several threads may use one `Localizer`.

    Example:
        >>> localizer = Localizer("face68-s")
        >>> landmarks = localizer.predict(cv2.imread("portrait.jpg"))
        >>> for frame in localizer.stream("clip.mp4"):
        ...     print(frame.index, frame.landmarks.points)
    """

    def __init__(
        self,
        engine: str | Path | Session = DEFAULT_MODEL,
        *,
        threads: int | None = None,
        detector: str | Detector | None = None,
        backend: str | None = None,
        trust: bool = False,
    ) -> None:
        """Load a network.

        Args:
            engine: a bundle folder, an ``.onnx`` or ``.engine`` file, the name of a released model, or an open session.
            threads: how many the network may use; ``None`` leaves it to the runtime.
            detector: where to look when no boxes are given: the name or file of a model that finds boxes,
                ``"boxes:FILE"``, ``"yunet:FILE"``, ``"onnx:FILE"``, or an object; ``"full"`` searches whole frames for
                one large object. ``None``: the model that the manifest names, or that is usual for its landmarks;
                without any, the search.
            backend: what shall run the network, one of `cunet_deploy.sessions.BACKENDS`, or ``"auto"``: what is
                fastest on this machine, measured once and remembered; ``None``: TensorRT for engines, ONNX Runtime on
                the CPU for the rest.
            trust: load an engine whose checksum is not the one beside it. An engine is native code.

        Raises:
            InputError: a file is missing, or a name unknown.
            ArtifactError: a file is damaged or cannot run here.
            UntrustedError: an engine is not the one that is described beside it.
        """
        self._session = (
            open_session(engine, threads=threads, backend=backend, trust=trust)
            if isinstance(engine, (str, Path))
            else engine
        )
        self._finder: NetworkDetector | None = None  # ours to close
        try:
            self._detector = self._open_detector(detector)
        except BaseException:
            self.close()
            raise

    def _open_detector(self, wanted: str | Detector | None) -> Detector:
        spec, manifest = wanted, self._session.manifest
        if manifest.boxes is not None:
            name = manifest.name
            raise InputError(f"{name} finds boxes, not landmarks; give it as detector, beside a model of landmarks")
        if spec is None:
            spec = manifest.detector or default_detector(manifest.skeleton.name) or FULL
        if not isinstance(spec, str):
            return spec
        if spec == FULL:
            return CoarseToFineSearch(self._session)
        if ":" in spec and not Path(spec).exists():
            return open_detector(spec)
        # One thread: two pools that spin would take each other's processors, and the network is small.
        try:
            session = open_session(spec, threads=1)
        except InputError as error:
            raise InputError(
                f"detector {spec!r} is not known ({error}); expected {FULL}, a model that finds boxes, boxes:FILE, "
                "yunet:FILE or onnx:FILE"
            ) from error
        self._finder = NetworkDetector(session)
        return self._finder

    @property
    def manifest(self) -> Manifest:
        """What the network expects and returns."""
        return self._session.manifest

    @property
    def backend(self) -> str:
        """What runs the network, with its version."""
        return self._session.backend

    def predict(self, image: NDArray[np.uint8], boxes: ArrayLike | None = None) -> Landmarks:
        """Localize the landmarks of every object in an image.

        Args:
            image: uint8: (H, W, 3) BGR as OpenCV reads it, (H, W, 4) BGRA or (H, W) grey.
            boxes: (N, 4) tight boxes x0, y0, x1, y1 in pixels of the image, which may reach outside it; the result then
                holds N objects in this order, however low their scores. ``None``: the detector, or the search of the
                whole image, finds them; objects below the model's minimum score are left out.

        Returns:
            The landmarks; with no object, of length 0.

        Raises:
            InputError: the image or the boxes are not of this form.
        """
        bgr = as_bgr(image)
        if boxes is not None:
            checked = check_boxes(boxes)
            return self._landmarks(checked, *locate(self._session, bgr, checked))
        return self._find(bgr, 0, "")

    def stream(
        self,
        source: str | Path | Iterable[Picture | NDArray[np.uint8]],
        *,
        follow: bool | None = None,
        smooth: bool | Smoothing | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[Frame, None, None]:
        """Localize in each frame of a source; in video, boxes follow from the landmarks of the frame before.

        The next frames are read in a thread meanwhile, a few at most, unless the source is a single image. The thread
        ends with the generator; close it to stop early. The image of a frame that came is yours to draw into. Frames
        of a camera or stream that come faster than they are localized are left out; ``index`` counts them.

        Args:
            source: what `cunet_deploy.media.open_source` takes or gives, or successive frames.
            follow: whether successive frames show the same scene; ``None``: unless the source is image files.
            smooth: whether landmarks of an object that is followed are steadied over time, or how much; ``None``: where
                objects are followed. See `cunet_deploy.tracking.one_euro`; ``Smoothing(both_ways=True)`` reads the
                source twice, and yields its first frame when all have been localized.
            stop: when it is set, by a signal handler or another thread, the stream ends before the next frame, even
                while the source stalls.

        Yields:
            Every frame, also those without an object.

        Raises:
            InputError: there is no such file, or it cannot be read.
            CunetError: a video breaks off, or a camera or stream is lost; its frames until there came before.
        """
        opened = open_source(source) if isinstance(source, (str, Path)) else source
        if follow is None:
            follow = not isinstance(opened, ImageFiles)
        if follow and isinstance(smooth, Smoothing) and smooth.both_ways:
            yield from self._both_ways(opened, smooth, stop)
            return
        live = isinstance(opened, LiveSource)
        depth = 0 if isinstance(opened, ImageFiles) and opened.count == 1 else LIVE_DEPTH if live else DEPTH
        ours = closing(opened) if isinstance(opened, LiveSource) and opened is not source else nullcontext()
        with closing(read_ahead(_pictures(opened), depth, drop_old=live, stop=stop)) as pictures, ours:
            yield from self._follow(pictures, smooth) if follow else self._each(pictures)

    def close(self) -> None:
        """Release the networks; the localizer cannot be used afterwards."""
        self._session.close()
        if self._finder is not None:
            self._finder.close()

    def __enter__(self) -> Localizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _each(self, pictures: Iterator[Picture]) -> Generator[Frame, None, None]:
        for picture in pictures:
            start = time.perf_counter()
            image = as_bgr(picture.image)
            yield _frame(picture, image, self._find(image, picture.index, picture.name), start)

    def _follow(self, pictures: Iterator[Picture], smooth: bool | Smoothing | None) -> Generator[Frame, None, None]:
        detector, cuts = self._detector, ShotBoundaryDetector()
        held = 1.0 if pck_threshold(self.manifest.skeleton) is None else _HELD
        tracker = Tracker(self.manifest.min_score, Cadence(detector.every, detector.retry, detector.exact), held)
        smoother = None if smooth is False else Smoother(smooth if isinstance(smooth, Smoothing) else None)
        last = -1
        for picture in pictures:
            start = time.perf_counter()
            # frames that a camera dropped say that time is short: then new objects are looked for less often
            tracker.pace(_BEHIND * detector.every if picture.index > last + 1 else detector.every)
            last = picture.index
            image = as_bgr(picture.image)
            if cuts.update(image):
                tracker.cut()
            found = self._track(tracker, image, picture)
            steady = found if smoother is None else smoother.update(found, picture.time_ms)
            yield _frame(picture, image, steady, start)

    def _both_ways(
        self, source: Iterable[Picture | NDArray[np.uint8]], smooth: Smoothing, stop: threading.Event | None
    ) -> Generator[Frame, None, None]:
        """Localize in all frames, then read them again and yield them with landmarks that know what came after."""
        if isinstance(source, (Iterator, LiveSource)):
            raise InputError("smoothing both ways reads the source twice: give a file or a list, not a stream")
        found: list[Landmarks] = []
        times: list[tuple[float, float]] = []  # of the frame, and that it took
        with closing(read_ahead(_pictures(source), DEPTH, stop=stop)) as pictures:
            for frame in self._follow(pictures, smooth=False):
                found.append(frame.landmarks)
                times.append((frame.time_ms, frame.seconds))
        steady = smooth_clip(found, [time_ms for time_ms, _ in times], smooth)
        with closing(read_ahead(_pictures(source), DEPTH, stop=stop)) as pictures:
            for picture, landmarks, (_, seconds) in zip(pictures, steady, times, strict=False):
                image = as_bgr(picture.image)
                yield Frame(picture.index, picture.time_ms, image, landmarks, picture.name, seconds)

    def _track(self, tracker: Tracker, image: NDArray[np.uint8], picture: Picture) -> Landmarks:
        def detect() -> NDArray[np.float64]:
            return self._detect(image, picture.index, picture.name, tracker.boxes())

        looked = tracker.wants_detection()
        boxes = detect() if looked else None
        while True:
            plan = tracker.plan(boxes)
            points, scores = locate(self._session, image, plan.boxes)
            kept, identities = tracker.update(plan, points, scores)
            if looked or len(kept) or not tracker.wants_detection():
                return self._landmarks(plan.boxes[kept], points[kept], scores[kept], identities)
            # all that was followed is lost in this very frame: look for it at once
            looked, boxes = True, detect()

    def _find(self, image: NDArray[np.uint8], index: int, name: str) -> Landmarks:
        """Look with the detector and keep what the network confirms."""
        boxes = self._detect(image, index, name)
        points, scores = locate(self._session, image, boxes)
        result = self._landmarks(boxes, points, scores)
        if self._detector.exact or not len(result):
            return result
        good = (result.confidence >= self.manifest.min_score) & plausible(points, boxes)
        return self._landmarks(boxes[good], points[good], scores[good])

    def _detect(
        self, image: NDArray[np.uint8], index: int, name: str, known: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Boxes of a detector. Of those that it is not sure of, landmarks have to confirm the new ones.

        Those that lie in the box of what is followed are a part of it, and say that it is still there.
        """
        boxes, scores = self._detector.detect(image, index, name, known)
        sure = getattr(self._detector, "sure", None)  # other detectors than ours are taken at their word
        if sure is None:
            return boxes
        followed = np.zeros((0, 4)) if known is None else known
        doubtful = (scores < sure) & ~(box_iou(boxes, followed) >= SAME_OBJECT).any(axis=1)
        parts = doubtful[:, None] & (share_inside(boxes, followed) >= _PART)
        new = doubtful & ~parts.any(axis=1)
        kept = ~doubtful
        kept[new] = confirmed(self._session, image, boxes[new])
        return np.concatenate([boxes[kept], followed[parts.any(axis=0)]])

    def _landmarks(
        self,
        boxes: NDArray[np.float64],
        points: NDArray[np.float32],
        scores: NDArray[np.float32],
        identities: NDArray[np.int64] | None = None,
    ) -> Landmarks:
        ids = np.arange(len(boxes), dtype=np.int64) if identities is None else identities
        return Landmarks(points, scores, np.asarray(boxes, np.float32), self.manifest.skeleton, ids)


def _pictures(source: Iterable[Picture | NDArray[np.uint8]]) -> Iterator[Picture]:
    """Frames of a source; bare arrays are numbered and have no time."""
    for index, item in enumerate(source):
        yield item if isinstance(item, Picture) else Picture(index, 0.0, item)


def _frame(picture: Picture, image: NDArray[np.uint8], landmarks: Landmarks, start: float) -> Frame:
    seconds = time.perf_counter() - start
    return Frame(picture.index, picture.time_ms, image, landmarks, picture.name, seconds)
