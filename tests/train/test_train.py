"""Training on drawn faces: it learns, it resumes to the same bits, it stops cleanly."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from drawn import CONFIG_TOML, tiny_config, write_faces

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.cli.train import command
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.model.cunet import CatConv
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.schedule import one_cycle
from cunet_deploy.train.tasks import load_task

DATA_SEED = 7


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_faces(root / "faces", 20, DATA_SEED)
    return root


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG_TOML)
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, CunetError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_a_run_leaves_checkpoints_metrics_and_pictures(data: Path, toml: Path, tmp_path: Path) -> None:
    toml.write_text(CONFIG_TOML, "utf-16")  # as Notepad may save it
    code, output = run(toml, "--data", data, "-o", tmp_path / "run")
    assert code == 0
    assert (tmp_path / "run" / "config.toml").read_text("utf-8") == CONFIG_TOML
    assert "18 examples to train on, 2 for validation" in output
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {
        "config.toml", "metrics.jsonl", "state.pt", "float.pt", "quantized.pt", "curves.png", "validation.png",
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["phase"], row["epoch"]) for row in rows] == [("float", 1), ("float", 2), ("quantized", 1)]
    assert all(row["loss"] > 0 and row["nme_percent"] > 0 for row in rows)
    assert load_checkpoint(tmp_path / "run" / "quantized.pt").kind == "quantized"


def test_training_learns_the_drawn_faces(data: Path, tmp_path: Path) -> None:
    config = tiny_config(
        train={"epochs": 25, "learning_rate": 5e-3, "ema_decay": 0.9, "validate_every": 25},
        model={"channels": 16, "growth": 8},
        augment={"negative": 0.0, "erase": 0.0, "flip": 0.0, "rotation": 5.0},
        crop={"size": 64},
    )
    folder = RunFolder(tmp_path / "run")
    folder.prepare("", resume=False)
    Trainer(config, load_task(config, data), folder, lambda _: None).run()
    rows = folder.rows()
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert rows[-1]["nme_percent"] < 15  # untrained: about 80


@pytest.mark.slow
def test_a_killed_run_resumes_to_exactly_the_same_weights(data: Path, toml: Path, tmp_path: Path) -> None:
    command_line = [
        sys.executable,
        "-m",
        "cunet_deploy",
        "train",
        str(toml),
        "--data",
        str(data),
        "--threads",
        "1",
        "-o",
    ]
    subprocess.run([*command_line, str(tmp_path / "whole")], check=True, capture_output=True)
    killed = subprocess.Popen([*command_line, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while not metrics.is_file():
        assert killed.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert len(metrics.read_text().splitlines()) < 3
    subprocess.run([*command_line, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    for name in ("float.pt", "quantized.pt"):
        one, other = (load_checkpoint(tmp_path / run / name) for run in ("whole", "killed"))
        assert one.checksum == other.checksum
    rows = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "killed")
    ]
    assert rows[0] == rows[1]


def test_a_run_that_was_killed_before_its_first_state_goes_on_from_the_beginning(
    data: Path, toml: Path, tmp_path: Path
) -> None:
    RunFolder(tmp_path / "killed").prepare(toml.read_text(), resume=False)
    (tmp_path / "killed" / "state.pt.part").write_bytes(b"half of a state")
    assert run(toml, "--data", data, "-o", tmp_path / "killed", "--resume")[0] == 0
    assert run(toml, "--data", data, "-o", tmp_path / "whole")[0] == 0
    one, other = (load_checkpoint(tmp_path / name / "quantized.pt") for name in ("killed", "whole"))
    assert one.checksum == other.checksum
    assert not [*(tmp_path / "killed").glob("*.part")]


def test_memory_efficient_training_gives_the_same_losses(data: Path, tmp_path: Path) -> None:
    losses = []
    for efficient in (False, True):
        config = tiny_config(train={"memory_efficient": efficient, "epochs": 1}, quant={"epochs": 0})
        folder = RunFolder(tmp_path / str(efficient))
        folder.prepare("", resume=False)
        trainer = Trainer(config, load_task(config, data), folder, lambda _: None)
        recomputed = [
            module.efficient for module in trainer._float_phase().network.modules() if isinstance(module, CatConv)
        ]
        assert any(recomputed) == efficient
        trainer.run()
        losses.append(folder.rows()[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_two_trainings_do_not_share_a_folder(data: Path, toml: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert run(toml, "--data", data, "-o", folder.path)[0] == 0
    with folder.locked():
        code, message = run(toml, "--data", data, "-o", folder.path, "--resume")
    assert (code, "another training runs in it" in message) == (2, True)
    with folder.locked():
        pass  # and the lock ends with its block


def test_a_run_that_stops_in_its_first_epoch_goes_on(data: Path, tmp_path: Path) -> None:
    checksums = []
    for interrupted in (False, True):
        config, folder = tiny_config(), RunFolder(tmp_path / str(interrupted))
        folder.prepare("", resume=False)
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                Trainer(config, load_task(config, data), folder, raise_interrupt).run()
        Trainer(config, load_task(config, data), folder, lambda _: None).run(resume=interrupted)
        checksums.append(load_checkpoint(folder.checkpoint("quantized")).checksum)
    assert checksums[0] == checksums[1]


def raise_interrupt(_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("change", ["photos", "threads"])
def test_resuming_on_other_data_or_threads_is_refused(change: str, data: Path, toml: Path, tmp_path: Path) -> None:
    assert run(toml, "--data", data, "-o", tmp_path / "run", "--threads", "1")[0] == 0
    other = tmp_path / "other"
    write_faces(other / "faces", 20, DATA_SEED + (change == "photos"))
    code, message = run(
        toml, "--data", other, "-o", tmp_path / "run", "--resume", "--threads", 1 + (change == "threads")
    )
    expected = "other photos or labels" if change == "photos" else "go on with 1 for the same weights"
    assert (code, expected in message) == (2, True)
    torch.set_num_threads(1)


def test_resuming_with_the_wrong_configuration_leaves_the_run_alone(data: Path, toml: Path, tmp_path: Path) -> None:
    assert run(toml, "--data", data, "-o", tmp_path / "run")[0] == 0
    before = (tmp_path / "run" / "config.toml").read_text()
    toml.write_text(CONFIG_TOML.replace("batch_size = 4", "batch_size = 5"))
    assert run(toml, "--data", data, "-o", tmp_path / "run", "--resume")[0] == 2
    assert (tmp_path / "run" / "config.toml").read_text() == before


def test_ctrl_c_leaves_a_usable_checkpoint(data: Path, tmp_path: Path) -> None:
    config, folder = tiny_config(), RunFolder(tmp_path / "run")
    folder.prepare("", resume=False)
    steps = 0

    def interrupt(row: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(config, load_task(config, data), folder, interrupt).run()
    assert load_checkpoint(folder.checkpoint("float")).kind == "float"


def test_a_gradient_that_is_not_finite_stops_the_run_with_advice(data: Path, tmp_path: Path) -> None:
    config, folder = tiny_config(), RunFolder(tmp_path / "run")
    folder.prepare("", resume=False)
    trainer = Trainer(config, load_task(config, data), folder, lambda _: None)
    phase = trainer._float_phase()
    with torch.no_grad():
        next(phase.network.parameters()).fill_(float("nan"))
    with pytest.raises(CunetError, match="lower learning_rate"):
        trainer._epoch(phase)


def test_a_folder_with_a_run_is_not_overwritten(data: Path, toml: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "float.pt").write_bytes(b"precious")
    code, message = run(toml, "--data", data, "-o", tmp_path / "run")
    assert (code, "or resume that run" in message) == (2, True)
    assert (tmp_path / "run" / "float.pt").read_bytes() == b"precious"


def test_resuming_with_another_configuration_is_refused(data: Path, toml: Path, tmp_path: Path) -> None:
    assert run(toml, "--data", data, "-o", tmp_path / "run")[0] == 0
    toml.write_text(CONFIG_TOML.replace("batch_size = 4", "batch_size = 5"))
    code, message = run(toml, "--data", data, "-o", tmp_path / "run", "--resume")
    assert (code, "another configuration" in message) == (2, True)


@pytest.mark.parametrize("state", [b"", b"not a torch file"], ids=["empty", "text"])
def test_a_damaged_state_is_an_input_error(state: bytes, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.state.write_bytes(state)
    with pytest.raises(InputError, match=r"state\.pt"):
        folder.load_state(tiny_config())


def test_a_corrupt_photo_is_named_and_skipped_only_on_request(toml: Path, tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "data" / "faces", 8)
    (faces / "face003_1.png").write_bytes(b"\x89PNG broken")
    code, message = run(toml, "--data", tmp_path / "data", "-o", tmp_path / "run")
    assert (code, "face003_1.png" in message) == (2, True)
    code, output = run(toml, "--data", tmp_path / "data", "-o", tmp_path / "run2", "--skip-bad")
    assert (code, "skipped" in output and "face003_1.png" in output) == (0, True)
    assert ", 1 left out" in output


def test_the_rate_rises_falls_and_ends_near_zero() -> None:
    rates = [one_cycle(step / 100, 1.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == pytest.approx(rates[15]) == pytest.approx(1.0)
    assert rates[-1] < 1e-3
    assert all(a >= b for a, b in itertools.pairwise(rates[15:]))
