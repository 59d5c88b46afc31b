"""Measure released models, and write the figures where they are quoted.

    python tools/measure_models.py face68-s --data 300w/helen/testset
    python tools/measure_models.py --readme
    python tools/measure_models.py --check

The first form writes ``models/NAME/numbers.json``: accuracy of the float parent, of the released quantized checkpoint
and of the released ``model.onnx`` on the same faces, what quantizing cost (paired), latency of ``model.onnx`` against
the float export in one interleaved run, file sizes, parity, machine and versions. A model of fewer bits is a twin of
the 8-bit one that its float parent lies with (``--float models/face68-s/float.pt``), and is timed against that, too.
``--readme`` writes the tables of README.md and of the models' cards from the ``numbers.json`` files; ``--check`` only
says, with exit code 1, whether they are current.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
from reports import replace_between

from cunet_deploy._files import write_text_atomic
from cunet_deploy.bench.hardware import describe_machine, describe_versions
from cunet_deploy.bench.latency import Candidate, Scene, drawn_picture, measure_latency, ratio
from cunet_deploy.checkpoint import load_checkpoint
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.evaluation import Evaluation, compare, evaluate, open_model
from cunet_deploy.runtime.sessions import open_session

WEIGHTS = {"1": "binary", "ternary": "ternary"}
ROOT = Path(__file__).resolve().parent.parent
MARK = "released models"
CALLS = 10

HEADER = """\
| model | weights | file | NME float | NME quantized | cost | float | quantized | quantized / float | / 8 bit |
|---|---|---|---|---|---|---|---|---|---|
"""


@click.command()
@click.argument("name", required=False)
@click.option(
    "--float",
    "parent",
    type=click.Path(path_type=Path),
    help="Float checkpoint that the model came from.  [default: models/NAME/float.pt]",
)
@click.option("--data", type=click.Path(path_type=Path), help="Test photos in the 300-W layout.")
@click.option("--title", default="HELEN subset", show_default=True, help="What the data set is called.")
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True, help="Of the latency measurement.")
@click.option("--models", type=click.Path(path_type=Path), default=ROOT / "models", help="Folder of released models.")
@click.option("--readme", is_flag=True, help="Write the tables of README.md and of the cards.")
@click.option("--check", is_flag=True, help="Exit with 1 when one of the tables is not current.")
def main(
    name: str | None,
    parent: Path | None,
    data: Path | None,
    title: str,
    rounds: int,
    models: Path,
    readme: bool,
    check: bool,
) -> None:
    """Measure the released model NAME, or bring the tables that quote measurements up to date."""
    try:
        if name is not None:
            if data is None:
                raise InputError("--data is needed to measure a model")
            numbers = measure_model(models / name, parent or models / name / "float.pt", data, title, rounds)
            text = json.dumps(numbers, indent=1, allow_nan=False) + "\n"
            write_text_atomic(models / name / "numbers.json", text, overwrite=True)
            click.echo(table_of([numbers]), nl=False)
        elif not (readme or check):
            raise InputError("name a model, or give --readme or --check")
        if readme or check:
            stale = update_tables(models, write=readme)
            if check and stale:
                names = ", ".join(str(path.relative_to(models.parent)) for path in stale)
                raise CunetError(f"not current: {names}; run: python tools/measure_models.py --readme")
    except CunetError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def measure_model(folder: Path, parent: Path, data: Path, title: str, rounds: int) -> dict[str, Any]:
    """The content of ``numbers.json``."""
    paths = {"float": parent, "quantized": folder / "checkpoint.pt", "released": folder / "model.onnx"}
    photos = PhotoCache(1 << 30)
    evaluations = {kind: _evaluate(path, data, photos) for kind, path in paths.items()}
    released, model = evaluations["released"], paths["released"].read_bytes()
    if evaluations["float"].manifest.crop != released.manifest.crop:
        raise InputError(f"{parent}: takes other crops than {folder.name}; is it the float parent of this model?")
    twin = None if parent.parent == folder else parent.with_name("model.onnx")
    latency, float_bytes = _latency(paths["released"], parent, twin, rounds)
    quant = load_checkpoint(paths["quantized"]).config.quant
    sidecar = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    place = "/".join(data.resolve().parts[-3:])
    other = "" if twin is None else f" --float models/{parent.parent.name}/{parent.name}"
    return {
        "model": folder.name,
        "command": f"python tools/measure_models.py {folder.name}{other} --data {place}",
        "parent": parent.parent.name,
        "weights": quant.weights,
        "input_pixels": released.manifest.crop.size,
        "crop_padding": released.manifest.crop.padding,
        "weight_bits": released.manifest.weight_bits,
        "activation_bits": released.manifest.activation_bits,
        "accuracy": {
            "dataset": title,
            "objects": len(released.examples),
            "normalizer": released.normalizer,
            **{kind: _accuracy(evaluation) for kind, evaluation in evaluations.items()},
            "released_minus_float": _differences(released, evaluations["float"]),
            "released_minus_quantized": _differences(released, evaluations["quantized"]),
        },
        "latency": latency,
        "file": {"bytes": len(model), "sha256": hashlib.sha256(model).hexdigest(), "float_bytes": float_bytes},
        "parity": sidecar.get("parity"),
        "machine": describe_machine(),
        "versions": describe_versions("torch", "onnx"),
    }


def _evaluate(path: Path, data: Path, photos: PhotoCache) -> Evaluation:
    session = open_model(str(path))
    try:
        examples: list[Example] = read_300w(data, len(session.manifest.skeleton))
        return evaluate(session, examples, photos)
    finally:
        session.close()


def _accuracy(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "backend": evaluation.backend,
        **{measure.key: measure.estimate.to_dict() for measure in evaluation.measures()},
    }


def _differences(evaluation: Evaluation, reference: Evaluation) -> dict[str, Any]:
    return {measure.key: measure.estimate.to_dict() for measure in compare(evaluation, reference)}


def _latency(model: Path, parent: Path, twin: Path | None, rounds: int) -> tuple[dict[str, Any], int]:
    """Single-thread latency of the model against the float export of its parent and its 8-bit twin, if it has one.

    Returns:
        The table, and the bytes of the float export.
    """
    from cunet_deploy.export.bundle import export_checkpoint

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        exported = export_checkpoint(load_checkpoint(parent), Path(folder) / "float")
        files = {"float": exported.path / "model.onnx", "released": model} | ({} if twin is None else {"twin": twin})
        candidates = [Candidate(kind, partial(open_session, file, threads=1)) for kind, file in files.items()]
        timings = measure_latency(candidates, Scene.centred(drawn_picture()), rounds=rounds, calls=CALLS)
        size = files["float"].stat().st_size
    timed = dict(zip(files, timings, strict=True))
    table = {
        "threads": 1,
        "batch": 1,
        "rounds": rounds,
        "calls_per_round": CALLS,
        **{kind: timing.to_dict() for kind, timing in timed.items()},
    }
    for kind in (kind for kind in files if kind != "released"):
        for name, stage in (("network", "network"), ("total", None)):
            estimate = ratio(timed["released"], timed[kind], stage=stage)
            table[f"{name}_ratio_released_to_{kind}"] = estimate.to_dict()
    return table, size


def table_of(all_numbers: list[dict[str, Any]]) -> str:
    """The Markdown table of measured models, with what it was measured on below."""
    if not all_numbers:
        raise InputError(
            "no model has a numbers.json yet; measure one: python tools/measure_models.py NAME --float ..."
        )
    text = HEADER + "".join(_row(numbers) for numbers in all_numbers)
    notes = {_note(numbers): None for numbers in all_numbers}
    return text + "\n" + "\n".join(notes) + "\n"


def _row(numbers: dict[str, Any]) -> str:
    accuracy, latency = numbers["accuracy"], numbers["latency"]
    key = f"nme_{accuracy['normalizer']}"
    cells = [
        f"`{numbers['model']}`",
        WEIGHTS.get(numbers["weights"], f"{numbers['weights']} bit"),
        f"{numbers['file']['bytes'] / 1e6:.2f} MB",
        _percent(accuracy["float"][f"{key}_percent"]),
        _percent(accuracy["released"][f"{key}_percent"]),
        _cost(accuracy["released_minus_float"][f"{key}_relative_difference_percent"]),
        f"{latency['float']['network_p50_ms']:.2f} ms",
        f"{latency['released']['network_p50_ms']:.2f} ms",
        f"{latency['network_ratio_released_to_float']['value']:.2f}",
        f"{latency['network_ratio_released_to_twin']['value']:.2f}" if "twin" in latency else "-",
    ]
    return f"| {' | '.join(cells)} |\n"


def _percent(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f} % ({estimate['ci95_low']:.2f} to {estimate['ci95_high']:.2f})"


def _cost(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:+.1f} % ({estimate['ci95_low']:+.1f} to {estimate['ci95_high']:+.1f})"


def _note(numbers: dict[str, Any]) -> str:
    accuracy, machine = numbers["accuracy"], numbers["machine"]
    normalizer, sets = accuracy["normalizer"].replace("_", " "), ", ".join(machine.get("instruction_sets", []))
    return (
        f"Crops of {numbers['input_pixels']} px. NME by {normalizer} on {accuracy['objects']} faces of the "
        f"{accuracy['dataset']} with 95 % intervals; the cost is relative to float, paired. "
        "Times are medians of the network alone, of one thread with batch 1 of ONNX Runtime "
        f"{numbers['versions']['onnxruntime']} on "
        f"{machine['processor']}{f', {sets}' if sets else ''}; all were timed in turns. Written by "
        "`tools/measure_models.py`."
    )


def update_tables(models: Path, *, write: bool) -> list[Path]:
    """The documents whose table is not current: README.md with all models and the card of each with its own.

    With ``write`` they are brought up to date, and none is left.
    """
    measured = [file for file in models.glob("*/numbers.json") if "task" not in json.loads(file.read_text("utf-8"))]
    folders = sorted((file.parent for file in measured), key=_place)
    documents = {models.parent / "README.md": folders} | {folder / "README.md": [folder] for folder in folders}
    return [path for path, shown in documents.items() if not _update(path, shown, write=write)]


def _place(folder: Path) -> tuple[int, str, int]:
    """Where a model stands in the table: families by the size of their float parent, in each the largest file first."""
    numbers = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    return numbers["file"]["float_bytes"], numbers["parent"], -numbers["file"]["bytes"]


def _update(path: Path, folders: list[Path], *, write: bool) -> bool:
    """Bring the table between a document's markers up to date if ``write`` is set; say whether it is current now."""
    table = table_of([json.loads((folder / "numbers.json").read_text(encoding="utf-8")) for folder in folders])
    return replace_between(path, MARK, table, write=write)


if __name__ == "__main__":
    main()
