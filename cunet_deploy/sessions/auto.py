"""Choice of the fastest backend on this machine: measured once, then recalled.

The backends take turns on one crop, and their medians are compared. Before that each must find the right landmarks:
those that the bundle's ``golden.npz`` holds, else those that ONNX Runtime finds on the CPU. A backend that does not
load or finds others is left out, and said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy import __version__
from cunet_deploy._files import file_sha256, write_text_atomic
from cunet_deploy.drawn_faces import drawn_faces
from cunet_deploy.errors import CunetError, VerificationError
from cunet_deploy.golden import read_golden
from cunet_deploy.machine.cpu import available_cpus, read_cpuinfo
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.cache import cache_folder, describe_processor
from cunet_deploy.sessions.registry import default_backend, packages

__all__ = ["Choice", "cache_folder", "choose", "fingerprint", "measure"]

DEFAULT = default_backend(".onnx").name
MAX_MEAN_PX = 0.05
"""Tolerance of `cunet-deploy verify`. Backends round ties differently, which moves landmarks of the released models by
up to 0.043 pixels of the input on average over two crops; sums of bytes that are cut off move them by 0.2 and more."""
MARGIN = 0.97
"""The default is kept unless another one takes at most this share of its time."""

_SECONDS = 2.0
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 100
_WARM, _CALLS = 2, 3
"""Calls of a turn that are not counted, since the backend before has taken the caches, and calls that are."""
_ALONE_ROUNDS, _ALONE_SECONDS = 2, 0.15

Open = Callable[[], Session]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The backend to take.

    Attributes:
        backend: its name.
        ms: median milliseconds a crop of what was measured, by name; empty where only one backend can run the network.
        left_out: what does not load here or computes something else, and why, by name.
        missing: what is not installed, with the line that installs it, by name.
        recalled: whether it was measured earlier.
    """

    backend: str
    ms: dict[str, float]
    left_out: dict[str, str]
    missing: dict[str, str]
    recalled: bool = False

    def line(self) -> str:
        """Describe the choice and its reason in one line."""
        times = ", ".join(f"{name} {ms:.2f} ms" for name, ms in sorted(self.ms.items(), key=lambda item: item[1]))
        when = ", measured earlier" if self.recalled else ""
        why = f"{times} a crop{when}" if self.ms else "the only one that can run it"
        if self.ms and min(self.ms, key=lambda name: self.ms[name]) != self.backend:
            why += f"; {self.backend} is kept unless another one is {1 - MARGIN:.0%} faster"
        why += "".join(f"; {name} left out: {reason}" for name, reason in self.left_out.items())
        why += "".join(f"; {name} is not installed: {line}" for name, line in self.missing.items())
        return f"backend auto takes {self.backend}: {why}"


def choose(
    path: Path,
    candidates: Mapping[str, Open],
    missing: Mapping[str, str],
    *,
    threads: int | None,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Recall what was chosen on this machine for this file, or measure and remember it.

    Args:
        path: the ONNX file.
        candidates: what can be tried, by name; `DEFAULT` is among them.
        missing: what is not installed, and the line that installs it, by name.
        threads: that the candidates use.
        clock: seconds.

    Raises:
        VerificationError: none of the candidates loads and finds the right landmarks.
    """
    found = fingerprint(path, tuple(candidates), threads)
    folder = cache_folder()
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    file = None if folder is None else folder / f"backend-{digest[:16]}.json"
    choice = None if file is None else _recall(file, found, candidates)
    if choice is not None:
        return choice
    choice = measure(path, candidates, missing, threads=threads, clock=clock)
    if file is not None:
        table = {"fingerprint": found, **asdict(choice)}
        with contextlib.suppress(CunetError):  # it is measured again next time
            write_text_atomic(file, json.dumps(table, indent=1, sort_keys=True) + "\n", overwrite=True)
    return choice


def measure(
    path: Path,
    candidates: Mapping[str, Open],
    missing: Mapping[str, str],
    *,
    threads: int | None,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """Load, check and time the candidates, for about two seconds in all; arguments and errors as `choose`.

    With several threads only the one that is being timed is open: threads that wait for work spin, and would take the
    processors from the others.
    """
    end = clock() + _SECONDS
    left_out: dict[str, str] = {}
    usable: dict[str, Open] = {}
    judge = _Judge(path)
    with contextlib.ExitStack() as kept:
        sessions: dict[str, Session] = {}
        for name, open_candidate in candidates.items():
            try:
                session = open_candidate()
            except (CunetError, OSError, RuntimeError) as error:
                left_out[name] = f"does not load ({error})"
                continue
            reason = judge.objection(session, is_reference=name == DEFAULT)
            if reason:
                left_out[name] = reason
            else:
                usable[name] = open_candidate
            if reason or threads != 1:
                session.close()
            else:
                sessions[name] = session
                kept.callback(session.close)
        if not usable:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise VerificationError(
                f"{path}: no backend runs it as it should: {reasons}; name the backend to take all the same"
            )
        ms: dict[str, float] = {}
        if len(usable) > 1:
            crop = judge.crops[:1]
            ms = _time_in_turns(sessions, crop, end, clock) if sessions else _time_alone(usable, crop, end, clock)
    return Choice(_fastest(ms) if ms else next(iter(usable)), ms, left_out, dict(missing))


def fingerprint(path: Path, candidates: tuple[str, ...], threads: int | None) -> dict[str, Any]:
    """All that a choice hangs on: processor, libraries, network and threads, as JSON stores it."""
    return {
        **describe_processor(read_cpuinfo()),
        "cpus": available_cpus(),
        "threads": threads,
        "libraries": {"cunet-deploy": __version__, **{name: _version(name) for name in packages()}},
        "candidates": list(candidates),
        "sha256": file_sha256(path),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _recall(file: Path, found: Mapping[str, Any], candidates: Mapping[str, Open]) -> Choice | None:
    """Read the choice in a file, if it is whole and of this fingerprint."""
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        if table["fingerprint"] != found or table["backend"] not in candidates:
            return None
        ms = {str(name): float(value) for name, value in table["ms"].items()}
        left_out, missing = (
            {str(name): str(text) for name, text in table[key].items()} for key in ("left_out", "missing")
        )
        return Choice(table["backend"], ms, left_out, missing, recalled=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class _Judge:
    """Tells whether sessions find the landmarks that they should.

    Attributes:
        crops: (N, S, S, 3) that they are asked; empty before the first one is judged.
    """

    def __init__(self, path: Path) -> None:
        self.crops: NDArray[np.uint8] = np.zeros((0, 0, 0, 3), np.uint8)
        self._path = path
        self._expected: Points | None = None

    def objection(self, session: Session, *, is_reference: bool) -> str:
        """Say what is wrong with a session; empty if nothing is. Without golden inputs the reference is right."""
        if not len(self.crops):
            self.crops, self._expected = self._inputs(session.manifest)
        try:
            points = _points(session, self.crops)
        except (CunetError, RuntimeError) as error:
            return f"fails ({error})"
        if self._expected is None:
            self._expected = points if is_reference else None
            return ""
        distance = float(np.linalg.norm(points - self._expected, axis=-1).mean())
        if distance <= MAX_MEAN_PX:
            return ""
        return (
            f"finds landmarks {distance:.2f} px of the input away from where they should be, allowed are "
            f"{MAX_MEAN_PX:g}"
        )

    def _inputs(self, manifest: Manifest) -> tuple[NDArray[np.uint8], Points | None]:
        """Crops (N, S, S, 3) and the landmarks (N, K, 2) that must be found in them; ``None``: nothing tells."""
        size, count = manifest.crop.size, manifest.points
        with contextlib.suppress(CunetError):  # it is missing or damaged; verify tells
            golden = read_golden(self._path.with_name("golden.npz"))
            fits = golden.images.shape[1:] == (size, size, 3) and golden.points.shape[1:] == (count, 2)
            if fits and self._path.name == "model.onnx":
                return golden.images, np.asarray(golden.points, np.float64)
        return drawn_faces(size, 2), None


def _points(session: Session, crops: NDArray[np.uint8]) -> Points:
    """(N, K, 2) landmarks in (N, S, S, 3) crops, one run each, as they will be timed."""
    maps = np.concatenate([session.run(crops[index : index + 1]) for index in range(len(crops))])
    return session.manifest.read(maps)[0]


def _time_in_turns(
    sessions: Mapping[str, Session], crop: NDArray[np.uint8], end: float, clock: Callable[[], float]
) -> dict[str, float]:
    """Median milliseconds of each, in turns until ``end``."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(_MOST_ROUNDS):
        if turn >= _LEAST_ROUNDS and clock() >= end:
            break
        for name, session in sessions.items():
            for _ in range(_WARM):
                session.run(crop)
            for _ in range(_CALLS):
                start = clock()
                session.run(crop)
                seconds[name].append(clock() - start)
    return _medians_ms(seconds)


def _time_alone(
    candidates: Mapping[str, Open], crop: NDArray[np.uint8], end: float, clock: Callable[[], float]
) -> dict[str, float]:
    """Median milliseconds of each, in turns, only one of them open at a time."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(_ALONE_ROUNDS):
        if turn and clock() >= end:
            break
        for name, open_candidate in candidates.items():
            with contextlib.closing(open_candidate()) as session:
                for _ in range(_WARM):
                    session.run(crop)
                until = clock() + _ALONE_SECONDS
                while clock() < until or len(seconds[name]) < _CALLS:
                    start = clock()
                    session.run(crop)
                    seconds[name].append(clock() - start)
    return _medians_ms(seconds)


def _medians_ms(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: float(np.median(values)) * 1000 for name, values in seconds.items()}


def _fastest(ms: Mapping[str, float]) -> str:
    """The fastest; the default where nothing beats it by the `MARGIN`."""
    best = min(ms, key=lambda name: ms[name])
    return DEFAULT if DEFAULT in ms and ms[best] > MARGIN * ms[DEFAULT] else best
