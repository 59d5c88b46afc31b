"""All that is measured of some models on this machine, as one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.bench.latency import Candidate, Timing, measure_latency, ratio
from cunet_deploy.bench.memory import Memory, measure_memory
from cunet_deploy.bench.peak import Peak, Roofline, measure_peak, roofline
from cunet_deploy.bench.plot import Bar, draw_bars
from cunet_deploy.bench.setups import Input, Setup
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.machine.describe import describe_machine, describe_versions
from cunet_deploy.metrics import Estimate
from cunet_deploy.onnx_graph.costs import Costs, read_costs
from cunet_deploy.sessions.registry import packages

__all__ = ["Measured", "Report", "measure"]


@dataclass(frozen=True, eq=False)
class Measured:
    """One row.

    Attributes:
        setup: the model and how it ran.
        timing: how long it took.
        memory: what it took, or why that is not known.
        costs: what it has to do, or why that is not known.
        peak: of the processor with as many threads; ``None`` where it did not run on it.
    """

    setup: Setup
    timing: Timing
    memory: Memory | str
    costs: Costs | str
    peak: Peak | None

    @property
    def roofline(self) -> Roofline | None:
        """Share of the peak that it reached."""
        if isinstance(self.costs, str) or self.peak is None:
            return None
        return roofline(self.costs, self.timing.network_ms_per_crop(), self.peak)

    def to_dict(self, first: Measured) -> dict[str, Any]:
        """Plain values with units in the keys; what is not known is left out."""
        setup, timing = self.setup, self.timing
        near = self.roofline
        ratios = {"total": self.ratio_to(first), "network": self.ratio_to(first, stage="network")}
        return {
            "model": setup.model,
            "backend_name": setup.backend,
            "threads": setup.threads,
            "batch": setup.batch,
            "file_bytes": setup.path.stat().st_size,
            **timing.to_dict(),
            "stages_ms": timing.stages_to_dict(),
            "total_median_ms": timing.median().to_dict(),
            f"{timing.unit}_per_second": round(timing.per_second, 2),
            **{f"{name}_ratio_to_first": found.to_dict() for name, found in ratios.items() if found is not None},
            **({} if isinstance(self.memory, str) else self.memory.to_dict()),
            **({} if isinstance(self.costs, str) else self.costs.to_dict()),
            **({} if near is None else near.to_dict()),
        }

    def ratio_to(self, first: Measured, *, stage: str | None = None) -> Estimate | None:
        """Its time as a multiple of another's; ``None`` where that took none, as a network that was given no crop."""
        if not (self.timing.stage_ms(stage) > 0).all() or not (first.timing.stage_ms(stage) > 0).all():
            return None
        return ratio(self.timing, first.timing, stage=stage)


@dataclass(frozen=True, eq=False)
class Report:
    """Rows, and what they hang on.

    Attributes:
        rows: the first is what the others are compared with.
        given: what the networks were given.
        rounds: turns of each row.
        calls: of each turn.
    """

    rows: tuple[Measured, ...]
    given: Input
    rounds: int
    calls: int

    @cached_property
    def machine(self) -> dict[str, Any]:
        """Machine of the measurement."""
        return describe_machine()

    @property
    def peaks(self) -> list[Peak]:
        """One for each number of threads."""
        return list(dict.fromkeys(row.peak for row in self.rows if row.peak is not None))

    def notes(self) -> list[str]:
        """List what was measured and what could not be, one line each."""
        lines = [self.given.describe()]
        sets = self.machine.get("instruction_sets")
        lines.append(f"instruction sets: {', '.join(sets) if sets else 'not known here'}")
        for what in ("memory", "costs"):
            reasons = dict.fromkeys(found for row in self.rows if isinstance(found := getattr(row, what), str))
            lines += [f"{'memory' if what == 'memory' else 'multiplications'} left out: {reason}" for reason in reasons]
        for row in self.rows:
            if not isinstance(row.costs, str) and row.costs.unknown:
                lines.append(
                    f"{row.setup.model}: the multiplications of {row.costs.unknown} layers are not counted: their "
                    "sizes, or how often they run, are not known"
                )
        for peak in self.peaks:
            lines.append(
                f"peak of {peak.threads} thread(s): int8 {peak.int8_gmac_per_second:.0f} GMAC/s, float "
                f"{peak.float_gmac_per_second:.0f} GMAC/s, measured on one large matrix product in ONNX Runtime; a "
                "stand-in for what the hardware can do"
            )
        if any(near is not None and near.fraction_of_peak > 1 for near in (row.roofline for row in self.rows)):
            lines.append("a network was faster than that peak: the machine was busy while it was measured; try again")
        return lines

    def picture(self) -> NDArray[np.uint8]:
        """A bar chart of the stages of each row, (H, W, 3) BGR uint8."""
        bars = []
        for row in self.rows:
            near = row.roofline
            note = f"{row.timing.per_second:.1f} {row.timing.unit}/s"
            if near is not None:
                note += f", {near.reached_gmac_per_second:.1f} GMAC/s, {near.fraction_of_peak:.0%} of the measured peak"
            model, backend, threads, batch = row.setup.key
            label = f"{model}, {backend}, {threads} thread{'s' * (threads > 1)}, batch {batch}"
            bars.append(Bar(label, row.timing.typical_ms(), note))
        kind = "medians" if self.rows[0].timing.unit == "crops" else "means"
        return draw_bars(f"{self.machine['processor']}: ms a call, {kind} of each stage", bars)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with units in the keys."""
        return {
            "rounds": self.rounds,
            "calls_per_round": self.calls,
            "stages": list(self.rows[0].timing.stages),
            **dict(zip(("input", "detector"), self.given.key, strict=True)),
            "notes": self.notes(),
            "models": [row.to_dict(self.rows[0]) for row in self.rows],
            "peaks": [peak.to_dict() for peak in self.peaks],
            "machine": self.machine,
            "versions": describe_versions(*packages()),
        }


def measure(
    setups: Sequence[Setup],
    given: Input,
    *,
    rounds: int,
    calls: int,
    advance: Callable[[int], None] | None = None,
) -> Report:
    """Measure every setup: latency in turns, memory one after the other, and the peak of the processor.

    Args:
        setups: at least one; the first is what the others are compared with.
        given: what the networks are given.
        rounds: turns of each.
        calls: counted calls of a turn.
        advance: called with 1 after each turn.

    Raises:
        CunetError: a model or the input cannot be used.
    """
    if not setups:
        raise InputError("a benchmark needs a model")
    costs = {path: _costs(path) for path in dict.fromkeys(setup.path for setup in setups)}
    works = {size: given.work(size) for size in {setup.batch for setup in setups}}
    candidates = [Candidate(setup.model, setup.open, works[setup.batch]) for setup in setups]
    timings = measure_latency(
        candidates,
        works[setups[0].batch],
        rounds=rounds,
        calls=calls,
        keep_open=all(setup.threads == 1 for setup in setups),
        advance=advance,
    )
    memory = [measure_memory(setup, given) for setup in setups]
    peaks = {count: measure_peak(count) for count in {setup.threads for setup in setups if setup.is_on_cpu}}
    rows = (
        Measured(setup, timing, taken, costs[setup.path], peaks[setup.threads] if setup.is_on_cpu else None)
        for setup, timing, taken in zip(setups, timings, memory, strict=True)
    )
    return Report(tuple(rows), given, rounds, calls)


def _costs(path: Path) -> Costs | str:
    if path.suffix != ".onnx":
        return f"{path} holds no graph that can be read"
    try:
        return read_costs(path)
    except CunetError as error:  # the onnx package is not needed for the rest
        return str(error)
