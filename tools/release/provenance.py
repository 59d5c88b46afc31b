"""Provenance of weights: written beside them, and checked, for weights that anyone may use.

    python -m tools.release.provenance write runs/face68-s-open --data renders -o models/face68-s-open/provenance.json
    python -m tools.release.provenance check                            # every model in models/ with an open licence
    python -m tools.release.provenance check models/face68-s-open --data renders

``write`` reads a finished run, and the ``model.onnx`` beside the file that it writes. It makes sure that the run
learned from just the data that it is given, and records for each source what it is, under which licence, and a checksum
of its files: of renders all that ``synth.json`` states, of other photos the title of their ``LICENSE``, and which
networks found and labelled what is in them. A run that began with other weights, or learned from labels or heatmaps of
other networks, needs their provenance, too: ``--before``, which is kept in the file.

``check`` fails where a file is missing or does not belong to the weights, where a source or an asset has no licence
that allows every use, or where weights or teachers are of unknown origin. With ``--data`` it also compares the files.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import click

from cunet_deploy import __version__
from cunet_deploy._files import file_sha256
from cunet_deploy.checkpoint.storage import load_checkpoint, read_tensors
from cunet_deploy.config import Config, load_config
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import split_name
from cunet_deploy.errors import InputError, VerificationError
from cunet_deploy.licences import is_open, stated_licence
from cunet_deploy.manifest import Manifest
from cunet_deploy.synthesis.assets import listed_assets
from cunet_deploy.train.tasks import load_task
from tools.reports import errors_in_a_line, write_report

ROOT = Path(__file__).resolve().parents[2]
NAME = "provenance.json"
FORMAT = 1
_FREE = re.compile(r"(?:cc0|public domain)\b", re.IGNORECASE)
"""With which the title of a ``LICENSE`` that allows every use begins, where it is not an SPDX name."""
_LIMITED = re.compile(r"\b(?:no|not|non|nor|but|except|excluding|only|unless|without|research)\b", re.IGNORECASE)
"""Words by which such a title may take back what it began with."""
_NOT_FREE = "no LICENSE that begins with CC0, Public domain or the SPDX name of an open licence says that it is free"
_FULL_SEARCH = "CoarseToFineSearch"
"""The detector that searches with the network of the teacher, and has no weights of its own."""


@click.group()
def main() -> None:
    """Record and check what weights came from."""


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that it was trained on.")
@click.option(
    "--before",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Provenance of other networks that it learned from.",
)
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), help="File to write.  [default: in the run]")
@errors_in_a_line
def write(run: Path, data: Path, before: tuple[Path, ...], out: Path | None) -> None:
    """Record what the weights of RUN came from."""
    table = provenance_of(run, data, [json.loads(path.read_text("utf-8")) for path in before])
    path = out or run / NAME
    table["files"] |= exported(path.parent, table["weights"].values())
    problems = problems_of(table)
    if problems:
        raise InputError(f"{run}: {problems[0]}" + f" (and {len(problems) - 1} more)" * (len(problems) > 1))
    write_report(path, table)
    click.echo(f"{path}: {table['examples']} examples of {len(table['sources'])} sources, all free for any use")


@main.command()
@click.argument("models", type=click.Path(path_type=Path), nargs=-1)
@click.option("--data", type=click.Path(path_type=Path), help="Compare the files in this folder, too.")
@errors_in_a_line
def check(models: tuple[Path, ...], data: Path | None) -> None:
    """Check released MODELS, by default all whose licence is an open one."""
    chosen = list(models) or [path for path in sorted((ROOT / "models").iterdir()) if is_open_model(path)]
    problems = [f"{path.name}: {problem}" for path in chosen for problem in problems_of_model(path, data)]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise VerificationError(f"{len(problems)} problems with the provenance of {len(chosen)} models, see above")
    click.echo(f"{len(chosen)} models: weights, data and licences are as recorded")


def provenance_of(run: Path, data: Path, before: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The provenance of a run.

    Raises:
        InputError: it is no finished run, or learned from other data.
    """
    config = load_config(run / "config.toml")
    state = read_tensors(run / "state.pt", "training state")
    origin = dict(state["origin"])
    task = load_task(config, data, photos=PhotoCache(1 << 26))
    if task.checksum != origin["examples"]:
        raise InputError(f"{run}: was trained on other photos or labels than {data} holds; give the folder it had")
    files = sorted(run.glob("*.pt"))
    return {
        "format": FORMAT,
        "name": config.name,
        "licence": config.data.licence,
        "weights": {path.name: load_checkpoint(path).checksum for path in files if path.name != "state.pt"},
        "files": {path.name: file_sha256(path) for path in files if path.name != "state.pt"},
        "examples": task.num_train + task.num_validation,
        "examples_sha256": task.checksum,
        "other_weights": [name for name in str(origin.get("other", "")).split("+") if name],
        "sources": [describe(data, path) for path in source_paths(config)],
        "before": list(before),
        "written_with": f"cunet-deploy {__version__}",
    }


def exported(folder: Path, weights: Collection[str]) -> dict[str, str]:
    """Checksum of the ``model.onnx`` in a folder, by its name, where it was exported from one of these weights."""
    model, manifest = folder / "model.onnx", folder / "manifest.json"
    if not (model.is_file() and manifest.is_file()):
        return {}
    own = Manifest.from_json(manifest.read_text("utf-8"), manifest).checkpoint
    return {model.name: file_sha256(model)} if own in weights else {}


def source_paths(config: Config) -> list[str]:
    """Folders below ``--data`` that a configuration names, without the names of their parts; each once."""
    named = [*(source.path for source in config.data.parts), *config.data.background]
    named += [source.labels for source in config.data.parts if source.labels]
    return list(dict.fromkeys(str(split_name(Path(path))[0]) for path in named))


def describe(data: Path, path: str) -> dict[str, Any]:
    """Description of a source: its kind, its licence and the checksum of its files."""
    folder = data / path
    said: dict[str, Any] = {"path": path, **checksum_of(folder)}
    synth = folder.resolve().parent / "synth.json"
    if synth.is_file():
        return {**said, "kind": "renders", "synth": _without_paths(json.loads(synth.read_text("utf-8")))}
    return {
        **said,
        "kind": "photos",
        "licence_stated": stated_licence(folder) or stated_licence(folder.parent),
        "labelled_by": _labelled_by(folder),
    }


def checksum_of(folder: Path) -> dict[str, Any]:
    """Number of files of a folder and of those below it, and a SHA-256 of their names and contents.

    Lists of parts are left out: they name files and hold none.

    Raises:
        InputError: there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [folder]
    files = [path for path in files if path.name != "splits.json"]
    if not files or not all(path.is_file() for path in files):
        raise InputError(f"{folder}: has no files")
    digest = hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix() if path != folder else path.name
        digest.update(f"{name} {file_sha256(path)}\n".encode())
    return {"files": len(files), "sha256": digest.hexdigest()}


def _without_paths(synth: dict[str, Any]) -> dict[str, Any]:
    """Content of ``synth.json``, with the names of the user's folders only: where they lay says nothing."""
    options = dict(synth.get("options", {}))
    for key in ("backgrounds", "environments"):
        if options.get(key):
            options[key] = Path(options[key]).name
    return {**synth, "options": options}


def _labelled_by(folder: Path) -> list[dict[str, Any]]:
    """The teachers and the detector of each file of labels, as ``cunet-deploy label`` notes them."""
    found = []
    for path in sorted(folder.rglob("*.json")):
        table = json.loads(path.read_text("utf-8"))
        info = table.get("info") if isinstance(table, dict) else None
        if isinstance(info, dict) and "teachers" in info:
            teachers = [str(teacher["sha256"]) for teacher in info["teachers"]]
            found.append({"labels": path.name, "teachers": teachers, "detector": info.get("detector")})
    return found


def is_open_model(folder: Path) -> bool:
    """Return whether a released model says that anyone may use it."""
    path = folder / "manifest.json"
    return path.is_file() and is_open(Manifest.from_json(path.read_text("utf-8"), path).licence)


def problems_of_model(folder: Path, data: Path | None = None) -> list[str]:
    """Faults in the provenance of a released model; empty: none."""
    path = folder / NAME
    if not path.is_file():
        return [f"{NAME} is missing; write it: python -m tools.release.provenance write RUN --data DATA -o {path}"]
    table = json.loads(path.read_text("utf-8"))
    problems = problems_of(table)
    manifest = Manifest.from_json((folder / "manifest.json").read_text("utf-8"), folder)
    if manifest.checkpoint not in table["weights"].values():
        problems.append("the provenance is of other weights than model.onnx")
    problems += [
        f"{name} is another file than the one that is recorded; write the provenance again"
        for name, recorded in table["files"].items()
        if (folder / name).is_file() and file_sha256(folder / name) != recorded
    ]
    if manifest.licence != table["licence"]:
        problems.append(f"the provenance says {table['licence']}, the manifest {manifest.licence}")
    named = source_paths(load_config(folder / "config.toml"))
    known = [source["path"] for source in table["sources"]]
    problems += [f"config.toml names {name}, which the provenance lacks" for name in named if name not in known]
    for source in table["sources"] if data is not None else []:
        assert data is not None
        if checksum_of(data / source["path"])["sha256"] != source["sha256"]:
            problems.append(f"{source['path']}: its files are others than those that are recorded")
    return problems


def problems_of(table: dict[str, Any]) -> list[str]:
    """Reasons why weights of such a provenance are not free for any use; empty: none."""
    problems = [f"before, {one['name']}: {problem}" for one in table["before"] for problem in problems_of(one)]
    if table["format"] != FORMAT:
        return [*problems, f"format {table['format']} of the provenance is not {FORMAT}"]
    if not is_open(table["licence"]):
        problems.append(f"its licence is {table['licence']}, which does not allow every use")
    weights = {value for one in _all_before(table) for value in one["weights"].values()}
    files = {value for one in _all_before(table) for value in one["files"].values()}
    problems += [
        f"it learned from weights of unknown origin, {w[:12]}" for w in table["other_weights"] if w not in weights
    ]
    for source in table["sources"]:
        wrong = _of_renders(source["synth"]) if source["kind"] == "renders" else _of_photos(source, files, weights)
        problems += [f"{source['path']}: {problem}" for problem in wrong]
    return problems


def _all_before(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for before in table["before"] for one in (before, *_all_before(before))]


def _of_renders(synth: dict[str, Any]) -> list[str]:
    """Problems of the record of a run of ``cunet-deploy synth``."""
    listed = {asset.name: asset.licence for asset in listed_assets()}
    problems = [] if is_open(synth["licence"]) else [f"its licence is {synth['licence']}"]
    for asset in synth["assets"]:
        if listed.get(asset["name"]) != asset["licence"] or not is_open(asset["licence"]):
            problems.append(f"{asset['name']} is no asset of licences.toml under {asset['licence']}")
    for folder in synth["user_files"]:
        if not _is_free(folder["licence_stated"] or ""):
            problems.append(f"{folder['folder']}: {_NOT_FREE}")
    return problems


def _of_photos(source: dict[str, Any], files: set[str], weights: set[str]) -> list[str]:
    """Problems of a folder of photos whose labels may be by networks of those files and weights."""
    problems = [] if _is_free(source["licence_stated"]) else [_NOT_FREE]
    for labels in source["labelled_by"]:
        where, detector = labels["labels"], labels["detector"] or {"name": "", "weights": ""}
        for name in labels["teachers"]:
            if name not in files:
                problems.append(f"{where} was labelled by a network of unknown origin, {name[:12]}")
        if detector["weights"] not in weights and detector["name"] != _FULL_SEARCH:
            what = detector["name"] or "a detector that is not noted"
            problems.append(f"what {where} labels was found by {what}, whose origin is unknown")
    return problems


def _is_free(stated: str) -> bool:
    return is_open(stated) or bool(_FREE.match(stated) and not _LIMITED.search(stated))


if __name__ == "__main__":
    main()
