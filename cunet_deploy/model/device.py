"""Device of PyTorch: the one place that chooses it and knows what it can do."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import nn

from cunet_deploy.errors import ArtifactError, CunetError, InputError, MissingDependencyError

__all__ = [
    "CPU",
    "DEVICES",
    "Precision",
    "autocast",
    "choose_device",
    "describe_device",
    "device_of",
    "exact_device",
    "float32_multiplications",
]

DEVICES = "auto|cpu|cuda|cuda:N|mps"
"""Values of `choose_device`, for help texts."""

CPU = torch.device("cpu")

Precision = Literal["float32", "bfloat16", "float16"]

_NAME = re.compile(r"auto|cpu|mps|cuda(?::(\d{1,4}))?")
_INSTALL = "run: pip install --force-reinstall torch, or on Windows as pytorch.org/get-started/locally says"


def choose_device(name: str = "auto") -> torch.device:
    """The device that a name asks for, tried with a small product.

    Args:
        name: "auto" takes the first GPU that works, else the CPU. Of several processes that `torchrun` started, "auto"
            and "cuda" give each a GPU of its own.

    Raises:
        InputError: the name is none of `DEVICES`.
        MissingDependencyError: PyTorch is installed without support for the device.
        ArtifactError: there is no such device, or it does not work.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f"device {name}: is unknown; expected {DEVICES}")
    if name == "cpu":
        return CPU
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if beside > 1 and (match[1] or name == "mps"):
        raise InputError(f"device {name}: is one GPU for {beside} processes; choose cuda, which gives each its own")
    index = int(match[1] or os.environ.get("LOCAL_RANK", "0"))
    if name == "auto":
        found = [gpu for gpu in (torch.device("cuda", 0), torch.device("mps")) if _trouble(gpu) is None]
        if not found or (found[0].type == "mps" and beside > 1):
            return CPU
        name = found[0].type
    device = torch.device("mps") if name == "mps" else torch.device("cuda", index)
    trouble = _trouble(device)
    if trouble is not None:
        raise trouble
    return device


def _trouble(device: torch.device) -> CunetError | None:
    """Reason why a device cannot be used; ``None``: it works."""
    name = f"device {device}"
    built = torch.backends.mps.is_built() if device.type == "mps" else torch.backends.cuda.is_built()
    if not built and not torch.version.hip:
        what = "for Apple GPUs" if device.type == "mps" else "for NVIDIA GPUs"
        return MissingDependencyError(f"{name}: PyTorch {torch.__version__} is not built {what}; {_INSTALL}")
    with warnings.catch_warnings(record=True) as caught:  # an old driver is said in a warning
        warnings.simplefilter("always")
        if device.type == "mps":
            found = int(torch.backends.mps.is_available())
        else:
            found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not found:
        why = f" ({str(caught[0].message).splitlines()[0][:160]})" if caught else ""
        return ArtifactError(f"{name}: PyTorch finds no GPU here{why}; check nvidia-smi, or choose cpu")
    if (device.index or 0) >= found:
        hint = "start no more processes, or choose cpu" if "LOCAL_RANK" in os.environ else "choose another"
        return ArtifactError(f"{name}: this machine has {found} GPU(s), counted from 0; {hint}")
    try:
        ones = torch.ones(8, 8, device=device)
        if float((ones @ ones).sum()) != 512:
            return ArtifactError(f"{name}: the GPU gives wrong results; choose cpu")
    except RuntimeError as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:160]
        return ArtifactError(f"{name}: the GPU does not work with PyTorch {torch.__version__} ({why}); {_INSTALL}")
    return None


def describe_device(device: torch.device) -> str:
    """A device for people: with the name of the GPU, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        count = torch.get_num_threads()
        return f"cpu ({count} thread{'s' if count > 1 else ''})"
    return str(device)


def exact_device(device: torch.device) -> torch.device:
    """Return the device that computes integers exactly: Apple's GPUs have no float64, so there it is the CPU."""
    return CPU if device.type == "mps" else device


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next(network.parameters()).device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Within the block, convolutions run in this precision; float32 changes nothing."""
    if precision == "float32" or not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bfloat16" else torch.float16)


@contextmanager
def float32_multiplications(rule: Literal["tf32", "ieee"]) -> Iterator[None]:
    """Within the block, NVIDIA GPUs multiply float32 in full ("ieee"), or with factors of 11 bits ("tf32").

    TF32 rounds what is multiplied to 11 significant bits and adds in float32; it is several times faster. Integers up
    to 2048 are factors of 11 bits, so products of 8-bit integers are exact in it. Nothing changes on other devices.
    """
    # PyTorch 2.9 brought a new way to say it and warns of the old one.
    modules: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", torch.backends.cudnn)]
    kept = []
    for module in modules:
        key, value = ("fp32_precision", rule) if hasattr(module, "fp32_precision") else ("allow_tf32", rule == "tf32")
        kept.append((module, key, getattr(module, key)))
        setattr(module, key, value)
    try:
        yield
    finally:
        for module, key, value in kept:
            setattr(module, key, value)
