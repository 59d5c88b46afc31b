"""Steps of training: in parts, in low precision, and read back in groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import tiny_config, write_faces

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.config import Config
from cunet_deploy.errors import ConfigError, CunetError, InputError
from cunet_deploy.model.device import CPU
from cunet_deploy.train import stepper as stepper_module
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.processes import Processes
from cunet_deploy.train.stepper import Stepper
from cunet_deploy.train.tasks import load_task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_faces(root / "faces", 20, 7)
    return root


def trainer(config: Config, data: Path, folder: Path, **options: Any) -> Trainer:
    run = RunFolder(folder)
    run.prepare("", resume=False)
    return Trainer(config, load_task(config, data), run, lambda _: None, **options)


def test_parts_of_a_batch_give_the_gradient_of_the_whole_but_for_batch_statistics(data: Path, tmp_path: Path) -> None:
    config = tiny_config(train={"batch_size": 8, "coordinate_weight": 0.0})
    gradients, losses = [], []
    for accumulate in (1, 2):
        owner = trainer(config, data, tmp_path / str(accumulate), accumulate=accumulate)
        phase = owner._float_phase()
        phase.network.eval()  # so that a crop does not hang on those beside it
        crops, targets = next(owner.loader.epoch(0, CPU))
        steps = Stepper(phase, owner.task, config, processes=Processes(), accumulate=accumulate)
        loss = steps._gradients((crops.permute(0, 3, 1, 2).float() - 128) / 128, targets)
        losses.append(float(loss))
        gradients.append(torch.cat([value.grad.flatten() for value in phase.network.parameters()]))  # type: ignore[union-attr]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def test_a_run_in_parts_is_resumed_in_parts_only(data: Path, tmp_path: Path) -> None:
    config = tiny_config(train={"batch_size": 8})
    trainer(config, data, tmp_path, accumulate=2).run()
    for accumulate in (1, 4):
        if accumulate == 4:
            config_of_four = tiny_config(train={"batch_size": 8})
            with pytest.raises(InputError, match="batch_size = 8 is too small in 4 parts; set 16"):
                Trainer(
                    config_of_four, load_task(config, data), RunFolder(tmp_path), lambda _: None, accumulate=accumulate
                )
            continue
        again = Trainer(config, load_task(config, data), RunFolder(tmp_path), lambda _: None, accumulate=accumulate)
        with pytest.raises(InputError, match="was trained in 2 parts a batch"):
            again.run(resume=True)


def test_float16_trains_and_resumes_with_its_scale(data: Path, tmp_path: Path) -> None:
    config = tiny_config(train={"precision": "float16", "epochs": 2})
    checksums = []
    for name in ("whole", "stopped"):
        owner = trainer(config, data, tmp_path / name)
        if name == "stopped":
            owner.progress = stop_after_the_first_epoch
            with pytest.raises(KeyboardInterrupt):
                owner.run()
            state = owner.folder.load_state(config)
            assert state["phase"]["scaler"]["scale"] > 0
            owner = Trainer(config, load_task(config, data), owner.folder, lambda _: None)
        owner.run(resume=name == "stopped")
        assert all(row["loss"] > 0 for row in owner.folder.rows())
        checksums.append(load_checkpoint(owner.folder.checkpoint("quantized")).checksum)
    assert checksums[0] == checksums[1]


def stop_after_the_first_epoch(row: Any) -> None:
    if row["event"] == "epoch":
        raise KeyboardInterrupt


def test_float16_skips_a_step_that_overflows_and_lowers_the_scale(data: Path, tmp_path: Path) -> None:
    owner = trainer(tiny_config(train={"precision": "float16"}), data, tmp_path)
    phase = owner._float_phase()
    phase.network.train()
    before = [value.detach().clone() for value in phase.network.parameters()]
    steps = Stepper(phase, owner.task, owner.config, processes=Processes())
    crops, targets = next(owner.loader.epoch(0, CPU))
    phase.scaler.scale(torch.ones(()))  # sets the scale up
    phase.scaler.update(2.0**120)
    steps.step(crops, targets, 1e-3)
    assert all(torch.equal(one, other) for one, other in zip(before, phase.network.parameters(), strict=True))
    assert phase.scaler.get_scale() == 2.0**119
    phase.scaler.update(1024.0)
    steps.step(crops, targets, 1e-3)
    assert not all(torch.equal(one, other) for one, other in zip(before, phase.network.parameters(), strict=True))


def test_float16_that_never_recovers_stops_with_the_advice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepper_module, "_MOST_SKIPPED", 2)
    owner = trainer(tiny_config(train={"precision": "float16"}), data, tmp_path)
    phase = owner._float_phase()
    with torch.no_grad():
        next(phase.network.parameters()).fill_(float("nan"))
    with pytest.raises(CunetError, match="lower learning_rate"):
        owner._epoch(phase)


def test_losses_are_read_back_in_groups_and_a_bad_gradient_is_still_noticed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = trainer(tiny_config(), data, tmp_path)
    phase = owner._float_phase()
    phase.network.train()
    steps = Stepper(phase, owner.task, owner.config, processes=Processes())
    steps._read_every = 3
    batches = list(owner.loader.epoch(0, CPU))[:4]
    read = []
    for crops, targets in batches:
        steps.step(crops, targets, 1e-4)
        read.append(len(steps.losses))
    assert read == [0, 0, 3, 3]
    with torch.no_grad():
        next(phase.network.parameters()).fill_(float("nan"))
    steps.step(*batches[0], 1e-4)
    with pytest.raises(CunetError, match="diverged"):
        steps.read()


def test_a_compiled_network_learns_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_eagerly(network: torch.nn.Module) -> torch.nn.Module:
        compiled.append(type(network).__name__)
        return network

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    checksums = []
    for on in (False, True):
        owner = trainer(tiny_config(train={"compile": on, "epochs": 1}), data, tmp_path / str(on))
        owner.run()
        checksums.append(load_checkpoint(owner.folder.checkpoint("quantized")).checksum)
    assert compiled == ["CUNet", "QuantizedNetwork"]
    assert checksums[0] == checksums[1]


@pytest.mark.parametrize("other", [{"memory_efficient": True}, {"saved_bits": 8}])
def test_compilation_goes_with_no_way_to_keep_less(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="compile goes with neither"):
        tiny_config(train={"compile": True, **other})
