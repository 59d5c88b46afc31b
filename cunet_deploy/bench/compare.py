"""A benchmark judged against an earlier one, with the noise of both taken into account.

Two runs are far apart in time, and the machine may be slower in one of them for reasons of its own. So where both have
several rows, what is compared is each row's time as a multiple of the first row's, which were measured together.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from cunet_deploy._decode import Count, Positive, decode_json
from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.metrics import Estimate

__all__ = ["LEAST_ROUNDS", "Baseline", "Change", "Comparison", "Key", "number_rows"]

LEAST_ROUNDS = 5
"""The noise is estimated from how rounds differ; with fewer of them it looks smaller than it is."""

Key = tuple[str, str, int, int, int]
"""Model, backend, threads and batch of a row, and how many rows before it have the same."""

_MACHINE = ("processor", "board", "architecture", "cpus", "memory_gib")


@dataclass(frozen=True)
class Change:
    """Change of a row against the earlier report.

    Attributes:
        key: of the row.
        factor: new time by old time, with the interval that both intervals make together.
        relative: whether the times are multiples of the first row's; else milliseconds.
    """

    key: Key
    factor: Estimate
    relative: bool

    def is_regression(self, tolerance: float) -> bool:
        """Return whether it is slower by more than ``tolerance``, a share, even at the lower end of the interval."""
        return self.factor.low > 1 + tolerance

    def line(self) -> str:
        """Describe the change in one line."""
        model, backend, threads, batch, _ = self.key
        what = "time as a multiple of the first row" if self.relative else "time"
        factor = self.factor.text(3)
        return f"{model}, {backend}, {threads} thread(s), batch {batch}: {what} is {factor} times what it was"


@dataclass(frozen=True)
class Comparison:
    """All rows that both runs have.

    Attributes:
        changes: in the order of the new run.
        notes: what to know of the comparison, one line each.
        tolerance: the share by which a row may be slower.
    """

    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    tolerance: float

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The rows that are slower by more than the tolerance and the noise."""
        return tuple(change for change in self.changes if change.is_regression(self.tolerance))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tolerance": self.tolerance,
            "notes": list(self.notes),
            "rows": [
                {
                    **dict(zip(("model", "backend_name", "threads", "batch"), change.key, strict=False)),
                    "factor": change.factor.to_dict(),
                    "of_ratio_to_first": change.relative,
                    "regression": change.is_regression(self.tolerance),
                }
                for change in self.changes
            ],
        }


@dataclass(frozen=True)
class _Interval:
    """An `Estimate` in a report."""

    value: Positive
    ci95_low: Positive
    ci95_high: Positive


@dataclass(frozen=True)
class _Row:
    """Figures of a report's row that are compared."""

    model: str
    backend_name: str
    threads: Count
    batch: Count
    total_median_ms: _Interval
    total_ratio_to_first: _Interval

    def time(self, relative: bool) -> Estimate:
        """In ms, or as a multiple of the first row's."""
        found = self.total_ratio_to_first if relative else self.total_median_ms
        return Estimate(found.value, found.ci95_low, found.ci95_high)


@dataclass(frozen=True)
class _Report:
    """A report as ``bench --json`` writes it."""

    rounds: int
    models: Annotated[tuple[_Row, ...], Meta(min_length=1)]
    input: str
    detector: str
    machine: dict[str, Any]
    versions: dict[str, Any]

    def rows(self) -> dict[Key, _Row]:
        """Rows by key, in order."""
        keys = number_rows([(row.model, row.backend_name, row.threads, row.batch) for row in self.models])
        return dict(zip(keys, self.models, strict=True))


@dataclass(frozen=True)
class Baseline:
    """An earlier report.

    Attributes:
        path: where it was read.
        rows: by key, in its order.
        given: input and detector that it was measured with.
        machine: that it was measured on.
        versions: of libraries.
    """

    path: Path
    rows: dict[Key, _Row]
    given: tuple[str, str]
    machine: dict[str, Any]
    versions: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Read what ``bench --json`` wrote.

        Raises:
            InputError: it cannot be read, or has too few rounds to tell its noise.
            ArtifactError: it is not such a report, or is damaged.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give a report of bench as JSON") from error
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path}: is no text; give a report of bench as JSON") from error
        try:
            report = decode_json(text, _Report)
        except InputError as error:
            raise ArtifactError(
                f"{path}: is no report of bench, or damaged, or of another version ({error}); write it again"
            ) from error
        if report.rounds < LEAST_ROUNDS:
            raise InputError(
                f"{path}: has {report.rounds} rounds, too few to tell noise from change; use {LEAST_ROUNDS}"
            )
        return cls(path, report.rows(), (report.input, report.detector), report.machine, report.versions)

    def check(self, keys: Sequence[Key], given: tuple[str, str], rounds: int) -> None:
        """Check that a run can be compared with it, before it is measured.

        Raises:
            InputError: no row is in both, the input is another one, or the run has too few rounds.
        """
        if rounds < LEAST_ROUNDS:
            raise InputError(
                f"a comparison needs {LEAST_ROUNDS} rounds or more to tell noise from change, got {rounds}"
            )
        if given != self.given:
            ours, theirs = (f"input {source}, detector {detector}" for source, detector in (given, self.given))
            raise InputError(f"{self.path}: was measured with {theirs}, and this is to be with {ours}; use the same")
        if not set(keys) & set(self.rows):
            known = "; ".join(f"{key[0]} {key[1]} threads {key[2]} batch {key[3]}" for key in self.rows)
            raise InputError(f"{self.path}: has none of these rows; it has {known}")

    def compare(self, report: Mapping[str, Any], tolerance: float) -> Comparison:
        """Judge a report, as ``bench --json`` writes it.

        Args:
            report: the new one.
            tolerance: the share by which a row may be slower.
        """
        new = decode_json(json.dumps(report), _Report).rows()
        same_first = next(iter(new)) == next(iter(self.rows))
        relative = len(new) > 1 and len(self.rows) > 1 and same_first
        changes = [
            Change(key, _quotient(row.time(relative), self.rows[key].time(relative)), relative)
            for position, (key, row) in enumerate(new.items())
            if key in self.rows and not (relative and position == 0)
        ]
        return Comparison(tuple(changes), tuple(self._notes(report, new, relative)), tolerance)

    def _notes(self, report: Mapping[str, Any], new: Mapping[Key, object], relative: bool) -> list[str]:
        notes = []
        if relative:
            notes.append(f"the first row, {next(iter(new))[0]}, is what the others are measured by and is not judged")
        else:
            notes.append("times themselves are compared, since the files do not share their first of several rows")
        for what, old, now in (
            ("machine", {key: self.machine.get(key) for key in _MACHINE}, report["machine"]),
            ("versions", self.versions, report["versions"]),
        ):
            differ = [f"{key} {old.get(key)}, now {now.get(key)}" for key in old if old.get(key) != now.get(key)]
            if differ:
                notes.append(f"measured with other {what} than {self.path}: {'; '.join(differ)}")
        missing = len(set(new) - set(self.rows))
        if missing:
            notes.append(f"{missing} of {len(new)} rows are not in {self.path}")
        return notes


def number_rows(keys: Sequence[tuple[str, str, int, int]]) -> list[Key]:
    """Tell equal rows apart: a model that is named twice is measured twice."""
    seen: Counter[tuple[str, str, int, int]] = Counter()
    found: list[Key] = []
    for key in keys:
        found.append((*key, seen[key]))
        seen[key] += 1
    return found


def _quotient(new: Estimate, old: Estimate) -> Estimate:
    """New by old. Both are independent: distances to the ends of the intervals add up as squares of logarithms."""
    value = new.value / old.value
    down = math.hypot(math.log(new.value / new.low), math.log(old.high / old.value))
    up = math.hypot(math.log(new.high / new.value), math.log(old.value / old.low))
    return Estimate(value, value * math.exp(-down), value * math.exp(up))
