"""Several processes that train one network take the steps of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bodies import write_lspet
from drawn import CONFIG_TOML, tiny_config

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.config import load_config
from cunet_deploy.data.batches import WHOLE, Part
from cunet_deploy.errors import InputError
from cunet_deploy.model.cunet import BatchNorm, CUNet, set_summing
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.processes import Processes, joined
from cunet_deploy.train.tasks import load_task

CONFIG = (
    CONFIG_TOML.replace('skeleton = "ibug68"', 'skeleton = "lsp14"')
    .replace('train = ["faces"]', 'train = ["lspet"]\nlayout = "lsp"')
    .replace("batch_size = 4", "batch_size = 8\nvalidate_every = 3")
    .replace("epochs = 2", "epochs = 3")
)


def test_parts_make_up_the_batch() -> None:
    chunk = np.arange(13)
    parts = [Part(index, 3).of(chunk) for index in range(3)]
    assert np.concatenate(parts).tolist() == chunk.tolist()
    assert {len(part) for part in parts} == {4, 5}
    assert WHOLE.of(chunk).tolist() == chunk.tolist()


def test_batch_normalization_over_processes_is_that_over_the_batch() -> None:
    torch.manual_seed(0)
    one, other = BatchNorm(5), BatchNorm(5)
    other.load_state_dict(one.state_dict())
    set_summing(other, lambda sums: sums)
    for _ in range(3):
        x = torch.randn(4, 5, 6, 6) * 3 + 7
        first, second = (x.clone().requires_grad_() for _ in range(2))
        a, b = one(first), other(second)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        weights = torch.randn_like(a)
        (a * weights).sum().backward()
        (b * weights).sum().backward()
        torch.testing.assert_close(first.grad, second.grad, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.running_mean, other.running_mean)
        torch.testing.assert_close(one.running_var, other.running_var)
    torch.testing.assert_close(one.weight.grad, other.weight.grad, atol=1e-4, rtol=1e-4)


def test_one_process_alone_changes_nothing() -> None:
    with joined() as alone:
        assert alone == Processes()
        assert alone.first
    model = CUNet(tiny_config().model, 3)
    assert alone.prepare(model) is model
    assert not any(module.summing for module in model.modules() if isinstance(module, BatchNorm))


def test_a_batch_that_is_too_small_for_the_processes_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size = 4 is too small for 2 processes; set 8"):
        Processes(0, 2).check(4)


class Stop(KeyboardInterrupt):
    """Ctrl-C after the first epoch."""


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_and_go_on_where_it_stopped(tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 30, unlabelled=3)  # the last batch is smaller, its parts are uneven
    (tmp_path / "config.toml").write_text(CONFIG)
    config = load_config(tmp_path / "config.toml")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, last in (("whole", 9), ("stopped", 1)):
            folder = RunFolder(tmp_path / name)
            folder.prepare(CONFIG, resume=False)

            def progress(row: object, last: int = last) -> None:
                assert isinstance(row, dict)
                if row["event"] == "epoch" and row["epoch"] == last:
                    raise Stop

            trainer = Trainer(config, load_task(config, tmp_path), folder, progress)
            if name == "whole":
                trainer.run()
            else:
                with pytest.raises(Stop):
                    trainer.run()
        torchrun("--data", tmp_path, "-o", tmp_path / "two", config=tmp_path / "config.toml")
        torchrun("--data", tmp_path, "-o", tmp_path / "stopped", "--resume", config=tmp_path / "config.toml")
        losses = {
            name: [row["loss"] for row in RunFolder(tmp_path / name).rows()] for name in ("whole", "two", "stopped")
        }
        assert len(losses["whole"]) == 4
        for name in ("two", "stopped"):
            assert losses[name] == pytest.approx(losses["whole"], rel=1e-3), name
            assert load_checkpoint(tmp_path / name / "quantized.pt").kind == "quantized"
        # and one process takes up what two have left
        Trainer(config, load_task(config, tmp_path), RunFolder(tmp_path / "two"), lambda _: None).run(resume=True)
    finally:
        torch.set_num_threads(threads)


def torchrun(*arguments: object, config: Path) -> None:
    """Train in two processes; what they print is shown when they fail."""
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line += ["-m", "cunet_deploy", "train", str(config), "--threads", "1", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
