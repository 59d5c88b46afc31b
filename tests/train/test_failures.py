"""Messages when memory runs out, a GPU fails or the disk is full in the middle of training."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import tiny_config, write_faces

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.model.device import CPU
from cunet_deploy.model.networks import build_network
from cunet_deploy.train.failures import activation_bytes, explained_failures
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.memory import saved_activation_bytes
from cunet_deploy.train.tasks import load_task

LARGE: dict[str, Any] = {"model": {"channels": 32, "growth": 16}, "crop": {"size": 64}}


def test_activations_are_counted_without_computing_them() -> None:
    config = tiny_config(**LARGE)
    network = build_network(config.model, len(config.landmarks)).train()
    images = torch.zeros(config.train.batch_size, 3, 64, 64)
    for bits in (32, 8):
        counted = activation_bytes(config, memory_efficient=False, saved_bits=bits)
        assert counted == saved_activation_bytes(network, images, eight_bit=bits == 8)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=["gpu", "cpu"],
)
def test_too_little_memory_is_explained_with_what_would_help(error: RuntimeError) -> None:
    config = tiny_config(**LARGE)
    with pytest.raises(CunetError) as caught, explained_failures(config, torch.device("cuda", 0)):
        raise error
    text = str(caught.value)
    assert "\n" not in text
    assert "cuda:0 is out of memory with batch_size = 4" in text
    sizes = [float(size) for size in re.findall(r"([\d.]+) MiB", text)]
    assert len(sizes) == 5  # now, accumulated in 2 parts, memory_efficient, saved_bits, both
    assert sizes[1] == pytest.approx(sizes[0] / 2, abs=1)
    assert sizes[4] <= min(sizes[2:4]) < sizes[0]


def test_only_what_is_not_set_yet_is_advised() -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
        ({"memory_efficient": True}, {}, ["saved_bits = 8"]),
        ({"memory_efficient": True, "saved_bits": 8}, {}, []),
        ({}, {"kind": "hourglass", "order": 0, "block": "pre", "stem": "conv7"}, ["saved_bits = 8"]),
    ]
    for train, model, wanted in cases:
        config = tiny_config(train=train, model=model)
        with pytest.raises(CunetError) as caught, explained_failures(config, CPU):
            raise torch.OutOfMemoryError("out of memory")
        found = [name for name in ("memory_efficient = true", "saved_bits = 8", "both") if name in str(caught.value)]
        assert found == wanted


@pytest.mark.parametrize("text", ["CUDA error: device-side assert", "CUDA error: unspecified launch failure\nmore"])
def test_a_gpu_that_fails_is_an_error_of_one_line_that_says_how_to_go_on(text: str) -> None:
    with (
        pytest.raises(CunetError, match=r"cuda:0 failed \(CUDA error.*resume") as caught,
        explained_failures(tiny_config(), torch.device("cuda", 0)),
    ):
        raise RuntimeError(text)
    assert "\n" not in str(caught.value)


def test_other_errors_pass_through_as_they_are() -> None:
    for error in (RuntimeError("a mistake of ours"), InputError("a bad photo"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, explained_failures(tiny_config(), CPU):
            raise error
        assert caught.value is error


def test_a_run_that_is_out_of_memory_goes_on_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "faces", 20)
    config, folder = tiny_config(), RunFolder(tmp_path / "run")
    folder.prepare("", resume=False)
    owner = Trainer(config, load_task(config, tmp_path), folder, lambda _: None)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(owner.task, "loss", fail)
    with pytest.raises(CunetError, match="accumulated in 2 parts"):
        owner.run()
    assert folder.state.is_file()


def test_a_full_disk_is_one_line_and_leaves_the_epoch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "faces", 20)
    config, folder, write = tiny_config(train={"epochs": 2}), RunFolder(tmp_path / "run"), Path.write_bytes
    folder.prepare("", resume=False)
    task = load_task(config, tmp_path)
    whole: dict[str, bytes] = {}

    def fill(path: Path, data: bytes) -> int:
        if path.name != "state.pt.part" or not whole:
            return write(path, data)
        write(path, data[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def keep(row: Any) -> None:
        if row["event"] == "epoch":
            whole["state"] = folder.state.read_bytes()

    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(
        CunetError, match=r"state\.pt: cannot be written: the disk is full; .*what was saved before is safe"
    ) as caught:
        Trainer(config, task, folder, keep).run()
    assert caught.value.option == "resume"
    assert folder.state.read_bytes() == whole["state"]
    assert not list(folder.path.glob("*.part"))
    monkeypatch.setattr(Path, "write_bytes", write)
    Trainer(config, task, folder, lambda _: None).run(resume=True)
    assert [row["epoch"] for row in folder.rows()] == [1, 2, 1]


def test_a_disk_that_is_full_from_the_start_promises_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "faces", 20)
    config, folder = tiny_config(), RunFolder(tmp_path / "run")
    folder.prepare("", resume=False)
    owner = Trainer(config, load_task(config, tmp_path), folder, lambda _: None)

    def fail(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full, pytest.raises(CunetError, match="the disk is full") as caught:
        full.setattr(Path, "write_bytes", fail)
        owner.run()
    assert "epoch" not in str(caught.value)
    assert not folder.state.exists()
    folder.prepare("", resume=True)  # as the message says


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (0.0, r"3 usable examples to train on, fewer than batch_size = 4; add photos, or lower batch_size"),
        (0.9999, r"0 usable .* beside 3 for validation, .*; add photos, or set \[data\] validation_fraction = 0"),
    ],
    ids=["too few", "all are held back"],
)
def test_too_few_faces_say_where_they_went(tmp_path: Path, fraction: float, said: str) -> None:
    write_faces(tmp_path / "faces", 3)
    with pytest.raises(InputError, match=said):
        load_task(tiny_config(data={"validation_fraction": fraction}), tmp_path)
