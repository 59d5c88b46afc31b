"""Costs of networks: parameters, bytes, memory of training, time of a step; for `reproduce.py`."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from cunet_deploy.bench import latency
from cunet_deploy.bench.latency import Candidate, Scene, drawn_picture
from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import Config, ModelConfig, QuantConfig, parse_config
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.model.cunet import CUNet, initialize, set_efficient
from cunet_deploy.model.device import choose_device, describe_device
from cunet_deploy.model.networks import build_network
from cunet_deploy.quantize.floats import calibrate
from cunet_deploy.sessions import open_session
from cunet_deploy.train import activation_compression as saved
from cunet_deploy.train.memory import return_freed_memory, saved_activation_bytes
from tools.experiments.rows import config_of

__all__ = [
    "describe",
    "measure_device_memory",
    "measure_latency",
    "measure_memory",
    "measure_sizes",
    "measure_steps",
]

LANDMARKS, SIZE = 68, 256
MIB = 2**20


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Parameters and multiply-accumulates of a checkpoint's network, and its weight format."""
    config = checkpoint.config
    network = build_network(config.model, len(config.landmarks))
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
    return len(_random_model(model, bits))


def _random_model(model: ModelConfig, bits: int) -> bytes:
    """The model.onnx of a network with random weights."""
    table = {"name": "sizes", "skeleton": "ibug68", "data": {"train": ["none"]}, "crop": {"size": SIZE}}
    config = parse_config({**table, "model": {"num_unets": model.num_unets, "block": model.block}})
    network = build_network(model, LANDMARKS)
    initialize(network, torch.Generator().manual_seed(0))
    checkpoint = Checkpoint.of_float(config, network)
    crops = drawn_crops(make_manifest(checkpoint), 1)
    ranges = calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)])
    return write_model(checkpoint.with_ranges(ranges, QuantConfig(weight_bits=bits)))


def measure_latency(rows: Any) -> dict[str, Any]:
    """Latency of packed weights: files of 1 and 4 bits against the 8-bit file of the same network, in turns."""
    table = []
    for stages in (2, 8):
        model = ModelConfig(num_unets=stages, block="post")
        with tempfile.TemporaryDirectory() as folder:
            files = {bits: Path(folder) / f"{bits}.onnx" for bits in (8, 4, 1)}
            for bits, file in files.items():
                file.write_bytes(_random_model(model, bits))
            candidates = [
                Candidate(f"{bits} bit", partial(open_session, file, threads=1)) for bits, file in files.items()
            ]
            with mock.patch.dict(os.environ, {"CUNET_CACHE": "off"}):
                timings = latency.measure_latency(candidates, Scene.centred(drawn_picture()), rounds=30, calls=5)
        for timing in timings:
            ratio = latency.ratio(timing, timings[0], stage="network")
            median = timing.medians_ms()["network"]
            table.append([stages, timing.name, f"{median:.1f} ms", ratio.text(3), f"{timing.load_ms:.0f} ms"])
    return {
        "title": "Packed weights and time",
        "text": "Networks of the table of sizes in ONNX Runtime, one thread, batch 1, 150 calls each, in turns; the "
        "ratio with its 95 % interval. Packed weights expand when the file is loaded. The kept graphs of ONNX "
        "Runtime, in which they are expanded already, are switched off.",
        "columns": ["stages", "weights", "network", "against 8 bit", "load"],
        "rows": table,
    }


def measure_memory(rows: Any) -> dict[str, Any]:
    """Bytes that a training step holds: what autograd keeps, and the peak of a process that makes the step."""
    return {
        "title": "Memory of training",
        "text": "One step of AdamW with batch 8 at 256 px in float32 on one thread. *Activations* are the storages "
        "that autograd keeps between the forward and the backward pass, counted by `cunet_deploy/train/memory.py`; "
        "gradients and AdamW's two moments are 12 bytes a parameter. *Peak* is by how much the resident memory of a "
        "fresh process rises in such a step: it also has the workspaces and what the backward pass makes on its way. "
        "The allocator returns freed memory to the system in all rows, as it does in trainings that save memory. "
        "*Efficient* computes concatenations and normalizations again (`memory_efficient`), *8 bit* keeps activations "
        "as bytes (`saved_bits = 8`).",
        **_memory_table("cpu"),
    }


def measure_device_memory(rows: Any) -> dict[str, Any]:
    """The same on a GPU: the peak of its memory, as `torch.cuda.max_memory_allocated` tells it.

    Raises:
        CunetError: there is no GPU.
    """
    device = choose_device("cuda")
    return {
        "title": "Memory of training on a GPU",
        "text": f"The same steps on {describe_device(device)}; *peak* is the rise of `torch.cuda.max_memory_allocated` "
        "in a step.",
        **_memory_table("cuda"),
    }


def _memory_table(device: str) -> dict[str, Any]:
    table = []
    for stages in (2, 4, 8):
        base: _Memory | None = None
        for name, config, efficient, eight_bit in (
            ("hourglass", _hourglass(stages), False, False),
            ("CU-Net", ModelConfig(num_unets=stages), False, False),
            ("CU-Net, efficient", ModelConfig(num_unets=stages), True, False),
            ("CU-Net, efficient, 8 bit", ModelConfig(num_unets=stages), True, True),
        ):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                memory = process.submit(_step_memory, config, efficient, eight_bit, device).result()
            base = base or memory
            table.append(
                [
                    stages,
                    name,
                    f"{memory.activations / MIB:.0f} MiB",
                    f"{memory.fixed / MIB:.0f} MiB",
                    f"{memory.held / MIB:.0f} MiB",
                    f"{1 - memory.held / base.held:.1%}",
                    f"{memory.peak / MIB:.0f} MiB",
                    f"{1 - memory.peak / base.peak:.1%}",
                ]
            )
    return {
        "columns": [
            "stages",
            "network",
            "activations",
            "gradients and optimizer",
            "together",
            "saved",
            "peak",
            "saved",
        ],
        "rows": table,
    }


@dataclass(frozen=True)
class _Memory:
    """Bytes of a training step: kept activations, gradients with the optimizer's state, rise of resident memory."""

    activations: int
    fixed: int
    peak: int

    @property
    def held(self) -> int:
        return self.activations + self.fixed


def _step_memory(config: ModelConfig, efficient: bool, eight_bit: bool, device: str = "cpu") -> _Memory:
    """Make a training step in this process, which must be fresh, and count afterwards."""
    torch.set_num_threads(1)
    return_freed_memory()  # as training does that saves memory; for all alike
    network = build_network(config, LANDMARKS).train().to(device)
    if isinstance(network, CUNet):
        set_efficient(network, efficient)
    images = (torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    with saved.eight_bit(network) if eight_bit else nullcontext():
        heatmaps = network(images)
    torch.stack([maps.square().mean() for maps in heatmaps]).mean().backward()
    optimizer.step()
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() - before
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    del heatmaps
    activations = saved_activation_bytes(network, images, eight_bit=eight_bit)
    return _Memory(activations, 12 * _parameters(network), peak)


def measure_steps(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Time of a training step of the rows that are compared at equal time, in turns."""
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
