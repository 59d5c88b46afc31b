"""Common parts of the reports of all measuring tools."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from cunet_deploy._files import write_text_atomic
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.machine.describe import describe_machine, describe_versions
from cunet_deploy.sessions.registry import packages as backend_packages

__all__ = [
    "errors_in_a_line",
    "file_record",
    "recorded_times",
    "replace_between",
    "signed",
    "update_reported_cards",
    "update_reported_document",
    "write_report",
]

_ROOT = Path(__file__).resolve().parents[1]


F = TypeVar("F", bound=Callable[..., None])


def errors_in_a_line(function: F) -> F:
    """End a command with one line and the exit code of the error, as ``cunet-deploy`` does."""

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except CunetError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    return run  # type: ignore[return-value]


def signed(report: dict[str, Any], *packages: str) -> dict[str, Any]:
    """A report with the command of this process, the machine, and the versions of libraries and further packages."""
    program = Path(sys.argv[0])
    module = (
        ".".join(program.relative_to(_ROOT).with_suffix("").parts) if program.is_relative_to(_ROOT) else program.stem
    )
    command = f"python -m {module.removesuffix('.__main__')} " + " ".join(
        _quoted(_shown(argument)) for argument in sys.argv[1:]
    )
    versions = describe_versions(*backend_packages(), *packages)
    return {"command": command, **report, "machine": describe_machine(), "versions": versions}


def _shown(argument: str) -> str:
    """An argument as others can use it: a path outside the repository keeps the end that names its data."""
    path = Path(argument).resolve()
    if argument.startswith("/") and Path(argument).is_relative_to(_ROOT):
        return str(Path(argument).relative_to(_ROOT))
    outside = "/" in argument and not path.is_relative_to(_ROOT)
    # a part of a data set is named after its folder, which names the data
    return "/".join(path.parts[-1 if "#" in path.name else -2 :]) if outside else argument


def _quoted(argument: str) -> str:
    """Quote an argument that a shell would change; ``#`` within a word it leaves alone."""
    plain = argument.replace("#", "_")
    return argument if shlex.quote(plain) == plain and not argument.startswith("#") else shlex.quote(argument)


def file_record(model: Path) -> dict[str, Any]:
    """Size and checksums of a model.onnx: of all bytes, and of its graph without the values of the weights."""
    import onnx  # scripts that only report run on devices, where it need not be installed

    content = model.read_bytes()
    graph = onnx.load_from_string(content)
    del graph.metadata_props[:]
    for weights in graph.graph.initializer:
        if weights.data_type != onnx.TensorProto.INT64:  # shapes
            weights.CopyFrom(onnx.TensorProto(name=weights.name, data_type=weights.data_type, dims=weights.dims))
    return {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "graph_sha256": hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest(),
    }


def recorded_times(folder: Path) -> dict[str, Any]:
    """The ``numbers.json`` of a released model, whose times were measured with the graph of the model as it is now.

    They hold for other weights, too: arithmetic on integers of given shapes takes as long with any values.

    Raises:
        InputError: there is none, or it is of another graph or does not say of which.
    """
    path, model = folder / "numbers.json", folder / "model.onnx"
    try:
        numbers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        now = file_record(model)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); measure times as well") from error
    if numbers["file"].get("graph_sha256") != now["graph_sha256"]:
        raise InputError(f"{path}: was measured with another graph than that of {model.name}; measure times as well")
    return numbers


def write_report(path: Path | None, report: dict[str, Any]) -> None:
    """Write a report as JSON, in place of an earlier one; nowhere where ``path`` is ``None``."""
    if path is not None:
        write_text_atomic(path, json.dumps(report, indent=1, allow_nan=False) + "\n", overwrite=True)


def replace_between(path: Path, mark: str, text: str, *, write: bool) -> bool:
    """Bring what stands between the lines ``<!-- mark: begin -->`` and ``<!-- mark: end -->`` of a document up to date.

    Args:
        path: the document.
        mark: name of the part.
        text: what should stand there, with a line break at its end.
        write: change it; else only look.

    Returns:
        Whether it is current now.

    Raises:
        InputError: the document is missing or has no such lines.
    """
    if not path.is_file():
        raise InputError(f"{path}: is missing; every released model needs its card")
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    old = path.read_text(encoding="utf-8")
    head, found, rest = old.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise InputError(f"{path}: has no lines {begin!r} and {end!r}; put them where the table belongs")
    wanted = f"{head}{begin}\n{text}{end}{tail}"
    if wanted != old and write:
        write_text_atomic(path, wanted, overwrite=True)
    return wanted == old or write


def update_reported_document(
    report: Path, document: Path, mark: str, text_of: Callable[[dict[str, Any]], str], *, write: bool
) -> list[Path]:
    """Bring the part of a document that a report makes up to date.

    Args:
        report: the JSON file.
        document: has the part.
        mark: name of the part; see `replace_between`.
        text_of: makes the part of the report.
        write: change it; else only look.

    Returns:
        The document where it is not current now.
    """
    text = text_of(json.loads(report.read_text(encoding="utf-8")))
    return [] if replace_between(document, mark, text, write=write) else [document]


def update_reported_cards(
    mark: str, text_of: Callable[[dict[str, Any]], str], models: Path, *, write: bool
) -> list[Path]:
    """Bring a part of the cards of released models up to date, of those that have a report of it.

    Args:
        mark: name of the part, and of the report, ``MARK.json``.
        text_of: what a report says in a card.
        models: folder of the released models.
        write: change them; else only look.

    Returns:
        The cards that are not current now.
    """
    files = sorted(models.glob(f"*/{mark}.json"))
    texts = {file.with_name("README.md"): text_of(json.loads(file.read_text(encoding="utf-8"))) for file in files}
    return [path for path, text in texts.items() if not replace_between(path, mark, text, write=write)]


def replace_file(path: Path, text: str, *, write: bool) -> list[Path]:
    """A document that is not ``text``, as a list of one; with ``write`` it becomes that, and the list is empty."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return []
    if not write:
        return [path]
    write_text_atomic(path, text, overwrite=True)
    return []
