"""The comparison of int8 networks with those of other quantizers, small, with what the environment has."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from tools.peers import paper as paper_tool

SMALL = ("--channels", "8", "--size", "64", "--rounds", "1", "--calls", "1")


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return paper_tool


@pytest.mark.slow
@pytest.mark.parametrize(("block", "threads"), [("pre", 1), ("post", 2)])
def test_a_network_in_int8_is_compared_with_what_others_make_of_it(
    script: ModuleType, tmp_path: Path, block: str, threads: int
) -> None:
    out = tmp_path / "paper.json"
    arguments = ["--blocks", block, "--threads", str(threads), *SMALL, "--json", str(out)]
    result = CliRunner().invoke(script.main, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    networks = {row["way"]: row for row in report["networks"]}
    expected = {script.FLOAT, script.STATIC, script.OURS}
    expected |= {script.OV_FLOAT, script.OV_OURS} if installed("openvino") else set()
    expected |= {script.NNCF} if installed("openvino") and installed("nncf") else set()
    assert set(networks) == expected
    assert bool(report["missing"]) == (script.NNCF not in expected)
    assert networks[script.FLOAT]["network_ratio_to_onnxruntime_float"]["value"] == 1
    for way, row in networks.items():
        assert row["block"] == block
        assert row["network_p50_ms"] > 0
        assert row["crop_and_landmarks_per_network"] > 0
        assert row["relative_heatmap_error"] < (1e-3 if way in (script.FLOAT, script.OV_FLOAT) else 0.3)
    pairs = {(pair["way"], pair["reference"]) for pair in report["pairs"]}
    assert pairs == {pair for pair in script.PAIRS if set(pair) <= expected}
    assert f"| {block} | {script.OURS} |" in result.output


def test_a_network_that_does_not_fit_the_crop_is_one_clear_line(script: ModuleType) -> None:
    result = CliRunner().invoke(script.main, ["--size", "100"])
    assert result.exit_code == 2, result.output
    assert "error: " in result.output
    assert "Traceback" not in result.output


def test_the_random_network_is_the_same_on_every_call(script: ModuleType) -> None:
    first, second = (script.random_checkpoint("post", 8, 64).checksum for _ in range(2))
    assert first == second
