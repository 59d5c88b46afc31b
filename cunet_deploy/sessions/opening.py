"""From what a user names to a loaded network."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from numbers import Integral
from pathlib import Path

from cunet_deploy._files import exists
from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.sessions.auto import Choice, choose
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.checks import matches_manifest
from cunet_deploy.sessions.registry import AUTO, BACKENDS, Backend, default_backend, find_backend, model_forms
from cunet_deploy.zoo import find_model

__all__ = ["choose_backend", "model_file", "open_session"]

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
        backend: what shall run it, a name of `cunet_deploy.sessions.registry.BACKENDS` or ``"auto"``; ``None``: the
            default for that type of file. Anything else than what was asked for is an error.
        trust: load an engine whose checksum is not the one beside it. An engine is native code.

    Raises:
        InputError: there is no such file, released model or backend.
        ArtifactError: the file is damaged, has no manifest, or cannot run here.
        MissingDependencyError: a library that it needs is not installed.
        UntrustedError: an engine is not the one that is described beside it.
    """
    if threads is not None and not _is_count(threads):
        raise InputError(f"threads must be a whole number from 1, got {threads!r}; leave it out to use every core")
    if backend == AUTO:
        choice = choose_backend(engine, threads=threads)
        _log.log(logging.WARNING if choice.left_out else logging.INFO, "%s", choice.line())
        backend = choice.backend
    path = model_file(engine, backend)
    return _load(path, _fitting(path, backend), threads=threads, trust=trust)


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 1


def choose_backend(engine: str | Path, *, threads: int | None = None) -> Choice:
    """Find the fastest backend for a network on this machine: measured for about two seconds, then remembered.

    Tried are those of `cunet_deploy.sessions.registry.BACKENDS` that are ``measured``, run this type of file and are
    installed. Where there is one for it at all, nothing is measured.

    Args:
        engine: as in `open_session`.
        threads: how many CPU threads the network may use.

    Raises:
        InputError: there is no such file or released model.
        VerificationError: no backend loads it and finds the landmarks that it should.
    """
    path = model_file(engine)
    rows = [row for row in BACKENDS.values() if row.suffix == path.suffix and row.measured]
    if not rows:
        return Choice(default_backend(path.suffix).name, {}, {}, {})
    installed = [row for row in rows if not row.load().missing(row)]
    missing = {row.name: row.install_line for row in rows if row not in installed and row.extra}
    candidates: dict[str, Callable[[], Session]] = {
        row.name: partial(_load, path, row, threads=threads, trust=False) for row in installed
    }
    return choose(path, candidates, missing, threads=threads)


def model_file(engine: str | Path, backend: str | None = None) -> Path:
    """The file that ``engine`` stands for on a backend, see `open_session`, which raises the same errors."""
    if engine == "":  # as an unset variable of a shell gives; as a path it would be the current folder
        raise InputError(f"a model is an empty text; give {model_forms()}")
    wanted = None if backend in (None, AUTO) else find_backend(str(backend))
    path = Path(engine)
    there = exists(path)
    if there and path.is_dir():
        names = ("model.onnx",) if wanted is None else wanted.bundled
        for name in names:
            if (path / name).is_file():
                return path / name
        raise InputError(f"{engine}: is a folder without {names[-1]}; make a bundle: cunet-deploy export CKPT -o DIR")
    suffixes = {row.suffix for row in BACKENDS.values()}
    if there and path.is_file():
        if path.suffix not in suffixes:
            if path.suffix == ".pt":
                raise InputError(f"{path}: is a checkpoint; make a bundle of it: cunet-deploy export {path} -o DIR")
            raise InputError(f"{path}: {model_forms()} is expected")
        return path
    if path.suffix in suffixes or len(path.parts) != 1:
        raise InputError(f"{engine}: does not exist; give {model_forms()}")
    return find_model(str(engine))


def _fitting(path: Path, name: str | None) -> Backend:
    """The backend of a name, or the default, which must run this type of file."""
    default = default_backend(path.suffix)
    backend = default if name is None else find_backend(name)
    if backend.suffix == path.suffix:
        return backend
    if backend.suffix == ".engine":
        raise InputError(
            f"{path}: {backend.name} runs .engine files; build one: cunet-deploy build {path.parent}, or use "
            "ort:tensorrt"
        )
    kind = path.suffix.removeprefix(".")
    raise InputError(
        f"{path}: is an {kind}, and {backend.name} runs {backend.suffix} files; leave the backend out: {default.name}"
    )


def _load(path: Path, backend: Backend, *, threads: int | None, trust: bool) -> Session:
    if path.name == "model.onnx" and matches_manifest(path) is False:
        raise ArtifactError(f"{path}: its checksum is not the one in manifest.json; copy or export the bundle again")
    return backend.load().open_backend(path, backend, threads=threads, trust=trust)
