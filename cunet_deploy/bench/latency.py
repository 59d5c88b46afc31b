"""Latency of several models, measured against each other in one process.

The clock frequency of a machine and its other work change by more than what two models often differ by. So the models
take turns, a few calls each, round after round.

A thread pool that waits for work spins, and so takes processors from the model that is being timed. With one thread a
session has no pool and all stay open; with several, only the session being timed is open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.manifest import Manifest
from cunet_deploy.metrics import Estimate, bootstrap, ratio_of_medians
from cunet_deploy.preprocess import sample
from cunet_deploy.sessions.base import Decoding, Session

__all__ = [
    "PERCENTILES",
    "STAGES",
    "Call",
    "Candidate",
    "Runner",
    "Scene",
    "Timing",
    "Work",
    "drawn_picture",
    "measure_latency",
    "ratio",
    "take_turns",
]

T = TypeVar("T")

STAGES = ("crop", "network", "decode")
PERCENTILES = (50, 90, 95, 99)

_LOADS = 3
_SETTLE_CALLS = (10, 200)  # at least, at most
_SETTLE_SECONDS = 3.0
_SETTLED = 0.03  # largest change of the median of five calls


class Call(NamedTuple):
    """One timed call: seconds of each stage, and how many crops went through the network in the network's stage."""

    seconds: tuple[float, ...]
    crops: int


class Runner(Protocol):
    """Candidate that does its work call after call; the session may be another one in every call."""

    def warm(self, session: Session) -> float:
        """A call that is not counted, and always the same; its seconds."""
        ...

    def call(self, session: Session) -> Call:
        """The next call that counts."""
        ...

    def close(self) -> None:
        """Release what it reads from."""
        ...


class Work(Protocol):
    """Work of one call."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of what is timed; one of them is ``"network"``."""
        ...

    def begin(self, clock: Callable[[], float]) -> Runner:
        """Start at the beginning, for one candidate."""
        ...


@dataclass(frozen=True)
class Candidate:
    """A model to time.

    Attributes:
        name: how it is called in the report.
        open: loads it.
        work: what it is given, in place of the scene of all.
    """

    name: str
    open: Callable[[], Session]
    work: Work | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """Input that every model is given.

    Attributes:
        image: (H, W, 3) BGR uint8.
        box: tight xyxy box of the object in it.
        batch: how many crops of it make one call.
    """

    image: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    batch: int = 1

    @classmethod
    def centred(cls, image: NDArray[np.uint8], batch: int = 1) -> Scene:
        """An object that takes the middle of the image, half as high as it."""
        height, width = image.shape[:2]
        x, y, reach = (width - 1) / 2, (height - 1) / 2, min(height, width) / 4
        return cls(image, (x - reach, y - reach, x + reach, y + reach), batch)

    @property
    def stages(self) -> tuple[str, ...]:
        """`STAGES`."""
        return STAGES

    def begin(self, clock: Callable[[], float]) -> Runner:
        """The same crops in every call."""
        return _SceneRunner(self, clock)


class _SceneRunner:
    """Image to landmarks in the image, with a known box. See `Runner`."""

    def __init__(self, scene: Scene, clock: Callable[[], float]) -> None:
        self._scene, self._clock = scene, clock

    def warm(self, session: Session) -> float:
        return sum(self.call(session).seconds)

    def call(self, session: Session) -> Call:
        clock, scene, manifest = self._clock, self._scene, session.manifest
        started = clock()
        crops = [manifest.crop.crop(scene.box) for _ in range(scene.batch)]
        images = np.stack([sample(scene.image, crop) for crop in crops])
        cropped = clock()
        if isinstance(session, Decoding) and session.decodes:
            found = np.asarray(session.landmarks(images)[0], np.float64)
            ran = clock()
        else:
            maps = session.run(images)
            ran = clock()
            found = manifest.read(maps)[0]
        for crop, points in zip(crops, found, strict=True):
            crop.to_image(points)
        return Call((cropped - started, ran - cropped, clock() - ran), len(crops))

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True, eq=False)
class Timing:
    """Times of a model.

    Attributes:
        name: of the candidate.
        manifest: of the model.
        backend: what ran it.
        load_ms: median time to open it, in ms, with the library loaded, the file in the page cache and its optimized
            graph kept, unless ``CUNET_CACHE=off``.
        stages_ms: (S, R, C) ms of the stages in C calls of R rounds.
        stages: names of the S stages.
        crops: (R, C) crops that went through the network in the network's stage; ``None``: not counted.
    """

    name: str
    manifest: Manifest
    backend: str
    load_ms: float
    stages_ms: NDArray[np.float64]
    stages: tuple[str, ...] = STAGES
    crops: NDArray[np.intp] | None = None

    def stage_ms(self, stage: str | None) -> NDArray[np.float64]:
        """(R, C) ms of one stage; ``None``: of all together."""
        return self.total_ms if stage is None else np.asarray(self.stages_ms[self.stages.index(stage)])

    @property
    def total_ms(self) -> NDArray[np.float64]:
        """(R, C) ms from the image to landmarks in the image."""
        return np.asarray(self.stages_ms.sum(axis=0))

    @property
    def unit(self) -> str:
        """Unit of a call: "crops", or "frames", one a call, which differ from each other."""
        return "crops" if self.stages == STAGES else "frames"

    @property
    def per_second(self) -> float:
        """Crops or frames in a second of such calls, one after the other."""
        count = self.total_ms.size if self.unit == "frames" or self.crops is None else float(self.crops.sum())
        return float(1000 * count / self.total_ms.sum())

    def typical_ms(self) -> dict[str, float]:
        """Each stage: the median of crops, which are all alike; the mean of frames, of which few may be searched."""
        if self.unit == "crops":
            return self.medians_ms()
        return {name: float(stage.mean()) for name, stage in zip(self.stages, self.stages_ms, strict=True)}

    def stages_to_dict(self) -> dict[str, dict[str, float]]:
        """Mean and `PERCENTILES` of each stage, in ms."""
        return {
            name: {
                "mean": round(float(stage.mean()), 4),
                **{f"p{p}": round(float(np.percentile(stage, p)), 4) for p in PERCENTILES},
            }
            for name, stage in zip(self.stages, self.stages_ms, strict=True)
        }

    def network_ms_per_crop(self) -> float:
        """Median ms of the network, over the calls in which it was given crops; 0 where it never was."""
        crops = np.ones(self.total_ms.shape) if self.crops is None else self.crops
        return float(np.median(self.stage_ms("network")[crops > 0] / crops[crops > 0])) if crops.any() else 0.0

    def median(self) -> Estimate:
        """The median ms of the total, with the interval that comes from drawing whole rounds."""
        return bootstrap(self.total_ms, lambda drawn: np.asarray(np.median(drawn, axis=(1, 2))))

    def percentiles_ms(self) -> dict[int, float]:
        """`PERCENTILES` of the total over all calls."""
        return {
            p: float(value) for p, value in zip(PERCENTILES, np.percentile(self.total_ms, PERCENTILES), strict=True)
        }

    def medians_ms(self) -> dict[str, float]:
        """Median of each stage over all calls."""
        return {name: float(np.median(stage)) for name, stage in zip(self.stages, self.stages_ms, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in the keys, to a tenth of a microsecond."""
        return {
            "name": self.manifest.name,
            "weight_bits": self.manifest.weight_bits,
            "backend": self.backend,
            "calls": int(self.total_ms.size),
            "load_ms": round(self.load_ms, 1),
            **{f"{name}_p50_ms": round(value, 4) for name, value in self.medians_ms().items()},
            **{f"total_p{p}_ms": round(value, 4) for p, value in self.percentiles_ms().items()},
        }


def measure_latency(
    candidates: Sequence[Candidate],
    scene: Work,
    *,
    rounds: int = 20,
    calls: int = 10,
    keep_open: bool = True,
    clock: Callable[[], float] = time.perf_counter,
    advance: Callable[[int], None] | None = None,
) -> list[Timing]:
    """Time the models in turns.

    Each is warmed up until its latency is stable, before the first round and, where it was opened again, before the
    others; the first call of every turn is not counted, since the model before has taken the caches.

    Args:
        candidates: the models.
        scene: what they are given, unless a candidate has its own work.
        rounds: how often each has its turn; the first model of a round changes.
        calls: counted calls in a turn.
        keep_open: hold all models open; else only the one whose turn it is (see the top of this module).
        clock: seconds.
        advance: called with 1 after each turn.
    """
    works = [candidate.work or scene for candidate in candidates]
    empty = any(isinstance(work, Scene) and work.batch < 1 for work in works)
    if not candidates or rounds < 1 or calls < 1 or empty:
        raise InputError("a benchmark needs a model, and at least one round, one call and one crop a call")
    loaded = [_load(candidate, clock) for candidate in candidates]
    turns = [_Turn(candidate, work.begin(clock), clock) for candidate, work in zip(candidates, works, strict=True)]

    def take(index: int) -> list[Call]:
        block = turns[index].take(calls)
        if not keep_open:
            turns[index].close_session()
        if advance is not None:
            advance(1)
        return block

    try:
        taken = take_turns(len(turns), rounds, take)
        return [
            _timing(candidate.name, load, work.stages, blocks)
            for candidate, load, work, blocks in zip(candidates, loaded, works, taken, strict=True)
        ]
    finally:
        for turn in turns:
            turn.close()


def take_turns(count: int, rounds: int, take: Callable[[int], T]) -> list[list[T]]:
    """Collect the results of ``take(index)`` for each of ``count`` in every round; the first of a round changes."""
    taken: list[list[T]] = [[] for _ in range(count)]
    for start in range(rounds):
        for index in ((start + offset) % count for offset in range(count)):
            taken[index].append(take(index))
    return taken


def drawn_picture(width: int = 1280, height: int = 720) -> NDArray[np.uint8]:
    """A smooth colour picture of waves, (height, width, 3) uint8, the same on every call."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / (37 + 11 * c) + c) * np.cos(y / (23 + 7 * c)) for c in range(3)]
    return np.asarray(127.5 + 110 * np.stack(waves, axis=-1), np.uint8)


def ratio(timing: Timing, reference: Timing, *, stage: str | None = None) -> Estimate:
    """Ratio of a model's time to that of another one timed with it.

    The quotient of the medians over all calls. The interval comes from drawing whole rounds, both models' calls of a
    round together, so what disturbed a round disturbs both.

    Args:
        timing: the model.
        reference: the other.
        stage: one of their stages; ``None`` for the total.
    """
    return ratio_of_medians(np.stack([item.stage_ms(stage) for item in (timing, reference)], axis=1))


def _load(candidate: Candidate, clock: Callable[[], float]) -> tuple[Manifest, str, float]:
    """Manifest and backend of a model, and the median ms it takes to open."""
    session = candidate.open()  # not timed: loads the library, and brings the file into the page cache
    manifest, backend = session.manifest, session.backend
    session.close()
    times = []
    for _ in range(_LOADS):
        start = clock()
        session = candidate.open()
        times.append(clock() - start)
        session.close()
    return manifest, backend, float(np.median(times)) * 1000


def _timing(name: str, load: tuple[Manifest, str, float], stages: tuple[str, ...], blocks: list[list[Call]]) -> Timing:
    seconds = np.array([[call.seconds for call in block] for block in blocks])  # (R, C, S)
    crops = np.array([[call.crops for call in block] for block in blocks], np.intp)
    return Timing(name, *load, np.ascontiguousarray(np.moveaxis(seconds, 2, 0)) * 1000, stages, crops)


class _Turn:
    """One model, its work, and its open session, if it is open."""

    def __init__(self, candidate: Candidate, runner: Runner, clock: Callable[[], float]) -> None:
        self._candidate, self._runner, self._clock = candidate, runner, clock
        self._session: Session | None = None

    def take(self, calls: int) -> list[Call]:
        """The next calls, timed."""
        session = self._session
        if session is None:
            session = self._session = self._candidate.open()
            self._settle(session)
        self._runner.warm(session)
        return [self._runner.call(session) for _ in range(calls)]

    def _settle(self, session: Session) -> None:
        """Call until the last five calls take as long as the five before."""
        least, most = _SETTLE_CALLS
        times: list[float] = []
        end = self._clock() + _SETTLE_SECONDS
        while len(times) < most and (len(times) < least or self._clock() < end):
            times.append(self._runner.warm(session))
            if len(times) >= least:
                before, last = np.median(times[-10:-5]), np.median(times[-5:])
                if abs(last - before) <= _SETTLED * before:
                    return

    def close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def close(self) -> None:
        self.close_session()
        self._runner.close()
