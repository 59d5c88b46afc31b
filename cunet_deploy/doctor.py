"""Report of what this machine can run and what installs the rest. Nothing is changed, and PyTorch is not loaded."""

from __future__ import annotations

import importlib
import importlib.util
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from cunet_deploy.errors import CunetError
from cunet_deploy.machine.cpu import cpu_features, cpu_name, may_saturate
from cunet_deploy.machine.gpu import Gpu, local_gpu
from cunet_deploy.machine.jetson import Jetson, read_jetson
from cunet_deploy.sessions.registry import BACKENDS, NVIDIA, Backend

__all__ = ["Check", "Report", "examine"]

_TRAIN = "'cunet-deploy[train]'"
_TENSORRT = "'cunet-deploy[tensorrt]'"
_FROM_JETPACK = (
    "it comes with JetPack: sudo apt-get install nvidia-jetpack, and a venv made with --system-site-packages"
)
_INT8 = {
    ("i8mm",): "i8mm and dot product: 8-bit networks take about a third of the instructions of float ones",
    ("asimddp",): "dot product: 8-bit networks take about a third of the instructions of float ones",
    ("avx_vnni", "avx512_vnni", "amx_int8"): "",
}
"""Instruction sets that make 8-bit networks fast, and what they gain. Arm: instructions of face68-s, face68-m and
pose14-s (crops of 128 px) in ONNX Runtime, counted in an emulator: 0.32 to 0.34 of those in float."""
_ARM_WITHOUT = "no dot product: 8-bit networks take about three quarters of the instructions of float ones"
"""0.72 to 0.79, counted in the same way."""
_DRIVER = (
    "install NVIDIA's driver if there is an NVIDIA GPU (Debian: apt-get install nvidia-driver; Ubuntu: "
    "ubuntu-drivers install)"
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    Attributes:
        name: of it.
        found: what is there, with its version; empty where it is missing.
        advice: what to do, if anything is.
        required: whether nothing works without it.
    """

    name: str
    found: str
    advice: str = ""
    required: bool = False


@dataclass(frozen=True)
class Report:
    """The state of a machine.

    Attributes:
        checks: what was looked for, in the order to read.
        backends: for each backend why it cannot run here; empty where it can.
        hints: further advice, for a Jetson.
    """

    checks: tuple[Check, ...]
    backends: dict[str, str]
    hints: tuple[str, ...]

    @property
    def is_usable(self) -> bool:
        """Return whether all that is required is there."""
        return all(check.found or not check.required for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        return asdict(self)


def examine(root: Path = Path("/")) -> Report:
    """Look at this machine.

    Args:
        root: where the files that describe processor and board are looked for.
    """
    jetson, gpu = read_jetson(root), local_gpu()
    runtime = _check_module("ONNX Runtime", "onnxruntime", "onnxruntime", required=True)
    tensorrt = _check_module("TensorRT", "tensorrt", _TENSORRT)
    if jetson is not None and not tensorrt.found:
        tensorrt = Check("TensorRT", "", f"{_FROM_JETPACK} {_module('tensorrt')[1]}".strip())
    rtx = _check_module("TensorRT for RTX", "tensorrt_rtx", "" if jetson else "'cunet-deploy[tensorrt-rtx]'")
    providers = _providers() if runtime.found else []
    memory = [_check_package(name, name, _pip(name)) for name in ("pycuda", "cuda-bindings")]
    trials = {name: _try(row) for name, row in BACKENDS.items()}
    checks = [
        Check("Python", f"{platform.python_version()} in {sys.prefix}"),
        Check("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        _processor(root),
        *([_board(jetson)] if jetson else []),
        Check("NVIDIA driver", _gpu_text(gpu), "" if gpu else _DRIVER if jetson is None else "reinstall JetPack"),
        runtime,
        *([Check("  its providers", ", ".join(providers))] if providers else []),
        *_opencv(jetson),
        tensorrt,
        *([rtx] if rtx.found or rtx.advice else []),
        *memory,
        *_other_libraries({check.name for check in (runtime, tensorrt)}, trials),
        _check_package("PyTorch", "torch", f"{_pip(_TRAIN)} (to train and export)"),
        _check_package("onnx", "onnx", f"{_pip(_TRAIN)} (to export and inspect)"),
    ]
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    hints = tuple(jetson.advice(python)) if jetson else ()
    backends = {name: _why_not(BACKENDS[name], found, advice, gpu) for name, (found, advice) in trials.items()}
    return Report(tuple(checks), backends, hints)


def _pip(what: str) -> str:
    return f"pip install {what}"


def _check_module(name: str, module: str, package: str, *, required: bool = False) -> Check:
    """A module that must load, and the package that brings it; without a package nothing is advised."""
    version, problem = _module(module)
    if version:
        return Check(name, version, required=required)
    advice = _pip(package) if package else ""
    if problem:
        advice = f"it is installed but does not load ({problem}){'; ' * bool(advice)}{advice}"
    return Check(name, "", advice, required)


def _check_package(name: str, package: str, line: str) -> Check:
    """A package that is only looked up."""
    version = _installed(package)
    return Check(name, version, "" if version else line)


def _module(name: str) -> tuple[str, str]:
    """Version of a module that can be imported; else empty, with the reason where it is installed but does not load."""
    try:
        if importlib.util.find_spec(name) is None:
            return "", ""
        return str(getattr(importlib.import_module(name), "__version__", "unknown version")), ""
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError) as error:
        return "", " ".join(str(error).split())[:200] or type(error).__name__


def _installed(package: str) -> str:
    """Version of an installed package, without loading it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor(root: Path) -> Check:
    """Board, processor, instruction sets, and what 8-bit networks gain by them."""
    text, board = (_text(root / "proc" / name) for name in ("cpuinfo", "device-tree/model"))
    features = cpu_features(text)
    name = cpu_name(text) or platform.processor() or platform.machine()
    kind = next((sets for sets in _INT8 if set(features) & set(sets)), None)
    gain = _INT8[kind] if kind else _ARM_WITHOUT if "asimd" in features else ""
    parts = [": ".join(filter(None, (board, name))), ", ".join(features) or "instruction sets not known", gain]
    slow = "no VNNI or dotprod instructions: 8-bit models run, with little gain in speed over float"
    advice = "" if kind or not text else slow
    if advice and may_saturate(features):
        advice += "; models of cunet-deploy export --reduce-range are faster there"
    return Check("processor", "; ".join(filter(None, parts)), advice)


def _text(path: Path) -> str:
    """Text of a file of the system; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _board(jetson: Jetson) -> Check:
    release = jetson.release
    parts = [jetson.board, f"L4T {jetson.l4t}" if jetson.l4t else ""]
    parts.append(f"JetPack {jetson.jetpack or (release.name if release else 'unknown')}")
    if release:
        parts.append(f"which brings TensorRT {release.tensorrt}, CUDA {release.cuda}, Python {release.python}")
    if jetson.tensorrt:
        parts.append(f"installed TensorRT {jetson.tensorrt}")
    advice = "" if jetson.tensorrt else "sudo apt-get install nvidia-jetpack"
    return Check("Jetson", ", ".join(part for part in parts if part), advice)


def _gpu_text(gpu: Gpu | None) -> str:
    if gpu is None:
        return ""
    return f"{gpu.driver or 'version unknown'}, CUDA up to {gpu.cuda}, GPU SM{gpu.compute_capability}"


def _providers() -> list[str]:
    import onnxruntime

    return [str(name) for name in onnxruntime.get_available_providers()]


def _try(backend: Backend) -> tuple[str, str]:
    """Describe a backend's library and what it finds here; else empty, and what is wrong with it."""
    try:
        module = backend.load()
        missing = module.missing(backend)
        return ("", missing) if missing else (module.describe(backend), "")
    except (CunetError, ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        line = f"; {backend.install_line}" if backend.extra else ""
        return "", f"it is installed but does not load ({reason}){line}"


def _other_libraries(known: set[str], trials: Mapping[str, tuple[str, str]]) -> list[Check]:
    """A check for each library of the backends that has none of its own."""
    others = {row.library: trials[name] for name, row in BACKENDS.items() if row.library not in known}
    return [Check(library, *trial) for library, trial in others.items()]


def _why_not(backend: Backend, found: str, advice: str, gpu: Gpu | None) -> str:
    """Reason why a backend cannot run here; empty where it can."""
    if not found:
        return advice
    return "no NVIDIA driver or GPU" if backend.device == NVIDIA and gpu is None else ""


def _opencv(jetson: Jetson | None) -> Sequence[Check]:
    try:
        import cv2
    except (ImportError, OSError) as error:
        advice = _pip("opencv-python-headless")
        if not isinstance(error, ModuleNotFoundError):
            advice = f"it is installed but does not load ({error}); {advice}"
        return [Check("OpenCV", "", advice, required=True)]
    match = re.search(r"GStreamer:\s+(YES\b.*|NO\b)", cv2.getBuildInformation())
    has = match is not None and match[1].startswith("YES")
    advice = "for CSI cameras and hardware decoding use an OpenCV built with GStreamer" + (
        ": JetPack's, pip uninstall opencv-python-headless" if jetson else ""
    )
    return [
        Check("OpenCV", str(cv2.__version__), required=True),
        Check("  GStreamer", match[1] if has and match else "", "" if has else advice),
    ]
