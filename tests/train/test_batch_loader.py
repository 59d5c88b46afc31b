"""Batches for training are the same for any number of workers, and a worker that dies names its photo."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from drawn import CONFIG_TOML, tiny_config, write_faces
from torch import Tensor

from cunet_deploy.config import Config
from cunet_deploy.data.batches import Part
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.model.device import CPU
from cunet_deploy.train import shared_ring
from cunet_deploy.train.batch_loader import BatchLoader
from cunet_deploy.train.landmarks import LandmarkTask
from cunet_deploy.train.shared_ring import SLOTS, RingWriter
from cunet_deploy.train.task import Task
from cunet_deploy.train.tasks import load_task

SIZE, SEED = 3, 5


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_faces(root / "faces", 14, 7)
    return root


def config() -> Config:
    return tiny_config(data={"validation_fraction": 0.5}, train={"batch_size": SIZE, "seed": SEED})


def loader(task: Task, **options: object) -> BatchLoader:
    return BatchLoader(task.sampler, batch_size=SIZE, seed=SEED, **options)  # type: ignore[arg-type]


def tensors(batches: Iterator[tuple[Tensor, tuple[Tensor, ...]]]) -> list[list[Tensor]]:
    return [[images.clone(), *(value.clone() for value in targets)] for images, targets in batches]


def same(one: list[list[Tensor]], other: list[list[Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_an_epoch_draws_the_same_crops_again_and_the_next_one_others(data: Path) -> None:
    source = loader(load_task(config(), data))
    first = tensors(source.epoch(1, CPU))
    assert [len(batch[0]) for batch in first] == [3, 3, 2]
    assert same(first, tensors(source.epoch(1, CPU)))
    assert not same(first, tensors(source.epoch(2, CPU)))


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_batches(data: Path) -> None:
    task = load_task(config(), data)
    drawn = []
    for workers in (0, 1, 3):
        source = loader(task, workers=workers)
        try:
            drawn.append([tensors(source.epoch(epoch, CPU)) for epoch in (0, 3)])
        finally:
            source.close()
    for epochs in drawn[1:]:
        assert all(same(one, other) for one, other in zip(drawn[0], epochs, strict=True))


@pytest.mark.slow
def test_a_batch_stays_whole_while_workers_run_ahead_also_after_an_epoch_that_was_left(data: Path) -> None:
    task = load_task(config(), data)
    wanted = tensors(BatchLoader(task.sampler, batch_size=1, seed=SEED).epoch(2, CPU))
    assert len(wanted) >= 2 * SLOTS
    source = BatchLoader(task.sampler, batch_size=1, seed=SEED, workers=1)
    try:
        with closing(source.epoch(1, CPU)) as left:
            next(left)
        for (images, targets), right in zip(source.epoch(2, CPU), wanted, strict=True):
            time.sleep(0.02)  # the worker draws what it may
            assert same([[images, *targets]], [right])
    finally:
        source.close()
    assert not [place for place in shared_ring._mapped if place[0] in source._batches.at[:, 0].tolist()]


def test_a_batch_in_a_ring_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor + 1)  # needs a GPU
    images, targets = (
        RingWriter().write(0, [np.zeros(3, np.uint8)] * 2, Pair(torch.ones(2), torch.ones(2, 5))).pin_memory()
    )
    assert images.tolist() == [[1] * 3] * 2
    assert isinstance(targets, Pair)
    assert targets.second.tolist() == [[2] * 5] * 2


def test_the_parts_of_processes_make_up_the_batch(data: Path) -> None:
    task = load_task(tiny_config(data={"validation_fraction": 0.5}), data)
    whole, *parts = (
        tensors(BatchLoader(task.sampler, batch_size=4, seed=SEED, part=part).epoch(0, CPU))
        for part in (Part(0, 1), Part(0, 2), Part(1, 2))
    )
    for batch, first, second in zip(whole, *parts, strict=True):
        assert all(torch.equal(a, torch.cat([b, c])) for a, b, c in zip(batch, first, second, strict=True))


def test_the_global_random_numbers_are_left_alone(data: Path) -> None:
    source = loader(load_task(config(), data))
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    tensors(source.epoch(0, CPU))
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_photo_that_goes_missing_while_training_is_an_error_of_one_line(workers: int, tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", 8)
    task = load_task(config(), tmp_path)
    assert isinstance(task, LandmarkTask)
    task.photos.max_bytes = 0
    gone = task.train[2].image
    task.photos._photos.clear()
    gone.unlink()
    source = loader(task, workers=workers)
    try:
        with pytest.raises(InputError, match=f"{gone.name}: cannot be read") as caught:
            tensors(source.epoch(0, CPU))
        assert "\n" not in str(caught.value)
    finally:
        source.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_names_the_photo_it_was_at(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces", 8)
    task = load_task(config(), tmp_path)
    assert isinstance(task, LandmarkTask)
    pipe = task.train[1].image
    pipe.unlink()
    os.mkfifo(pipe)  # a worker that opens it waits for ever
    source = loader(task, workers=1)
    killer = threading.Thread(target=kill_at, args=(source, 1))
    killer.start()
    try:
        with pytest.raises(CunetError, match=rf"worker process .* at {pipe}; .* then resume$"):
            tensors(source.epoch(0, CPU))
    finally:
        killer.join()
        source.close()


def kill_at(source: BatchLoader, index: int) -> None:
    """Kill the worker as soon as it is at an example."""
    at = source._batches.at
    while int(at[0, 1]) != index:
        time.sleep(0.01)
    os.kill(int(at[0, 0]), signal.SIGKILL)


@pytest.mark.slow
def test_training_with_workers_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    from cunet_deploy.checkpoint.storage import load_checkpoint
    from cunet_deploy.train.folder import RunFolder
    from cunet_deploy.train.loop import Trainer

    checksums = []
    for workers in (0, 2):
        settings, folder = tiny_config(), RunFolder(tmp_path / str(workers))
        folder.prepare(CONFIG_TOML, resume=False)
        Trainer(settings, load_task(settings, data), folder, lambda _: None, workers=workers).run()
        checksums.append([load_checkpoint(folder.checkpoint(kind)).checksum for kind in ("float", "quantized")])
        assert all(row["crops_per_second"] > 0 <= row["data_wait_fraction"] for row in folder.rows())
    assert checksums[0] == checksums[1]
