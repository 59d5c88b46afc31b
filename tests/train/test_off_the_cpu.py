"""Nothing that training computes is left on the CPU: steps on the meta device, which has shapes and no values.

Every operation of a step is watched. One that is given a tensor of the CPU would, on a GPU, be refused or wait for a
copy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from drawn import tiny_config, write_faces
from networks import NETWORKS, float_network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from cunet_deploy.config import Config, QuantConfig, parse_config
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.phase import Phase
from cunet_deploy.train.processes import Processes
from cunet_deploy.train.stepper import Stepper
from cunet_deploy.train.tasks import load_task
from cunet_deploy.train.teacher import DistillationTeacher

META = torch.device("meta")


class OffTheCpu(TorchDispatchMode):
    """Refuses operations on tensors of the CPU, but for moving them to the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        left = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor) and x.device.type == "cpu"]
        moves = func.name() == "aten::_to_copy" and (kwargs or {}).get("device") == META
        if left and not moves:
            raise AssertionError(f"{func.name()} was given a tensor {tuple(left[0].shape)} that is on the CPU")
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    write_faces(root / "faces", 12, 7)
    (root / "photos").mkdir()
    for index in range(8):
        cv2.imwrite(str(root / "photos" / f"{index}.png"), rng.integers(0, 255, (120, 160, 3), np.uint8))
    rows = {f"{index}.png": [[20.0, 30.0, 50.0, 60.0, 1.0]] for index in range(8)}
    (root / "photos" / "faces.json").write_text(json.dumps(rows))
    return root


def boxes_config() -> Config:
    """A small network that finds boxes."""
    return parse_config(
        {
            "name": "squares",
            "skeleton": "box",
            "data": {"train": ["photos"], "layout": "faces", "validation_fraction": 0.0},
            "model": {"num_unets": 1, "order": 0, "channels": 16, "growth": 8, "depth": 2, "block": "post"},
            "crop": {"size": 64},
            "boxes": {"drawn_from": 14.0, "drawn_to": 50.0},
            "train": {"batch_size": 4},
            "quant": {"epochs": 1},
        }
    )


def trainer(config: Config, data: Path, folder: Path, device: torch.device = META, **options: Any) -> Trainer:
    run = RunFolder(folder)
    run.prepare("", resume=False)
    return Trainer(config, load_task(config, data), run, lambda _: None, device=device, **options)


def one_step(owner: Trainer, *, quantized: bool, **options: Any) -> None:
    """A step of a phase, watched."""
    phase = owner._quantized_phase(zero_points={}) if quantized else owner._float_phase()
    if isinstance(phase.network, QuantizedNetwork):
        phase.network.seed_gradients(0)
    phase.network.train()
    crops, targets = next(owner.loader.epoch(0, META))
    steps = Stepper(phase, owner.task, owner.config, processes=Processes(), **options)
    unwatch_optimizer(phase)
    with OffTheCpu():
        steps.step(crops, targets, 1e-3)
    assert any(value.grad is not None for value in phase.network.parameters())
    assert len(steps._unread) == 1, "a step must not wait for the device"


def unwatch_optimizer(phase: Phase) -> None:
    """PyTorch's own optimizers count steps on the CPU, but for the fused one, which the meta device does not have."""
    take_step = phase.optimizer.step

    def step() -> None:
        with _disable_current_modes():
            take_step()

    phase.optimizer.step = step  # type: ignore[method-assign, assignment]


CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "float": ({}, False),
    "quantized": ({}, True),
    "weighted landmarks": ({"train": {"coordinate_weight": 0.1, "robust": 0.5}}, False),
    "recomputed": ({"train": {"memory_efficient": True}}, False),
    "activations in 8 bits": ({"train": {"saved_bits": 8}, "crop": {"size": 64}}, False),
    "both": ({"train": {"saved_bits": 8, "memory_efficient": True}, "crop": {"size": 64}}, False),
    "quantized, activations in 8 bits": ({"train": {"saved_bits": 8}, "crop": {"size": 64}}, True),
    "rounded gradients": ({"quant": {"gradient_bits": 8}}, True),
    "binary": ({"quant": {"weight_bits": 1}}, True),
    "ternary": ({"quant": {"weight_bits": 2, "ternary": True}}, True),
    "by layer": ({"quant": {"layers": {"down.0.*": "4"}}}, True),
}
for _name, _network in NETWORKS.items():
    CASES[f"{_name}, float"] = ({"model": _network}, False)
    CASES[f"{_name}, quantized"] = ({"model": _network}, True)


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_landmarks_leaves_nothing_on_the_cpu(case: str, data: Path, tmp_path: Path) -> None:
    changes, quantized = CASES[case]
    one_step(trainer(tiny_config(**changes), data, tmp_path), quantized=quantized)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_step_of_boxes_leaves_nothing_on_the_cpu(quantized: bool, data: Path, tmp_path: Path) -> None:
    one_step(trainer(boxes_config(), data, tmp_path), quantized=quantized)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_step_with_a_teacher_leaves_nothing_on_the_cpu(quantized: bool, data: Path, tmp_path: Path) -> None:
    parent = float_network("post")
    config = tiny_config(train={"distill": 0.0 if quantized else 1.0}, quant={"distill": 1.0})
    teacher = DistillationTeacher(parent, config).to(META)
    owner = trainer(config, data, tmp_path, teacher=None if quantized else parent)
    one_step(owner, quantized=quantized, teacher=teacher, distill=1.0)


def test_a_step_in_parts_leaves_nothing_on_the_cpu(data: Path, tmp_path: Path) -> None:
    config = tiny_config(train={"batch_size": 8})
    one_step(trainer(config, data, tmp_path, accumulate=2), quantized=False, accumulate=2)


def test_statistics_of_several_processes_leave_nothing_on_the_cpu() -> None:
    from cunet_deploy.model.cunet import BatchNorm, set_summing

    norm = BatchNorm(5).to(META).train()
    set_summing(norm, lambda sums: sums)
    with OffTheCpu():
        norm(torch.empty(4, 5, 6, 6, device=META)).sum().backward()


def test_a_tensor_that_is_left_behind_is_noticed(data: Path, tmp_path: Path) -> None:
    """The watch itself works: targets that stay on the CPU are refused."""
    owner = trainer(tiny_config(), data, tmp_path)
    phase = owner._float_phase()
    crops, targets = next(owner.loader.epoch(0, torch.device("cpu")))
    steps = Stepper(phase, owner.task, owner.config, processes=Processes())
    with OffTheCpu(), pytest.raises(AssertionError, match="is on the CPU"):
        steps.step(crops, targets, 1e-3)


def test_a_checkpoint_is_quantized_on_the_cpu_whatever_trained_it() -> None:
    """Scales are frozen by the same arithmetic everywhere."""
    from networks import in_training

    from cunet_deploy.checkpoint.storage import Checkpoint

    network = in_training(float_network("post"), QuantConfig())
    checkpoint = Checkpoint.of_quantized(float_network("post").config, network)
    assert {value.device.type for value in checkpoint.state.values()} == {"cpu"}
