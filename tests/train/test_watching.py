"""Progress of a run: throughput, a slow data pipeline, TensorBoard."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from drawn import CONFIG_TOML, tiny_config, write_faces

from cunet_deploy.cli.train import command
from cunet_deploy.errors import MissingDependencyError
from cunet_deploy.model.device import CPU
from cunet_deploy.train import batch_loader as loader_module
from cunet_deploy.train.batch_loader import BatchLoader
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.plots import main_metric
from cunet_deploy.train.tasks import load_task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_faces(root / "faces", 20, 7)
    return root


def run(data: Path, folder: Path, *options: str) -> str:
    config = folder.with_suffix(".toml")
    config.write_text(CONFIG_TOML.replace("batch_size = 4", "batch_size = 4\nvalidate_every = 2"))
    arguments = [str(config), "--data", str(data), "-o", str(folder), "--device", "cpu", "--threads", "1", *options]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_says_once_where_it_trains_and_each_epoch_how_fast(data: Path, tmp_path: Path) -> None:
    output = run(data, tmp_path / "run")
    assert output.count("training on cpu (1 thread) in float32, crops prepared by a thread") == 1
    assert output.count(" crops/s\n") == 3
    rows = RunFolder(tmp_path / "run").rows()
    assert all(row["crops_per_second"] > 0 and 0 <= row["data_wait_fraction"] <= 1 for row in rows)
    assert main_metric(rows[:1]) == ""  # nothing was measured in the first epoch
    assert main_metric(rows) == "nme_percent"


def test_a_slow_data_pipeline_is_said_once_with_what_to_do(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "available_cpus", lambda: 8)
    sampler = load_task(tiny_config(), data).sampler
    source = BatchLoader(sampler, batch_size=4, seed=0)
    source.waited = 2.0
    assert source.advice(10.0) is None
    source.waited = 0.9
    assert source.advice(1.0) is None, "too short to tell"
    source.waited = 6.0
    text = source.advice(10.0)
    assert text is not None
    assert "60% of the epoch" in text
    assert "try 2 workers" in text
    assert source.advice(10.0) is None
    busy = BatchLoader(sampler, batch_size=4, seed=0)
    busy.waited, busy.workers = 6.0, 8
    assert "all processors work" in (busy.advice(10.0) or "")


def test_waiting_for_crops_is_measured(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(times)))
    source = BatchLoader(load_task(tiny_config(), data).sampler, batch_size=4, seed=0)
    count = sum(1 for _ in source.epoch(0, CPU))
    assert source.waited == count + 1  # and once for the end


def test_the_notice_reaches_the_terminal(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchLoader, "advice", lambda self, seconds: "the data pipeline is the bottleneck")
    assert "the data pipeline is the bottleneck" in run(data, tmp_path / "run")


def test_tensorboard_holds_each_epoch_once_after_resuming(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed: pip install 'cunet-deploy[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    run(data, tmp_path / "run", "--log", "tensorboard")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    rows = RunFolder(tmp_path / "run").rows()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx([row["loss"] for row in rows])
    assert [event.step for event in events.Scalars("nme_percent")] == [2, 3]
    assert [event.step for event in events.Images("validation")] == [2, 3]


def test_tensorboard_that_is_missing_is_said_with_its_install_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cunet-deploy\[tensorboard\]'"):
        run(data, tmp_path / "run", "--log", "tensorboard")


def test_the_peak_of_a_gpu_is_in_the_metrics(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.prepare("", resume=False)
    config = tiny_config(quant={"epochs": 0}, train={"epochs": 1})
    owner = Trainer(config, load_task(config, data), folder, lambda _: None)
    monkeypatch.setattr(owner, "device", torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 123)
    phase_of_cpu = Trainer._float_phase
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **kwargs: self)
    monkeypatch.setattr("cunet_deploy.train.loop.fused", lambda device: None)
    rows: list[dict[str, Any]] = []
    owner._fit(phase_of_cpu(owner), rows)
    assert rows[0]["peak_device_bytes"] == 123
