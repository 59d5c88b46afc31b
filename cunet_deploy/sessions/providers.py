"""Execution providers of ONNX Runtime, chosen by name.

ONNX Runtime falls back to the CPU without an error when a GPU provider does not load. Whoever asked for a GPU wants to
know, so the provider that really runs is checked, and a fallback is an error.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from cunet_deploy.errors import ArtifactError

__all__ = [
    "ORT_ERRORS",
    "PROVIDERS",
    "Provider",
    "add_plugin",
    "check_running",
    "first_line",
    "missing_provider",
    "ort_errors_and",
]

# They share no base class but Exception, and not every version has all of them: EPFail is that of GPU providers.
_own: list[type[Exception]] = [
    kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
]
ORT_ERRORS: tuple[type[Exception], ...] = (
    *_own,
    RuntimeError,
    UnicodeDecodeError,  # a message with the damaged name of a node in it
)
"""Errors that ONNX Runtime raises."""


def ort_errors_and(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Errors that ONNX Runtime raises, and others, to be caught together."""
    return (*ORT_ERRORS, *others)


_RTX_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"


@dataclass(frozen=True)
class Provider:
    """A way to run a network in ONNX Runtime.

    Attributes:
        name: as the user gives it.
        key: ONNX Runtime's name of it.
        remedy: what to do when it is missing.
        plugin: module of a plugin that brings it; empty for what is built in.
    """

    name: str
    key: str
    remedy: str
    plugin: str = ""


_ALL = (
    Provider("cpu", "CPUExecutionProvider", "run: pip install onnxruntime"),
    Provider(
        "cuda",
        "CUDAExecutionProvider",
        "it needs a GPU, its driver, CUDA and cuDNN; run: pip uninstall onnxruntime; "
        "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    ),
    Provider(
        "tensorrt",
        "TensorrtExecutionProvider",
        "it needs a GPU, its driver, CUDA and TensorRT's libraries; run: pip uninstall onnxruntime; "
        "pip install 'onnxruntime-gpu[cuda,cudnn]' tensorrt",
    ),
    Provider(
        "tensorrt-rtx",
        "NvTensorRTRTXExecutionProvider",
        "it needs an RTX GPU, its driver and CUDA; run: pip install onnxruntime-ep-nv-tensorrt-rtx-cu12",
        _RTX_PLUGIN,
    ),
)


PROVIDERS = {provider.name: provider for provider in _ALL}
"""Providers by name."""


def missing_provider(provider: Provider) -> str:
    """Reason why the installed ONNX Runtime lacks a provider, with the line that installs it; empty: it has it."""
    if provider.plugin:
        found = importlib.util.find_spec(provider.plugin) is not None
        return "" if found else f"ort:{provider.name}: {provider.plugin} is not installed; {provider.remedy}"
    if provider.key in ort.get_available_providers():
        return ""
    return f"ort:{provider.name}: onnxruntime {ort.__version__} has no {provider.key}; {provider.remedy}"


def add_plugin(provider: Provider, options: Any) -> None:
    """Register the plugin of a provider and select its first device for the sessions made with ``options``.

    Raises:
        ArtifactError: it does not load, or finds no device.
    """
    module: Any = importlib.import_module(provider.plugin)
    try:
        if not any(device.ep_name == provider.key for device in ort.get_ep_devices()):
            ort.register_execution_provider_library(provider.key, module.get_library_path())
        devices = [device for device in ort.get_ep_devices() if device.ep_name == provider.key]
        if not devices:
            raise ArtifactError(f"ort:{provider.name}: {provider.key} finds no device; {provider.remedy}")
        options.add_provider_for_devices(devices[:1], {})
    except ort_errors_and(OSError, AttributeError) as error:
        raise ArtifactError(f"ort:{provider.name}: does not load ({first_line(error)}); {provider.remedy}") from error


def check_running(session: Any, provider: Provider, path: Path) -> None:
    """Refuse a session that runs on something else than what was asked for.

    Raises:
        ArtifactError: it fell back to another provider, or the provider took no node of the graph.
    """
    running = session.get_providers()[0]
    if running != provider.key:
        raise ArtifactError(
            f"{path}: ort:{provider.name} was asked for, but onnxruntime {ort.__version__} fell back to {running}: "
            f"{provider.key} does not load here; {provider.remedy}"
        )
    if provider.name == "cpu" or not hasattr(session, "get_provider_graph_assignment_info"):
        return
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    if not nodes[provider.key]:
        raise ArtifactError(
            f"{path}: {provider.key} loads but takes none of the {sum(nodes.values())} nodes, so the CPU would run it; "
            "export it for that target: cunet-deploy export CKPT --target tensorrt -o DIR"
        )


def first_line(error: Exception) -> str:
    """Shorten an error of ONNX Runtime to one line."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
