"""The training part of the acceptance run for GPUs, as far as it can be tried without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from drawn import CONFIG_TOML

from cunet_deploy.cli import cli
from cunet_deploy.config import load_config
from tools import gpu_acceptance, gpu_training

SCRIPT = Path(gpu_acceptance.__file__).with_suffix(".sh")


def test_every_variant_is_a_configuration_that_differs_in_what_it_is_for(tmp_path: Path) -> None:
    source = tmp_path / "config.toml"
    source.write_text(CONFIG_TOML)
    paths = gpu_training.write_configs(source, 2, tmp_path / "runs")
    assert [path.stem for path in paths] == list(gpu_training.VARIANTS)
    plain = load_config(tmp_path / "runs" / "float32.toml")
    assert (plain.train.epochs, plain.quant.epochs, plain.train.precision) == (2, 1, "float32")
    for name, changes in gpu_training.VARIANTS.items():
        config = load_config(tmp_path / "runs" / f"{name}.toml")
        for key, value in changes.items():
            assert getattr(config.train, key) == value != getattr(plain.train, key)


def test_a_dry_run_lists_steps_with_options_that_exist(tmp_path: Path) -> None:
    arguments = ["bash", str(SCRIPT), "train", "CONFIG.toml", "DATA", str(tmp_path / "out"), "--dry-run"]
    environment = {**os.environ, "PYTHON": sys.executable}
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    names = re.findall(r"^(\S+):", result.stdout, re.MULTILINE)
    assert len(names) == len(set(names))
    assert {f"train-{name}" for name in gpu_training.VARIANTS} <= set(names)
    assert {f"train-export-{name}" for name in gpu_training.VARIANTS} <= set(names)
    command = cli.get_command(click.Context(cli), "train")
    assert command is not None
    known = {option for item in command.params for option in item.opts}
    lines = [line.partition(" train ")[2] for line in result.stdout.splitlines() if "cunet_deploy -q train " in line]
    used = {word for line in lines for word in line.split() if word.startswith("-")}
    assert used
    assert used <= known
    assert list(tmp_path.iterdir()) == []


def write_run(folder: Path, name: str, losses: list[float], peak: int | None, differing: int = 0) -> None:
    run = folder / "training" / name
    run.mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"phase": "float", "loss": loss, "crops_per_second": 100.0, "data_wait_fraction": 0.1} for loss in losses
    ]
    if peak is not None:
        rows[-1]["peak_device_bytes"] = peak
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bundle = folder / "training" / f"{name}-bundle"
    bundle.mkdir()
    table = {"parity": {"values_differing_from_integer_arithmetic": differing}}
    (bundle / "manifest.json").write_text(json.dumps(table))


def test_the_report_compares_with_the_cpu_and_states_the_memory_that_is_saved(tmp_path: Path) -> None:
    write_run(tmp_path, "cpu", [2.0, 1.0], None)
    write_run(tmp_path, "float32", [2.1, 1.0], 1000)
    write_run(tmp_path, "both", [1.9, 1.0], 250)
    found = gpu_training.results(tmp_path)
    assert found["first_loss_by_the_cpus"] == {"float32": 1.05, "both": 0.95}
    assert found["losses_agree_with_the_cpu"] is True
    assert found["all_exports_are_exact"] is True
    assert found["peak_memory_saved_percent"] == {"both": 75.0}
    assert found["runs"]["float32"]["crops_per_second"] == 100.0
    write_run(tmp_path, "bfloat16", [3.0], 500, differing=2)
    found = gpu_training.results(tmp_path)
    assert (found["losses_agree_with_the_cpu"], found["all_exports_are_exact"]) == (False, False)
    assert gpu_training.results(tmp_path / "nothing") == {}


@pytest.mark.slow
def test_feeding_is_measured_on_drawn_photos(tmp_path: Path) -> None:
    for arguments, wanted in (
        (["speed", "--photos", "32", "--workers", "0", "--workers", "1", "--turns", "1"], "1 workers: "),
        (["memory", "--photos", "40", "--cache", "5MB"], "beside the cache of 5 MB"),
        (["coco", "--people", "50"], "50 people of "),
        (["activations", "models/face68-xs/config.toml"], "| `face68-xs`, 128 px, batch 16 |"),
    ):
        json_option = [] if arguments[0] == "activations" else ["--json", str(tmp_path / "out.json")]
        line = [sys.executable, "-m", "tools.experiments.feeding", *arguments, *json_option]
        result = subprocess.run(line, capture_output=True, text=True, check=False)  # it measures its own process
        assert result.returncode == 0, result.stderr
        assert wanted in result.stdout + result.stderr
