"""Explanations and remedies when memory runs out, a GPU fails or the disk is full in the middle of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cunet_deploy.config import Config
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.model.cunet import set_efficient
from cunet_deploy.model.networks import build_network
from cunet_deploy.train.memory import saved_activation_bytes

__all__ = ["activation_bytes", "explained_failures"]

_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_DEVICE = ("CUDA error", "CUDA driver error", "cuDNN error", "NCCL", "MPS backend", "HIP error", "unspecified launch")
_MIB = 1 << 20


@contextmanager
def explained_failures(config: Config, device: torch.device) -> Iterator[None]:
    """Turn what is raised within the block, when memory runs out, the device fails or the disk is full, into advice.

    Raises:
        CunetError: one of these happened.
    """
    try:
        yield
    except CunetError as error:
        if isinstance(error, InputError) or not isinstance(error.__cause__, OSError):
            raise
        raise CunetError(f"{error}; what was saved before is safe: resume afterwards", option="resume") from error
    except RuntimeError as error:  # as `torch.OutOfMemoryError` and `torch.AcceleratorError` are
        text = (str(error) or type(error).__name__).splitlines()[0][:200]
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _MEMORY):
            raise CunetError(_memory_advice(config, device), option="accumulate") from error
        if any(words in str(error) for words in _DEVICE):
            raise CunetError(
                f"{device} failed ({text}); what was saved before is safe: see nvidia-smi or dmesg, and resume",
                option="resume",
            ) from error
        raise


def activation_bytes(config: Config, *, memory_efficient: bool, saved_bits: int) -> int:
    """Bytes of float32 activations that a step of the float phase keeps for the backward pass; nothing is computed."""
    with torch.device("meta"):
        network = build_network(config.model, len(config.landmarks)).train()
        size = config.crop.size
        images = torch.empty((config.train.batch_size, 3, size, size))
    set_efficient(network, memory_efficient)
    return saved_activation_bytes(network, images, eight_bit=saved_bits == 8)


def _memory_advice(config: Config, device: torch.device) -> str:
    train = config.train
    kept = activation_bytes(config, memory_efficient=train.memory_efficient, saved_bits=train.saved_bits)
    can_be_efficient = config.model.kind != "hourglass" and not train.memory_efficient
    changes = {"memory_efficient = true": (True, train.saved_bits)} if can_be_efficient else {}
    if train.saved_bits != 8:
        changes["saved_bits = 8"] = (train.memory_efficient, 8)
    if len(changes) == 2:
        changes["both"] = (True, 8)
    ways = [
        f"{name} {_spelled(activation_bytes(config, memory_efficient=efficient, saved_bits=bits))}"
        for name, (efficient, bits) in changes.items()
    ]
    settings = f", in [train] {', '.join(ways)}" if ways else ""
    return (
        f"{device} is out of memory with batch_size = {train.batch_size}, whose activations take {_spelled(kept)}; "
        f"accumulated in 2 parts it takes {_spelled(kept // 2)}{settings}"
    )


def _spelled(count: int) -> str:
    return f"{count / _MIB:.0f} MiB" if count < 10_000 * _MIB else f"{count / (1 << 30):.1f} GiB"
