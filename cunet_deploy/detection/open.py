"""Opening of the detector that ``--detector`` or `Localizer` names, in one place. The kinds are in `table`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from cunet_deploy._files import exists
from cunet_deploy.detection.base import Detector
from cunet_deploy.detection.table import DETECTORS, FULL, MODEL, DetectorKind, detector_forms
from cunet_deploy.errors import InputError
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions.base import Session
from cunet_deploy.zoo import check_licence, default_detector

__all__ = ["check_spec", "default_spec", "named_files", "open_detector"]


def default_spec(manifest: Manifest, licence: str = "any") -> str:
    """Return the default detector of a landmark network.

    The model that its manifest names, else the released one that is usual for its landmarks and has the wanted licence,
    else the search.
    """
    return manifest.detector or default_detector(manifest.skeleton.name, licence) or FULL


def open_detector(spec: str | Path | None = None, session: Session | None = None, licence: str = "any") -> Detector:
    """Open a detector; close it after use.

    Args:
        spec: the path of a model that finds boxes, or one of the forms in `DETECTORS`; ``None``: `default_spec`. A path
            that exists comes first, unless it is a word of the table without a folder in front (write ``./full``).
        session: the network of landmarks that it serves, which ``full`` searches with; it is not closed with it.
        licence: "open" refuses a network of ours whose weights may not be used for every purpose.

    Raises:
        InputError: there is no such file, released model or kind, a network is needed and none given, or a licence is
            refused.
        ArtifactError: a file is damaged or of another form.
    """
    if spec is None:
        if session is None:
            raise InputError(f"no detector named; expected {_expected()}")
        spec = default_spec(session.manifest, licence)
    kind, argument = _parse(str(spec))
    if kind.argument == "FILE":
        _check_file(str(spec), Path(argument))
    module, _, function = kind.opener.partition(":")
    detector = cast("Detector", getattr(importlib.import_module(module), function)(argument, session))
    manifest = getattr(detector, "manifest", None)
    if isinstance(manifest, Manifest):
        try:
            check_licence(manifest, licence)
        except InputError:
            detector.close()
            raise
    return detector


def check_spec(spec: str | None) -> None:
    """Find out whether a detector opens, before the network of landmarks does; raises as `open_detector`."""
    if spec is not None and spec != FULL:
        open_detector(spec).close()


def named_files(spec: str | None) -> tuple[Path, ...]:
    """The file or bundle that a spec names, if any; raises as `open_detector` where the spec is of no form."""
    argument = "" if spec is None else _parse(spec)[1]
    return (Path(argument),) if argument else ()


def _parse(spec: str) -> tuple[DetectorKind, str]:
    """The kind that is meant, and its argument."""
    word, colon, argument = spec.partition(":")
    kind = DETECTORS.get(word) if word else None
    if kind is not None and not colon and not kind.argument:
        return kind, ""
    if spec and (exists(spec) or (kind is None and not colon)):
        return DETECTORS[MODEL], spec
    if kind is not None and kind.argument and argument:
        return kind, argument
    raise InputError(f"detector {spec!r} is not known; expected {_expected()}")


def _check_file(spec: str, path: Path) -> None:
    if not exists(path) or not path.is_file():
        raise InputError(f"detector {spec}: there is no file {path}; check the path")
    if path.stat().st_size == 0:
        raise InputError(f"detector {spec}: {path} is empty; write or download it again")


def _expected() -> str:
    return f"one of {detector_forms(', ')}"
