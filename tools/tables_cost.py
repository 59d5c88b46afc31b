"""What networks cost: parameters, bytes, memory of training, time of a step; for `reproduce.py`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn

from cunet_deploy.checkpoint import Checkpoint, make_manifest, normalize
from cunet_deploy.config import Config, ModelConfig, QuantConfig, parse_config
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.writer import write_model
from cunet_deploy.model.cunet import CUNet, initialize
from cunet_deploy.model.networks import build_network
from cunet_deploy.quantize.floats import calibrate
from cunet_deploy.skeletons import get_skeleton
from cunet_deploy.train.memory import saved_activation_bytes

__all__ = ["describe", "measure_memory", "measure_sizes", "measure_steps"]

LANDMARKS, SIZE = 68, 256
MIB = 2**20


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Parameters and multiply-accumulates of a checkpoint's network, and its weight format."""
    config = checkpoint.config
    network = build_network(config.model, len(get_skeleton(config.skeleton)))
    return {
        "parameters": _parameters(network),
        "macs": checkpoint.graph.macs(config.crop.size),
        "weights": config.quant.weights if checkpoint.kind == "quantized" else "float",
    }


def measure_sizes(rows: Any) -> dict[str, Any]:
    """Parameters and file sizes of CU-Nets of the paper's width against stacked hourglasses of as many stages."""
    table = []
    for stages in (2, 4, 8, 16):
        post = ModelConfig(num_unets=stages, block="post")
        parameters = _parameters(build_network(ModelConfig(num_unets=stages), LANDMARKS))
        hourglass = _parameters(build_network(_hourglass(stages), LANDMARKS))
        sizes = [_file_bytes(post, bits) for bits in (8, 4, 1)]
        less = 1 - sizes[-1] / (4 * hourglass)
        table.append(
            [
                stages,
                f"{hourglass / 1e6:.2f} M",
                f"{parameters / 1e6:.2f} M",
                f"{1 - parameters / hourglass:.1%}",
                f"{4 * hourglass / 1e6:.1f} MB",
                *(f"{size / 1e6:.2f} MB" for size in sizes),
                f"{less:.1%}",
            ]
        )
    return {
        "title": "Parameters and sizes",
        "text": "CU-Net of the paper's width (C = 128, g = 32, K = 1, 68 landmarks) against stacked hourglasses of 256 "
        "features and as many stages. Files of the CU-Net are real `model.onnx` of networks in `post` form for 256 px, "
        "with random weights: manifest, scales and biases included; the hourglass is counted with 4 bytes a parameter.",
        "columns": [
            "stages",
            "hourglass",
            "CU-Net",
            "fewer parameters",
            "hourglass, float",
            "CU-Net, 8 bit",
            "4 bit",
            "1 bit",
            "1 bit against the float hourglass",
        ],
        "rows": table,
    }


def _hourglass(stages: int) -> ModelConfig:
    return ModelConfig(kind="hourglass", num_unets=stages, order=0, channels=256)


def _parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


def _file_bytes(model: ModelConfig, bits: int) -> int:
    """Size of the model.onnx of a network with random weights."""
    table = {"name": "sizes", "skeleton": "ibug68", "data": {"train": ["none"]}, "crop": {"size": SIZE}}
    config = parse_config({**table, "model": {"num_unets": model.num_unets, "block": model.block}})
    network = build_network(model, LANDMARKS)
    initialize(network, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint.of_float(config, network)
    crops = drawn_crops(make_manifest(checkpoint), 1)
    ranges = calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)])
    return len(write_model(checkpoint.with_ranges(ranges, QuantConfig(weight_bits=bits))))


def measure_memory(rows: Any) -> dict[str, Any]:
    """Bytes that a training step holds, measured by counting what autograd keeps."""
    table = []
    for stages in (2, 4, 8):
        hourglass = build_network(_hourglass(stages), LANDMARKS)
        base = _held(hourglass, eight_bit=False)
        for name, config, efficient, eight_bit in (
            ("hourglass", _hourglass(stages), False, False),
            ("CU-Net", ModelConfig(num_unets=stages), False, False),
            ("CU-Net, efficient", ModelConfig(num_unets=stages), True, False),
            ("CU-Net, efficient, 8 bit", ModelConfig(num_unets=stages), True, True),
        ):
            network = build_network(config, LANDMARKS)
            if isinstance(network, CUNet):
                network.set_efficient(efficient)
            activations = _held(network, eight_bit=eight_bit)
            fixed = 4 * _parameters(network) * 3  # gradients and the two moments of AdamW
            whole, whole_base = 8 * activations + fixed, 8 * base + 12 * _parameters(hourglass)
            table.append(
                [
                    stages,
                    name,
                    f"{activations / MIB:.0f} MiB",
                    f"{8 * activations / MIB:.0f} MiB",
                    f"{fixed / MIB:.0f} MiB",
                    f"{whole / MIB:.0f} MiB",
                    f"{1 - activations / base:.1%}",
                    f"{1 - whole / whole_base:.1%}",
                ]
            )
    return {
        "title": "Memory of training",
        "text": "What a step holds between the forward and the backward pass at 256 px, measured on one image by "
        "counting the storages that autograd keeps (`cunet_deploy/train/memory.py`); activations grow with the "
        "batch, so batch 8 is 8 times as much. *Efficient* computes concatenations and normalizations again "
        "(`memory_efficient`), *8 bit* keeps activations as bytes (`saved_bits = 8`). Gradients and AdamW's two "
        "moments are 12 bytes a parameter. This is not the resident size of the process, which also holds weights, "
        "workspaces and the allocator's slack.",
        "columns": [
            "stages",
            "network",
            "activations an image",
            "batch 8",
            "gradients and optimizer",
            "together",
            "activations saved",
            "saved in all",
        ],
        "rows": table,
    }


def _held(network: nn.Module, *, eight_bit: bool) -> int:
    network.train()
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return saved_activation_bytes(network, image, eight_bit=eight_bit)


def measure_steps(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Time of a training step of the rows that are compared at equal time, in turns."""
    from reproduce import config_of

    names = ["order-1", "unets-2", "refine-2", "hourglass", "dense"]
    configs = {name: parse_config(config_of(name, rows[name])) for name in names if name in rows}
    steps = {name: _Step(config) for name, config in configs.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(8):
        for name, step in steps.items():
            seconds = step.run()
            if turn:  # the first one allocates
                times[name].append(seconds)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {
        "title": "Time of a training step",
        "text": "Median of 7 steps in turns, batch 16, one thread, bfloat16.",
        "columns": ["row", "seconds", "against order-1"],
        "rows": [[f"`{name}`", f"{t:.3f}", f"{t / medians['order-1']:.2f}"] for name, t in medians.items()],
        "seconds": medians,
    }


class _Step:
    """One training step on random data."""

    def __init__(self, config: Config) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        network = build_network(config.model, LANDMARKS)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        size = config.crop.size
        self.images = torch.rand(16, 3, size, size).contiguous(memory_format=torch.channels_last)

    def run(self) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            heatmaps = self.network(self.images)
        torch.stack([maps.float().square().mean() for maps in heatmaps]).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - start
