"""Equality of what ``bench --input`` measures and ``infer`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from cunet_deploy.bench import frames as bench_frames
from cunet_deploy.bench import report as bench_report
from cunet_deploy.bench.peak import Peak
from cunet_deploy.cli import cli
from cunet_deploy.media import Frame, Outputs

CLIP = Path(__file__).resolve().parents[1] / "data" / "demo.mp4"
COUNT = 100

Found = list[tuple[NDArray[np.float32], NDArray[np.int64]]]


def run(*arguments: object) -> None:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def of_infer(monkeypatch: pytest.MonkeyPatch, *options: object) -> Found:
    found: Found = []

    def keep(outputs: Outputs, frame: Frame) -> None:
        found.append((frame.landmarks.points.copy(), frame.landmarks.ids.copy()))

    monkeypatch.setattr(Outputs, "write", keep)
    run("infer", CLIP, "-o", "none", *options)
    return found


def of_bench(monkeypatch: pytest.MonkeyPatch, *options: object) -> Found:
    found: Found = []

    def keep(image: NDArray[np.uint8], points: NDArray[np.float32], ids: NDArray[np.int64], skeleton: Any) -> None:
        found.append((points.copy(), ids.copy()))

    monkeypatch.setattr(bench_frames, "draw_into", keep)
    monkeypatch.setattr(bench_report, "measure_memory", lambda setup, given: "not asked for")
    monkeypatch.setattr(bench_report, "measure_peak", lambda threads: Peak(threads, 1, 1))
    model, *others = options
    run("bench", model, "--input", CLIP, "--rounds", COUNT // 10, "--calls", 10, *others)
    return found


@pytest.mark.parametrize(
    "options", [(), ("--detector", "full"), ("--detector", "face-detect-s")], ids=["default", "full", "named"]
)
def test_bench_and_infer_find_the_same_landmarks_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    measured = of_bench(monkeypatch, "face68-xs", *options)
    inferred = of_infer(monkeypatch, "--model", "face68-xs", "--threads", 1, *options)
    assert len(measured) == len(inferred) == COUNT
    assert sum(len(ids) for _, ids in inferred) >= COUNT // 2  # faces are there to agree on
    for (points, ids), (other_points, other_ids) in zip(measured, inferred, strict=True):
        np.testing.assert_array_equal(points, other_points)
        np.testing.assert_array_equal(ids, other_ids)
