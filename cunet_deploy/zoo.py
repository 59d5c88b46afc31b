"""Released models: found by name, in the installed package or in a source checkout. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cunet_deploy._decode import decode_json
from cunet_deploy._files import exists
from cunet_deploy.errors import InputError
from cunet_deploy.licences import RESEARCH, is_open
from cunet_deploy.manifest import Manifest

__all__ = [
    "DEFAULT_MODEL",
    "bundle_folder",
    "check_licence",
    "default_detector",
    "find_model",
    "open_models",
    "released_models",
    "research_remark",
]

DEFAULT_MODEL = "face68-s"

_DETECTORS = {
    "ibug68": ("face-detect-s", "face-detect-open"),
    **dict.fromkeys(("lsp14", "mpii16", "coco17"), ("person-detect-s",)),
}
"""Detectors by skeleton, for models whose manifest names none: the first that is here and has the wanted licence."""

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_models", _PACKAGE.parent / "models")
"""Folders of released models, in order: what the wheel carries, then that of a source checkout."""


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass(frozen=True)
class _Described:
    """Keys of ``manifest.json`` that are read here."""

    licence: str
    skeleton: _Named


def released_models() -> list[str]:
    """Names of the released models that are here, sorted."""
    return sorted({path.parent.name for root in _ROOTS for path in root.glob("*/model.onnx")})


def default_detector(skeleton: str, licence: str = "any") -> str | None:
    """The released model that finds the objects of a skeleton; ``None`` where there is none here.

    Args:
        skeleton: its name.
        licence: "open": one that allows every use.
    """
    here = released_models()
    found = [name for name in _DETECTORS.get(skeleton, ()) if name in here]
    return next((name for name in found if licence == "any" or is_open(_described(name).licence)), None)


def open_models(skeleton: str) -> list[str]:
    """Names of the released models here that find these landmarks, or boxes, and allow every use; sorted."""
    found = {name: _described(name) for name in released_models()}
    return [name for name, said in found.items() if said.skeleton.name == skeleton and is_open(said.licence)]


def check_licence(manifest: Manifest, wanted: str) -> None:
    """Refuse weights of another licence than is wanted, one of `cunet_deploy.licences.CHOICES`.

    Raises:
        InputError: they may not be used for every purpose, and ``wanted`` is "open".
    """
    if wanted == "any" or is_open(manifest.licence):
        return
    raise InputError(
        f"{manifest.name}: refused: an open licence was asked for, and that of these weights is {manifest.licence!r}; "
        f"{_instead_of(manifest)}"
    )


def _instead_of(manifest: Manifest) -> str:
    """Name open models here that find the same as a refused one, or what to train one on."""
    if manifest.boxes is None:
        skeletons, names = [manifest.skeleton.name], open_models(manifest.skeleton.name)
    else:
        skeletons = [skeleton for skeleton, detectors in _DETECTORS.items() if manifest.name in detectors]
        names = sorted({name for name in (default_detector(skeleton, "open") for skeleton in skeletons) if name})
    if names:
        return f"use {' or '.join(names)}"
    photos = "cunet-deploy synth faces" if "ibug68" in skeletons else "photos whose licence allows every use"
    return f"train your own on {photos}"


def research_remark(manifest: Manifest, detector: Manifest | None = None) -> str | None:
    """Say that weights are for research only and which are not; ``None`` where that is not so.

    Args:
        manifest: of a network of landmarks.
        detector: of the detector that is used with it.
    """
    skeleton, free = manifest.skeleton.name, []
    if manifest.licence == RESEARCH:
        free += open_models(skeleton)
    if detector is not None and detector.licence == RESEARCH:
        free += filter(None, [default_detector(skeleton, "open")])
    restricted = [one for one in (manifest, detector) if one is not None and one.licence == RESEARCH]
    if not restricted:
        return None
    instead = f"; free for any use: {', '.join(free)} (--licence open)" if free else ""
    names = " and ".join(one.name for one in restricted)
    return f"the weights of {names} are for research only{instead}"


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


def bundle_folder(name: Path) -> Path:
    """The folder of a released model where a path names one and nothing is there; else the path."""
    return find_model(str(name)).parent if not exists(name) and str(name) in released_models() else name


def _described(name: str) -> _Described:
    """Read the manifest beside a released model; without one its licence is not known."""
    try:
        return decode_json(find_model(name).with_name("manifest.json").read_bytes(), _Described)
    except (OSError, InputError):
        return _Described("unknown", _Named(""))
