from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from clocks import Clock
from numpy.typing import NDArray

from cunet_deploy.bench.latency import STAGES, Candidate, Scene, Timing, measure_latency, ratio
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder
from cunet_deploy.manifest import Manifest
from cunet_deploy.skeletons import IBUG68

MANIFEST = Manifest("toy", IBUG68, CropRule(32, 1.4), 4, Decoder(), 8, 8, 0.3, "none", ("drawn",), 17, "test", "0" * 64)
SCENE = Scene.centred(np.zeros((60, 80, 3), np.uint8))


@dataclass
class SlowNetwork:
    """Takes a given time, and a hundredth of it more with every call of any network: the machine gets slower."""

    clock: Clock
    seconds: float
    live: list[SlowNetwork] = field(default_factory=list)
    log: list[tuple[float, int]] = field(default_factory=list)
    manifest: Manifest = MANIFEST
    backend: str = "toy"

    def open(self) -> SlowNetwork:
        self.clock.now += 0.5
        self.live.append(self)
        return self

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.shape[1:] == (32, 32, 3)
        self.log.append((self.seconds, len(self.live)))
        self.clock.now += self.seconds * (1 + len(self.log) / 100)
        return np.zeros((len(images), 68, 8, 8), np.float32)

    def close(self) -> None:
        self.live.remove(self)


def networks(*seconds: float) -> list[SlowNetwork]:
    clock = Clock()
    live: list[SlowNetwork] = []
    log: list[tuple[float, int]] = []
    return [SlowNetwork(clock, each, live, log) for each in seconds]


def timed(found: list[SlowNetwork], **options: int | bool) -> list[Timing]:
    candidates = [Candidate(f"takes {network.seconds}", network.open) for network in found]
    return measure_latency(candidates, SCENE, clock=found[0].clock, **options)  # type: ignore[arg-type]


def test_the_ratio_survives_a_machine_that_gets_slower_all_the_time() -> None:
    slow, fast = timed(networks(0.02, 0.01), rounds=20, calls=5)
    assert slow.total_ms[-1].mean() > 2 * slow.total_ms[0].mean()  # that is how much it got slower
    found = ratio(fast, slow)
    assert found.value == pytest.approx(0.5, rel=0.03)
    assert found.low <= found.value <= found.high
    assert ratio(fast, slow, stage="network") == found


def test_a_model_is_exactly_as_slow_as_itself() -> None:
    (timing,) = timed(networks(0.01), rounds=4, calls=3)
    assert ratio(timing, timing).to_dict() == {"value": 1, "ci95_low": 1, "ci95_high": 1}


def test_models_take_turns_and_each_comes_first_equally_often() -> None:
    found = networks(0.001, 0.002, 0.003)
    timed(found, rounds=3, calls=2)
    turns = [seconds for seconds, _ in found[0].log]
    order = [seconds for i, seconds in enumerate(turns) if i == 0 or turns[i - 1] != seconds]
    # the last turn of a round and the first of the next round may be one model's
    assert order == [0.001, 0.002, 0.003, 0.002, 0.003, 0.001, 0.003, 0.001, 0.002]


def test_all_models_stay_open_by_default() -> None:
    found = networks(0.001, 0.002)
    timed(found, rounds=3, calls=2)
    assert found[0].log[-1][1] == 2
    assert found[0].live == []


def test_only_one_model_is_open_at_a_time_when_asked_for() -> None:
    found = networks(0.001, 0.002)
    timed(found, rounds=3, calls=2, keep_open=False)
    assert {live for _, live in found[0].log} == {1}
    assert found[0].live == []


def test_models_are_closed_when_one_of_them_fails() -> None:
    good, bad = networks(0.001, 0.002)
    calls = iter(range(30))

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if next(calls, None) is None:
            raise RuntimeError("device lost")
        return np.zeros((len(images), 68, 8, 8), np.float32)

    bad.run = run  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="device lost"):
        timed([good, bad], rounds=20, calls=10)
    assert good.live == []


def test_the_report_has_units_and_every_stage() -> None:
    (timing,) = timed(networks(0.01), rounds=4, calls=3)
    table = timing.to_dict()
    assert table["calls"] == 12
    assert table["load_ms"] == 500
    assert table["network_p50_ms"] == pytest.approx(table["total_p50_ms"])
    assert table["total_p50_ms"] <= table["total_p90_ms"] <= table["total_p95_ms"] <= table["total_p99_ms"]
    assert {f"{stage}_p50_ms" for stage in STAGES} <= set(table)


def test_a_batch_is_one_call() -> None:
    network = networks(0.01)[0]
    seen: list[int] = []
    run = network.run

    def counting(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(len(images))
        return run(images)

    network.run = counting  # type: ignore[method-assign]
    scene = Scene.centred(np.zeros((60, 80, 3), np.uint8), batch=3)
    measure_latency([Candidate("three", network.open)], scene, rounds=2, calls=2, clock=network.clock)
    assert set(seen) == {3}


@pytest.mark.parametrize("options", [{"rounds": 0}, {"calls": 0}])
def test_a_benchmark_without_calls_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least one round"):
        timed(networks(0.01), **options)
