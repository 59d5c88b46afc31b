"""`Localizer`: images and videos in, landmarks out. Joins the networks, the steps of a frame and the media."""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cunet_deploy.detection.base import Detector
from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.detection.open import open_detector
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.licences import wanted_licence
from cunet_deploy.locate import check_boxes, locate
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import DEPTH, LIVE_DEPTH, Frame, ImageFiles, LiveSource, Picture, open_source, read_ahead
from cunet_deploy.pixels import as_bgr, depth_of
from cunet_deploy.sessions import Session, open_session
from cunet_deploy.tracking.one_euro import ASSUMED_STEP_MS, Smoothing, smooth_clip
from cunet_deploy.tracking.shot_boundary import make_thumbnail
from cunet_deploy.tracking.step import ImageStep, VideoState, VideoStep, check_landmarks
from cunet_deploy.zoo import DEFAULT_MODEL, check_licence

__all__ = ["Frame", "Localizer"]


@dataclass(frozen=True)
class _Opening:
    """Arguments for opening the networks: those of `Localizer`, with which another process opens them again."""

    engine: str | Path | Session
    threads: int | None
    detector: str | Path | Detector | None
    backend: str | None
    trust: bool
    licence: str

    def open(self) -> _Networks:
        """Load the networks, both or neither."""
        if isinstance(self.engine, (str, Path)):
            session = open_session(self.engine, threads=self.threads, backend=self.backend, trust=self.trust)
            opened: tuple[Session | Detector, ...] = (session,)
        else:
            session, opened = self.engine, ()
        # ONNX Runtime's own sessions have a method of that name, and no manifest
        if not (callable(getattr(session, "run", None)) and isinstance(getattr(session, "manifest", None), Manifest)):
            raise InputError(
                f"engine is {type(session).__name__}; expected a bundle folder, an .onnx or .engine file, the name of "
                "a released model, or what cunet_deploy.sessions.open_session returns"
            )
        try:
            check_landmarks(session)
            check_licence(session.manifest, self.licence)
            if self.detector is None or isinstance(self.detector, (str, Path)):
                detector = open_detector(self.detector, session, self.licence)
                return _Networks(session, detector, (*opened, detector))
            return _Networks(session, _checked(self.detector), opened)
        except BaseException:
            for network in opened:
                network.close()
            raise


@dataclass(frozen=True)
class _Networks:
    """The networks in use, and those of them that were opened for it: what was given as an object is left open."""

    session: Session
    detector: Detector
    opened: tuple[Session | Detector, ...]

    def close(self) -> None:
        for network in self.opened:
            network.close()


class Localizer:
    """Finds landmarks. Several threads may use one `Localizer`.

    It can be pickled, and used in a process that was forked: there it opens its networks again, unless they were given.

    Example:
        >>> localizer = Localizer("face68-s")
        >>> landmarks = localizer.predict(cv2.imread("portrait.jpg"))
        >>> for frame in localizer.stream("clip.mp4"):
        ...     print(frame.index, frame.landmarks.points)
    """

    _opening: _Opening
    _lock: threading.Lock
    _open: _Networks | None
    """``None`` in a forked process, until it is first used there."""

    def __init__(
        self,
        engine: str | Path | Session = DEFAULT_MODEL,
        *,
        threads: int | None = None,
        detector: str | Path | Detector | None = None,
        backend: str | None = None,
        trust: bool = False,
        licence: str | None = None,
    ) -> None:
        """Load a network.

        Args:
            engine: a bundle folder, an ``.onnx`` or ``.engine`` file, the name of a released model, or an open session,
                which is not closed with the localizer.
            threads: how many the network may use; ``None`` leaves it to the runtime.
            detector: where to look when no boxes are given: the name or file of a model that finds boxes,
                ``"boxes:FILE"``, ``"yunet:FILE"``, ``"onnx:FILE"``, or an object, which is not closed with the
                localizer; ``"full"`` searches whole frames for one large object. ``None``: the model that the manifest
                names, or that is usual for its landmarks; without any, the search.
            backend: what shall run the network, one of `cunet_deploy.sessions.BACKENDS`, or ``"auto"``: what is
                fastest on this machine, measured once and remembered; ``None``: TensorRT for engines, ONNX Runtime on
                the CPU for the rest.
            trust: load an engine whose checksum is not the one beside it. An engine is native code.
            licence: "open" refuses weights, also of a detector, that may not be used for every purpose; see
                `cunet_deploy.licences`. "any" takes all; ``None``: what the variable ``CUNET_LICENCE`` says, else any.

        Raises:
            InputError: a file is missing, a name unknown, or a licence refused.
            ArtifactError: a file is damaged or cannot run here.
            UntrustedError: an engine is not the one that is described beside it.
        """
        self._begin(_Opening(engine, threads, detector, backend, trust, wanted_licence(licence)))

    def _networks(self) -> _Networks:
        """The networks; after a fork they are opened again, since the threads of the parent's did not come along."""
        networks = self._open
        if networks is None:
            with self._lock:
                networks = self._open or self._opening.open()
                self._open = networks
        return networks

    @property
    def manifest(self) -> Manifest:
        """Manifest of the network: its input and outputs."""
        return self._networks().session.manifest

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Manifests of the network and, where it is one of ours, of the detector."""
        networks = self._networks()
        detector: Manifest | None = getattr(networks.detector, "manifest", None)
        return (networks.session.manifest,) if detector is None else (networks.session.manifest, detector)

    @property
    def backend(self) -> str:
        """Name and version of the backend."""
        return self._networks().session.backend

    def predict(self, image: NDArray[np.uint8] | NDArray[np.uint16], boxes: ArrayLike | None = None) -> Landmarks:
        """Localize the landmarks of every object in an image.

        Args:
            image: uint8: (H, W, 3) BGR as OpenCV reads it, (H, W, 4) BGRA or (H, W) grey. uint16 is scaled by the bits
                that its largest value needs; see `cunet_deploy.pixels.to_8_bits`.
            boxes: (N, 4) tight boxes x0, y0, x1, y1 in pixels of the image, which may reach outside it; the result then
                holds N objects in this order, however low their scores. ``None``: the detector, or the search of the
                whole image, finds them; those below the model's minimum score, half where it is sure, are left out.

        Returns:
            The landmarks; with no object, of length 0.

        Raises:
            InputError: the image or the boxes are not of this form.
        """
        bgr = as_bgr(image)
        if boxes is not None:
            session, checked = self._networks().session, check_boxes(boxes)
            ids = np.arange(len(checked), dtype=np.int64)
            points, heights = locate(session, bgr, checked)
            manifest = session.manifest
            return Landmarks(points, manifest.scores(heights), np.asarray(checked, np.float32), manifest.skeleton, ids)
        return self._image_step().update(bgr)

    def video(self, *, smooth: bool | Smoothing = True, state: VideoState | None = None) -> VideoStep:
        """Localize in a video that you read yourself, one frame at a time, as `stream` does.

        Args:
            smooth: whether landmarks of an object that is followed are steadied over time, or how much.
            state: where another step ended, `VideoStep.state`, which the next frame follows.

        Returns:
            A step for one video and one process. It uses the networks of this localizer, and ends with it.
        """
        networks = self._networks()
        return VideoStep(networks.session, networks.detector, smooth=smooth, state=state)

    def _image_step(self) -> ImageStep:
        networks = self._networks()
        return ImageStep(networks.session, networks.detector)

    def stream(
        self,
        source: str | Path | Iterable[Picture | NDArray[np.uint8] | NDArray[np.uint16]],
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
            source: what `cunet_deploy.media.open_source` takes or gives, or successive frames, as `predict` takes them.
            follow: whether successive frames show the same scene; ``None``: unless the source is image files.
            smooth: whether landmarks of an object that is followed are steadied over time, or how much; ``None``: where
                objects are followed. See `cunet_deploy.tracking.one_euro`; ``Smoothing(both_ways=True)`` reads the
                source twice, and yields its first frame when all have been localized.
            stop: when it is set, by a signal handler or another thread, the stream ends before the next frame, even
                while the source stalls.

        Yields:
            Every frame, also those without an object.

        Raises:
            InputError: there is no such file, or it cannot be read; or boxes of a file are all of other files or, which
                shows at the end of a video, of other frames.
            CunetError: a video breaks off, or a camera or stream is lost; its frames until there came before.
        """
        if follow not in (None, True, False):
            raise InputError(f"follow is {follow!r}; expected True, False or None")
        if stop is not None and not callable(getattr(stop, "is_set", None)):
            raise InputError(f"stop is {stop!r}; expected a threading.Event or None")
        opened = _opened(source)
        live, moving = isinstance(opened, LiveSource), bool(getattr(opened, "moving", True))
        follow = moving if follow is None else follow
        ours = closing(opened) if isinstance(opened, LiveSource) and opened is not source else nullcontext()
        with ours:  # a camera that is refused is released as well
            self._check_given_boxes(opened)
            if follow and isinstance(smooth, Smoothing) and smooth.both_ways:
                yield from self._both_ways(opened, smooth, stop)
                return
            depth = 0 if not moving and getattr(opened, "count", None) == 1 else LIVE_DEPTH if live else DEPTH
            read = _pictures(opened, follow=follow, thumbnails=follow)
            # it is closed before the thread that reads is waited for, which then ends at once
            with closing(read_ahead(read, depth, drop_old=live, stop=stop)) as pictures, ours:
                whole = self._to_the_end(opened, pictures, stop)
                yield from self._follow(whole, smooth) if follow else self._each(whole)

    def close(self) -> None:
        """Release the networks; the localizer cannot be used afterwards."""
        if self._open is not None:
            self._open.close()
        _ALIVE.discard(self)

    def __enter__(self) -> Localizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> _Opening:
        """Return the arguments it was opened with: unpickling opens the networks again."""
        if not isinstance(self._opening.engine, (str, Path)):
            raise TypeError("a Localizer of an open session cannot be pickled; make it from a path or name")
        return self._opening

    def __setstate__(self, opening: _Opening) -> None:
        self._begin(opening)

    def _begin(self, opening: _Opening) -> None:
        self._opening, self._lock = opening, threading.Lock()
        self._open = opening.open()
        _ALIVE.add(self)

    def _forget(self) -> None:
        """Leave the networks of the parent process alone."""
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        if isinstance(self._opening.engine, (str, Path)) and self._open is not None:
            # never freed, not even as the process ends: that would wait for threads which only the parent has
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._open))
            self._open = None

    def _check_given_boxes(self, opened: Any, frames: int | None = None) -> None:
        """Check that boxes of a file are of these images or, with its number of frames, of this video.

        Of bare frames, and of images whose names a source does not tell, nothing is known.
        """
        detector, moving = self._networks().detector, getattr(opened, "moving", False)
        files = () if moving else getattr(opened, "file_names", ())
        if isinstance(detector, GivenBoxes) and (moving or files):
            name = opened.name if len(files) < 2 else f"the {len(files)} images"
            detector.check_source(name, files, len(files) or frames)

    def _to_the_end(
        self, opened: Any, pictures: Iterator[Picture], stop: threading.Event | None
    ) -> Generator[Picture, None, None]:
        """Pass pictures on, and check the boxes of a file when a video has ended by itself: all its frames came by."""
        frames = 0
        for picture in pictures:
            frames = picture.index + 1
            yield picture
        moving, live = getattr(opened, "moving", False), getattr(opened, "live", False)
        if frames and moving and not live and not (stop and stop.is_set()):
            self._check_given_boxes(opened, frames)

    def _each(self, pictures: Iterator[Picture]) -> Generator[Frame, None, None]:
        step = self._image_step()
        for picture in pictures:
            yield _frame(step, picture)

    def _follow(self, pictures: Iterator[Picture], smooth: bool | Smoothing | None) -> Generator[Frame, None, None]:
        step = self.video(smooth=True if smooth is None else smooth)
        for picture in pictures:
            yield _frame(step, picture)

    def _both_ways(self, source: Iterable[Any], smooth: Smoothing, stop: threading.Event | None) -> Iterator[Frame]:
        """Localize in all frames, then read them again and yield them with landmarks that know what came after."""
        if isinstance(source, (Iterator, LiveSource)):
            raise InputError("smoothing both ways reads the source twice: give a file or a list, not a stream")
        found: list[Landmarks] = []
        times: list[tuple[float, float]] = []  # of the frame, and that it took
        with closing(read_ahead(_pictures(source, follow=True, thumbnails=True), DEPTH, stop=stop)) as pictures:
            for frame in self._follow(self._to_the_end(source, pictures, stop), smooth=False):
                found.append(frame.landmarks)
                times.append((frame.time_ms, frame.seconds))
        steady = smooth_clip(found, [time_ms for time_ms, _ in times], smooth)
        with closing(read_ahead(_pictures(source, follow=True, thumbnails=False), DEPTH, stop=stop)) as pictures:
            for picture, landmarks, (_, seconds) in zip(pictures, steady, times, strict=False):
                yield Frame(picture.index, picture.time_ms, picture.image, landmarks, picture.name, seconds)


def _opened(source: Any) -> Iterable[Any]:
    """A source that can be iterated over, of what `Localizer.stream` was given.

    Raises:
        InputError: it is something else, or as `open_source`.
    """
    if isinstance(source, (str, Path)):
        return open_source(source)
    if isinstance(source, np.ndarray) and (source.ndim < 3 or (source.ndim == 3 and source.shape[2] in (1, 3, 4))):
        raise InputError("source is one image, not successive ones; give it to predict, or in a list")
    if not isinstance(source, Iterable) or isinstance(source, bytes):
        expected = (
            'a path or URL, the number of a camera as text ("0"), what cunet_deploy.media.open_source returns, or '
            "successive images"
        )
        raise InputError(f"source is {type(source).__name__}; expected {expected}")
    return source


def _pictures(source: Iterable[Any], *, follow: bool, thumbnails: bool) -> Iterator[Picture]:
    """Pictures of a source, as BGR; bare arrays are numbered, and taken as 30 a second."""
    depth = 8
    for index, item in enumerate(source.frames() if follow and isinstance(source, ImageFiles) else source):
        picture = item if isinstance(item, Picture) else Picture(index, index * ASSUMED_STEP_MS, item)
        depth = max(depth, depth_of(picture.image)) if follow else 8  # as `VideoStep.update`
        image = as_bgr(picture.image, depth)
        yield replace(picture, image=image, thumbnail=make_thumbnail(image) if thumbnails else None)


def _frame(step: ImageStep | VideoStep, picture: Picture) -> Frame:
    start = time.perf_counter()
    landmarks = step.update(picture.image, picture.index, picture.time_ms, picture.name, thumbnail=picture.thumbnail)
    seconds = time.perf_counter() - start
    return Frame(picture.index, picture.time_ms, picture.image, landmarks, picture.name, seconds)


def _checked(detector: Detector) -> Detector:
    """Refuse an object that is not all of a `Detector`."""
    if not isinstance(detector, Detector):
        members = ("every", "retry", "exact", "confident_score", "detect", "close")
        missing = ", ".join(name for name in members if not hasattr(detector, name))
        raise InputError(f"a detector of your own needs {missing} as well; see cunet_deploy.Detector")
    return detector


_ALIVE: weakref.WeakSet[Localizer] = weakref.WeakSet()


def _after_fork() -> None:
    """Let every localizer of a new process open its networks again when they are used."""
    for localizer in list(_ALIVE):
        localizer._forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
