"""Networks, loaded and ready: `open_session` finds out what a path or name stands for."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.sessions.base import Session
from cunet_deploy.zoo import find_model

if TYPE_CHECKING:
    from cunet_deploy.sessions.auto import Choice

__all__ = ["AUTO", "BACKENDS", "Session", "choose_backend", "model_file", "open_session"]

BACKENDS = ("ort:cpu", "ort:cuda", "ort:tensorrt", "ort:tensorrt-rtx", "openvino", "tensorrt", "tensorrt:graph")
"""What can run a network: providers of ONNX Runtime, OpenVINO, and TensorRT for engines, also with CUDA graphs."""

AUTO = "auto"
"""In place of one of the `BACKENDS`: the one that is fastest on this machine; see `choose_backend`."""

_log = logging.getLogger(__name__)


def open_session(
    engine: str | Path, *, threads: int | None = None, backend: str | None = None, trust: bool = False
) -> Session:
    """Load a network.

    Args:
        engine: a bundle folder (it holds ``model.onnx``), an ``.onnx`` file, an ``.engine`` file, or the name of a
            released model.
        threads: how many CPU threads the network may use; ``None`` leaves it to the runtime: one for each physical
            core. Engines use none.
        backend: what shall run it, one of `BACKENDS` or `AUTO`; ``None``: TensorRT for engines, ONNX Runtime on the
            CPU for the rest. Anything else than what was asked for is an error.
        trust: load an engine whose checksum is not the one beside it. An engine is native code.

    Raises:
        InputError: there is no such file, released model or backend.
        ArtifactError: the file is damaged, has no manifest, or cannot run here.
        MissingDependencyError: a library that it needs is not installed.
        UntrustedError: an engine is not the one that is described beside it.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}; leave it out to use every core")
    if backend is not None and backend not in (*BACKENDS, AUTO):
        raise InputError(f"unknown backend {backend!r}; choose from {', '.join((*BACKENDS, AUTO))}")
    if backend == AUTO:
        choice = choose_backend(engine, threads=threads)
        _log.log(logging.WARNING if choice.left_out else logging.INFO, "%s", choice.line())
        backend = choice.backend
    path = model_file(engine, backend)
    if path.suffix == ".engine":
        if backend is not None and not backend.startswith("tensorrt"):
            raise InputError(f"{path}: is an engine, and {backend} runs .onnx files; leave the backend out")
        from cunet_deploy.tensorrt.session import TensorRTSession

        return TensorRTSession(path, trust=trust, cuda_graph=backend == "tensorrt:graph")
    if backend is not None and backend.startswith("tensorrt"):
        raise InputError(
            f"{path}: {backend} runs .engine files; build one: cunet-deploy build {path.parent}, or use ort:tensorrt"
        )
    _check_sum(path)
    if backend == "openvino":
        from cunet_deploy.sessions.openvino import OpenVINOSession

        return OpenVINOSession(path, threads=threads)
    from cunet_deploy.sessions.onnxruntime import OrtSession  # loads onnxruntime: only when a model is opened
    from cunet_deploy.sessions.providers import find_provider

    return OrtSession(path, threads=threads, provider=find_provider((backend or "ort:cpu").removeprefix("ort:")))


def choose_backend(engine: str | Path, *, threads: int | None = None) -> Choice:
    """Find the fastest backend for a network on this machine: measured for about two seconds, then remembered.

    Tried are ONNX Runtime on the CPU, on a GPU through CUDA where it has that, and OpenVINO where it is installed.
    Engines run in TensorRT only, and nothing is measured.

    Args:
        engine: as in `open_session`.
        threads: how many CPU threads the network may use.

    Raises:
        InputError: there is no such file or released model.
        VerificationError: no backend loads it and finds the landmarks that it should.
    """
    path = model_file(engine)
    from cunet_deploy.sessions.auto import Choice, choose

    if path.suffix == ".engine":
        return Choice("tensorrt", {}, {}, {})
    import onnxruntime as ort

    names, missing = ["ort:cpu"], {}
    if "CUDAExecutionProvider" in ort.get_available_providers():
        names.append("ort:cuda")
    if importlib.util.find_spec("openvino") is not None:
        names.append("openvino")
    else:
        missing["openvino"] = "pip install 'cunet-deploy[openvino]'"
    candidates: dict[str, Callable[[], Session]] = {
        name: partial(open_session, path, threads=threads, backend=name) for name in names
    }
    return choose(path, candidates, missing, threads=threads)


def model_file(engine: str | Path, backend: str | None = None) -> Path:
    """The file that ``engine`` stands for on a backend, see `open_session`, which raises the same errors."""
    path = Path(engine)
    if path.is_dir():
        path = path / "model.onnx"
        lowered = path.with_name("model.tensorrt.onnx")
        if backend in ("ort:tensorrt", "ort:tensorrt-rtx") and lowered.is_file():
            return lowered
        if not path.is_file():
            raise InputError(
                f"{engine}: is a folder without model.onnx; make a bundle: cunet-deploy export CKPT -o DIR"
            )
        return path
    if path.is_file():
        if path.suffix not in (".onnx", ".engine"):
            raise InputError(
                f"{path}: a bundle folder, an .onnx or .engine file or the name of a released model is expected"
            )
        return path
    if path.suffix in (".onnx", ".engine") or len(path.parts) != 1:
        raise InputError(
            f"{engine}: does not exist; give a bundle folder, an .onnx or .engine file or the name of a released model"
        )
    return find_model(str(engine))


def _check_sum(path: Path) -> None:
    """Refuse a model that is not the one its bundle describes. A file without a ``manifest.json`` beside it passes."""
    sidecar = path.with_name("manifest.json")
    if path.name != "model.onnx" or not sidecar.is_file():
        return
    try:
        table = json.loads(sidecar.read_text(encoding="utf-8"))
        expected = table.get("sha256")
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{sidecar}: is damaged ({error}); export the bundle again") from error
    if expected is not None and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise ArtifactError(f"{path}: its checksum is not the one in manifest.json; copy or export the bundle again")
