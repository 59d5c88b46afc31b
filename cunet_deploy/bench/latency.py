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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.heatmaps import decode, map_to_input
from cunet_deploy.manifest import Manifest
from cunet_deploy.metrics import Estimate, bootstrap
from cunet_deploy.runtime.preprocess import sample
from cunet_deploy.runtime.sessions.base import Session

__all__ = ["PERCENTILES", "STAGES", "Candidate", "Scene", "Timing", "drawn_picture", "measure_latency", "ratio"]

STAGES = ("crop", "network", "decode")
PERCENTILES = (50, 90, 95, 99)

_LOADS = 3
_SETTLE_CALLS = (10, 200)  # at least, at most
_SETTLE_SECONDS = 3.0
_SETTLED = 0.03  # largest change of the median of five calls


@dataclass(frozen=True)
class Candidate:
    """A model to time.

    Attributes:
        name: how it is called in the report.
        open: loads it.
    """

    name: str
    open: Callable[[], Session]


@dataclass(frozen=True, eq=False)
class Scene:
    """What every model is given.

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


@dataclass(frozen=True, eq=False)
class Timing:
    """How long a model took.

    Attributes:
        name: of the candidate.
        manifest: of the model.
        backend: what ran it.
        load_ms: median time to open it, in ms, with the library loaded and the file in the page cache.
        stages_ms: (3, R, C) ms of `STAGES` in C calls of R rounds.
    """

    name: str
    manifest: Manifest
    backend: str
    load_ms: float
    stages_ms: NDArray[np.float64]

    @property
    def total_ms(self) -> NDArray[np.float64]:
        """(R, C) ms from the image to landmarks in the image."""
        return np.asarray(self.stages_ms.sum(axis=0))

    def percentiles_ms(self) -> dict[int, float]:
        """`PERCENTILES` of the total over all calls."""
        return {
            p: float(value) for p, value in zip(PERCENTILES, np.percentile(self.total_ms, PERCENTILES), strict=True)
        }

    def medians_ms(self) -> dict[str, float]:
        """Median of each stage over all calls."""
        return {name: float(np.median(stage)) for name, stage in zip(STAGES, self.stages_ms, strict=True)}

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
    scene: Scene,
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
        scene: what they are given.
        rounds: how often each has its turn; the first model of a round changes.
        calls: counted calls in a turn.
        keep_open: hold all models open; else only the one whose turn it is (see the top of this module).
        clock: seconds.
        advance: called with 1 after each turn.
    """
    if not candidates or rounds < 1 or calls < 1 or scene.batch < 1:
        raise InputError("a benchmark needs a model, and at least one round, one call and one crop a call")
    loaded = [_load(candidate, clock) for candidate in candidates]
    turns = [_Turn(candidate, scene, clock) for candidate in candidates]
    stages: list[list[NDArray[np.float64]]] = [[] for _ in turns]
    try:
        for start in range(rounds):
            for index in ((start + offset) % len(turns) for offset in range(len(turns))):
                stages[index].append(turns[index].take(calls))
                if not keep_open:
                    turns[index].close()
                if advance is not None:
                    advance(1)
        return [
            Timing(candidate.name, *load, np.stack(blocks, axis=1))
            for candidate, load, blocks in zip(candidates, loaded, stages, strict=True)
        ]
    finally:
        for turn in turns:
            turn.close()


def drawn_picture(width: int = 1280, height: int = 720) -> NDArray[np.uint8]:
    """A smooth colour picture of waves, (height, width, 3) uint8, the same on every call."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / (37 + 11 * c) + c) * np.cos(y / (23 + 7 * c)) for c in range(3)]
    return np.asarray(127.5 + 110 * np.stack(waves, axis=-1), np.uint8)


def ratio(timing: Timing, reference: Timing, *, stage: str | None = None) -> Estimate:
    """How long a model takes as a multiple of another timed with it.

    The quotient of the medians over all calls. The interval comes from drawing whole rounds, both models' calls of a
    round together, so what disturbed a round disturbs both.

    Args:
        timing: the model.
        reference: the other.
        stage: one of `STAGES`; ``None`` for the total.
    """
    both = np.stack(
        [item.total_ms if stage is None else item.stages_ms[STAGES.index(stage)] for item in (timing, reference)],
        axis=1,
    )  # (R, 2, C)

    def quotient(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        medians = np.median(drawn, axis=(1, 3))
        return np.asarray(medians[:, 0] / medians[:, 1])

    return bootstrap(both, quotient)


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


class _Turn:
    """One model and its open session, if it is open."""

    def __init__(self, candidate: Candidate, scene: Scene, clock: Callable[[], float]) -> None:
        self._candidate, self._scene, self._clock = candidate, scene, clock
        self._session: Session | None = None

    def take(self, calls: int) -> NDArray[np.float64]:
        """(3, calls) ms of the stages of each call."""
        session = self._session
        if session is None:
            session = self._session = self._candidate.open()
            self._settle(session)
        self._call(session)
        return np.array([self._call(session) for _ in range(calls)]).T * 1000

    def _settle(self, session: Session) -> None:
        """Call until the last five calls take as long as the five before."""
        least, most = _SETTLE_CALLS
        times: list[float] = []
        end = self._clock() + _SETTLE_SECONDS
        while len(times) < most and (len(times) < least or self._clock() < end):
            times.append(sum(self._call(session)))
            if len(times) >= least:
                before, last = np.median(times[-10:-5]), np.median(times[-5:])
                if abs(last - before) <= _SETTLED * before:
                    return

    def _call(self, session: Session) -> tuple[float, float, float]:
        """Seconds of each stage of one call, image to landmarks in the image."""
        clock, scene, manifest = self._clock, self._scene, session.manifest
        started = clock()
        crops = [manifest.crop.crop(scene.box) for _ in range(scene.batch)]
        images = np.stack([sample(scene.image, crop) for crop in crops])
        cropped = clock()
        maps = session.run(images)
        ran = clock()
        cells, _ = decode(maps, manifest.decoder)
        for crop, points in zip(crops, map_to_input(cells, manifest.stride), strict=True):
            crop.to_image(points)
        return cropped - started, ran - cropped, clock() - ran

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
