"""Backends: what can run a network, one row each.

The command line, its help, `doctor`, `bench`, the choice of ``auto`` and error messages are made from this table. A new
backend is a module, see `BackendModule`, and a row; ``docs/architecture.md`` has the recipe. Modules are imported when
their backend is used: the libraries behind them are large, and most of them optional.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from cunet_deploy.errors import InputError

if TYPE_CHECKING:
    from cunet_deploy.sessions.base import Session

__all__ = [
    "AUTO",
    "BACKENDS",
    "NVIDIA",
    "Backend",
    "BackendModule",
    "backend_choices",
    "default_backend",
    "find_backend",
    "model_forms",
    "packages",
]

AUTO = "auto"
"""In place of a backend's name: the one that is fastest on this machine; see `cunet_deploy.sessions.auto`."""

NVIDIA = "nvidia"
"""The device of backends that need a GPU of NVIDIA and its driver."""


class BackendModule(Protocol):
    """Functions that a module of a backend has."""

    def open_backend(self, path: Path, backend: Backend, *, threads: int | None, trust: bool) -> Session:
        """Load a network; errors as `cunet_deploy.sessions.open_session`."""
        ...

    def missing(self, backend: Backend) -> str:
        """Say what is not installed and what installs it, in one line; empty if nothing. Loads no library."""
        ...

    def describe(self, backend: Backend) -> str:
        """Version of its library and what that finds on this machine.

        Raises:
            CunetError, OSError, RuntimeError: it is installed but does not start.
        """
        ...


@dataclass(frozen=True)
class Backend:
    """Backend that can run a network.

    Attributes:
        name: as ``--backend`` takes it.
        library: its name, as people write it.
        module: where its `BackendModule` is.
        suffix: of the files that it runs.
        help: what it is, in a few words.
        device: "cpu", "nvidia" or another: what it computes on.
        extra: the extra of this package that installs it; empty: the base install, or something outside Python.
        packages: the distributions whose versions its results and times depend on.
        variant: what tells it from other backends of the same module, for that module to read.
        bundled: the files of a bundle that it can take, the best one first.
        measured: whether ``auto`` tries it.
        rounding_px: mean distance by which its other rounding may move landmarks, in pixels of the network's input.
    """

    name: str
    library: str
    module: str
    suffix: str
    help: str
    device: str = "cpu"
    extra: str = ""
    packages: tuple[str, ...] = ()
    variant: str = ""
    bundled: tuple[str, ...] = ("model.onnx",)
    measured: bool = False
    rounding_px: float = 0.0

    @property
    def runs_on_cpu(self) -> bool:
        """Return whether it computes on the processor, whose peak can be measured."""
        return self.device == "cpu"

    @property
    def install_line(self) -> str:
        """Line that installs it; empty where no extra does."""
        return f"pip install 'cunet-deploy[{self.extra}]'" if self.extra else ""

    def load(self) -> BackendModule:
        """Import its module."""
        return cast(BackendModule, importlib.import_module(self.module))


_ORT, _ORT_MODULE = "ONNX Runtime", "cunet_deploy.sessions.onnxruntime"
_TRT_MODULE = "cunet_deploy.tensorrt.session"
_ORT_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_TRT_PACKAGES = ("tensorrt", "tensorrt-rtx-cu12", "pycuda", "cuda-bindings")
_LOWERED = ("model.tensorrt.onnx", "model.onnx")

BACKENDS: dict[str, Backend] = {
    row.name: row
    for row in (
        Backend(
            *("ort:cpu", _ORT, _ORT_MODULE, ".onnx", "ONNX Runtime on the processor"),
            packages=_ORT_PACKAGES,
            variant="cpu",
            measured=True,
        ),
        Backend(
            *("ort:cuda", _ORT, _ORT_MODULE, ".onnx", "ONNX Runtime with CUDA and cuDNN", NVIDIA),
            packages=_ORT_PACKAGES,
            variant="cuda",
            measured=True,
        ),
        Backend(
            *("ort:tensorrt", _ORT, _ORT_MODULE, ".onnx", "ONNX Runtime with TensorRT", NVIDIA),
            packages=_ORT_PACKAGES,
            variant="tensorrt",
            bundled=_LOWERED,
        ),
        Backend(
            *("ort:tensorrt-rtx", _ORT, _ORT_MODULE, ".onnx", "ONNX Runtime with TensorRT for RTX", NVIDIA),
            packages=_ORT_PACKAGES,
            variant="tensorrt-rtx",
            bundled=_LOWERED,
        ),
        Backend(
            *("openvino", "OpenVINO", "cunet_deploy.sessions.openvino", ".onnx", "OpenVINO on the processor"),
            extra="openvino",
            packages=("openvino",),
            measured=True,
            rounding_px=0.1,
        ),
        Backend(
            *("tensorrt", "TensorRT", _TRT_MODULE, ".engine", "TensorRT, or TensorRT for RTX", NVIDIA, "tensorrt"),
            packages=_TRT_PACKAGES,
        ),
        Backend(
            *("tensorrt:graph", "TensorRT", _TRT_MODULE, ".engine", "the same, replaying CUDA graphs", NVIDIA),
            extra="tensorrt",
            packages=_TRT_PACKAGES,
            variant="graph",
        ),
    )
}
"""Backends by name. The first of those that run a type of file is its default."""


def backend_choices() -> tuple[str, ...]:
    """All that ``--backend`` takes."""
    return (*BACKENDS, AUTO)


def find_backend(name: str) -> Backend:
    """The backend that is called so.

    Raises:
        InputError: there is none; the message lists them.
    """
    if name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}; choose from {', '.join(backend_choices())}")
    return BACKENDS[name]


def default_backend(suffix: str) -> Backend:
    """Return the default backend of a file type.

    Raises:
        InputError: nothing does.
    """
    for backend in BACKENDS.values():
        if backend.suffix == suffix:
            return backend
    raise InputError(f"{suffix or 'a file without a suffix'} is no model; expected {model_forms()}")


def model_forms() -> str:
    """Describe what may be given as a model, for messages."""
    suffixes = " or ".join(dict.fromkeys(backend.suffix for backend in BACKENDS.values()))
    return f"a bundle folder, an {suffixes} file or the name of a released model"


def packages() -> tuple[str, ...]:
    """All distributions that backends need, each once."""
    return tuple(dict.fromkeys(name for backend in BACKENDS.values() for name in backend.packages))
