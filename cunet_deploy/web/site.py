"""A static page that runs a bundle in the browser, with everything it needs in one folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.licences import wanted_licence
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions import model_file, open_session
from cunet_deploy.web.runtime import CDN, INTEGRITY, PACKAGE, installed_files, npm_install
from cunet_deploy.zoo import check_licence, default_detector, research_remark

__all__ = ["Runtime", "Site", "build_site"]

Runtime = Literal["auto", "npm", "cdn"]
"""Source of onnxruntime-web: copied from npm, linked from a content delivery network, or npm where it works."""

_DECODER = "log_parabola"
"""Method of the page's own decoder, of `cunet_deploy.heatmaps.DECODERS`."""

_PAGE = Path(__file__).resolve().parent / "page"
_SETTINGS, _MODULES = "site.json", "cunet-deploy-web"
"""File and folder that every page has; a folder without them is not replaced."""


@dataclass(frozen=True)
class Site:
    """A page that was made.

    Attributes:
        path: its folder.
        files: how many.
        bytes: of all of them.
        runtime: "npm" or "cdn".
        not_from_npm: why onnxruntime-web was not copied; empty where it was, or was not asked for.
        remark: on the licence of the weights, or empty.
    """

    path: Path
    files: int
    bytes: int
    runtime: str
    not_from_npm: str = ""
    remark: str = ""


def build_site(
    model: str,
    out: Path,
    *,
    detector: str | None = None,
    runtime: Runtime = "auto",
    overwrite: bool = False,
    licence: str | None = None,
) -> Site:
    """Write the page that runs a model in the browser.

    Args:
        model: a bundle folder, an ``.onnx`` file or the name of a released model, of landmarks.
        out: the folder; made when missing.
        detector: the same of boxes; ``None``: the one that the model's manifest names, or that is usual.
        runtime: where onnxruntime-web comes from.
        overwrite: replace a page that is there.
        licence: as `cunet_deploy.Localizer` takes it.

    Raises:
        InputError: there is no such model, it finds boxes, there is no detector for it, a licence is refused, or the
            folder exists and may not be replaced or holds something else than a page.
        CunetError: npm was asked for and does not work here.
    """
    _check_target(out, overwrite=overwrite)
    (file, manifest), (detector_file, detector_manifest) = _chosen(model, detector, wanted_licence(licence))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as work:
        site = Path(work) / "site"
        shutil.copytree(_PAGE, site)
        shutil.copytree(PACKAGE / "src", site / _MODULES)
        for path, contents in ((file, manifest), (detector_file, detector_manifest)):
            folder = site / "models" / contents.name
            folder.mkdir(parents=True)
            shutil.copyfile(path, folder / "model.onnx")
            (folder / "manifest.json").write_text(contents.to_json() + "\n", encoding="utf-8")
        problem = _add_runtime(site, Path(work) / "npm") if runtime != "cdn" else ""
        if problem and runtime == "npm":
            message = f"onnxruntime-web cannot be taken from npm: {problem}; try again, or link it from the CDN"
            raise CunetError(message, option="runtime")
        copied = runtime != "cdn" and not problem
        sums = dict.fromkeys(INTEGRITY, "") if copied else INTEGRITY
        table = {
            "model": f"models/{manifest.name}/",
            "detector": f"models/{detector_manifest.name}/",
            "runtime": {"base": "ort/" if copied else CDN, "files": sums},
        }
        (site / _SETTINGS).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        _list_files(site)
        _check_target(out, overwrite=overwrite)  # another program may have written there in the meantime
        if out.exists():
            out.rename(Path(work) / "replaced")
        site.rename(out)
    paths = [path for path in out.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in paths)
    remark = research_remark(manifest, detector_manifest) or ""
    return Site(out, len(paths), total, "npm" if copied else "cdn", problem, remark)


def _check_target(out: Path, *, overwrite: bool) -> None:
    """Refuse a target that may not be replaced: all that is in it would be deleted.

    Raises:
        InputError: it is a file, a folder of something else, or a page, and ``overwrite`` is false.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file; choose a folder for the page")
    if not (out / _SETTINGS).is_file() or not (out / _MODULES).is_dir():
        raise InputError(f"{out}: holds other files than a page; choose another folder, or remove it first")
    if not overwrite:
        raise InputError(f"{out}: exists already; choose another folder, or overwrite it", option="overwrite")


def _chosen(model: str, detector: str | None, wanted: str) -> tuple[tuple[Path, Manifest], tuple[Path, Manifest]]:
    """Open the model and the detector of a page; raises the errors of `build_site`."""
    file, manifest = _opened(model)
    if manifest.boxes is not None:
        raise InputError(f"{model}: finds boxes, and a page shows landmarks; give it as detector, beside a model")
    if manifest.decoder.method != _DECODER:
        raise InputError(
            f"{model}: the page reads heatmaps by {_DECODER} only, this model by {manifest.decoder.method}"
        )
    check_licence(manifest, wanted)
    usual = manifest.detector or default_detector(manifest.skeleton.name, wanted)
    name = usual if detector is None else detector
    if name is None:
        raise InputError(
            f"{model}: no detector is known for {manifest.skeleton.name}; name a model that finds boxes",
            option="detector",
        )
    detector_file, detector_manifest = _opened(name)
    if detector_manifest.boxes is None:
        raise InputError(f"{name}: finds landmarks; a detector finds boxes, such as face-detect-s")
    check_licence(detector_manifest, wanted)
    return (file, manifest), (detector_file, detector_manifest)


def _opened(model: str) -> tuple[Path, Manifest]:
    """The ONNX file of a model that loads, and its manifest."""
    file = model_file(model)
    if file.suffix != ".onnx":
        raise InputError(f"{model}: an engine runs on one kind of GPU; give the bundle that it was built from")
    with_network = open_session(file, threads=1, backend="ort:cpu")
    try:
        return file, with_network.manifest
    finally:
        with_network.close()


def _add_runtime(site: Path, work: Path) -> str:
    """Copy onnxruntime-web from npm into the page; why not, where that does not work."""
    problem = npm_install(work, "onnxruntime-web")
    if problem:
        return problem
    (site / "ort").mkdir()
    for path in installed_files(work):
        shutil.copyfile(path, site / "ort" / path.name)
    return ""


def _list_files(site: Path) -> None:
    """Tell the service worker which files there are, and which version of the page this is."""
    files = sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for name in files:
        digest.update(name.encode() + (site / name).read_bytes())
    worker = site / "sw.js"
    names = json.dumps(["./", *(name for name in files if name != "sw.js")])
    text = worker.read_text(encoding="utf-8").replace("@VERSION@", digest.hexdigest()[:16])
    worker.write_text(text.replace('["@FILES@"]', names), encoding="utf-8")
