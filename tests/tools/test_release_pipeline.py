"""The measurement of infer, on a few frames; its figures are not judged, since they depend on the machine's load."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from tools.release import pipeline as pipeline_tool

DEMO = Path(__file__).parents[1] / "data" / "demo.mp4"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return pipeline_tool


@pytest.fixture(scope="module")
def report(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("pipeline") / "pipeline.json"
    limits = ["--frames", 6, "--rounds", 2, "--short", 3, "--long", 8, "--runs", 1, "--threads", 1]
    result = CliRunner().invoke(script.main, [str(item) for item in (DEMO, DEMO, *limits, "--draw", "--json", out)])
    assert result.exit_code == 0, result.output
    assert "| throughput, of " in result.output
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.slow
def test_every_stage_is_measured(report: dict[str, Any]) -> None:
    flow = report["throughput"]
    assert flow["frames"] == 12
    stages = {name: flow[f"{name}_ms_per_frame"] for name in ("read", "localize", "write")}
    assert all(ms > 0 for ms in stages.values())
    assert flow["slowest"] == max(stages, key=lambda name: stages[name])
    assert flow["open_ms_per_clip"] > 0
    assert flow["frames_per_second"] == pytest.approx(1000 / flow["all_ms_per_frame"])
    assert {"processor", "cpus"} <= set(report["machine"])
    assert "onnxruntime" in report["versions"]


@pytest.mark.slow
def test_the_step_of_bench_is_measured_beside_that_of_infer(report: dict[str, Any]) -> None:
    step = report["step"]
    assert step["frames"] == 100
    assert step["infer_ms_per_frame"] > 0
    assert step["bench_ms_per_frame"] > 0
    assert step["bench_by_infer"] > 0


@pytest.mark.slow
def test_memory_and_start_are_measured_in_processes_of_their_own(report: dict[str, Any]) -> None:
    memory, start = report["memory"], report["start"]
    assert memory["frames"] == [3, 8]
    assert all(20 * 2**20 < peak < 2**31 for peak in memory["peak_bytes"])
    assert memory["growth"] == pytest.approx(memory["peak_bytes"][1] / memory["peak_bytes"][0] - 1)
    assert 0 < start["cached_cpu_seconds"] < 60
    assert 0 < start["uncached_cpu_seconds"] < 60


def test_a_looped_clip_is_numbered_and_timed_as_one_video(script: ModuleType) -> None:
    clip = script._video(DEMO)
    length = clip.count + 2
    pictures = [picture for picture, _ in zip(script._again(clip), range(length), strict=False)]
    assert [picture.index for picture in pictures] == list(range(length))
    times = [picture.time_ms for picture in pictures]
    assert times == sorted(times)
    assert (pictures[-2].image == pictures[0].image).all()
    assert not (pictures[-3].image == pictures[0].image).all()


def test_bars_that_are_missed_are_named(script: ModuleType) -> None:
    stages = {f"{name}_ms_per_frame": 1.0 for name in ("read", "localize", "write", "all")}
    flow = {"slowest": "localize", "share_of_slowest_stage": 0.8, "frames": 9, "clips": ["a"], **stages}
    flow |= {"frames_per_second": 90.0, "open_ms_per_clip": 9.0, "share_without_opening": 0.91}
    start = {"cached_seconds": 0.5, "uncached_seconds": 0.6, "cached_cpu_seconds": 0.4, "uncached_cpu_seconds": 0.5}
    memory = {"frames": [1, 2], "peak_bytes": [100, 106], "growth": 0.06}
    step = {"bench_by_infer": 1.12}
    lines = script.table({"throughput": flow, "step": step, "memory": memory, "start": start}).splitlines()
    assert [line.split("|")[-2].strip() for line in lines[2:7]] == ["NO", "yes", "NO", "NO", "yes"]


def test_a_picture_is_no_video(script: ModuleType, astronaut: Path) -> None:
    result = CliRunner().invoke(script.main, [str(astronaut)])
    assert result.exit_code == 2
    assert f"error: {astronaut}: is no video; give videos" in result.stderr
