"""Released models: found by name, in the installed package or in a source checkout. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

from cunet_deploy._files import exists
from cunet_deploy.errors import InputError

__all__ = ["DEFAULT_MODEL", "default_detector", "find_model", "released_models"]

DEFAULT_MODEL = "face68-s"

_DETECTORS = {"ibug68": "face-detect-s", **dict.fromkeys(("lsp14", "mpii16", "coco17"), "person-detect-s")}
"""Detectors by skeleton, for models whose manifest names none."""

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_models", _PACKAGE.parent / "models")
"""Folders of released models, in order: what the wheel carries, then that of a source checkout."""


def released_models() -> list[str]:
    """Names of the released models that are here, sorted."""
    return sorted({path.parent.name for root in _ROOTS for path in root.glob("*/model.onnx")})


def default_detector(skeleton: str) -> str | None:
    """The released model that finds the objects of a skeleton; ``None`` where there is none here."""
    name = _DETECTORS.get(skeleton)
    return name if name in released_models() else None


def find_model(name: str) -> Path:
    """The ONNX file of a released model.

    Raises:
        InputError: no released model has that name; the message lists those that are here.
    """
    if Path(name).name == name:
        for root in _ROOTS:
            path = root / name / "model.onnx"
            if exists(path):
                return path
    known = ", ".join(released_models()) or "none in this installation"
    raise InputError(f"no released model or file is called {name!r}; released models: {known}; or give a path")
