"""Measure released models.

    python -m tools.release.models face68-s --data 300w/helen/testset
    python -m tools.release.models pose14-s --data lspet#test --data lspet#test:clean --title "LSPET test part"

It writes ``models/NAME/numbers.json``: accuracy of the float parent, of the released quantized checkpoint
and of the released ``model.onnx`` on the same objects, what quantizing cost (paired), latency of ``model.onnx`` against
the float export in one interleaved run, file sizes, parity, machine and versions; of bodies also with test-time
augmentation, and further parts of the data set. A model of fewer bits is a twin of the 8-bit one that its float parent
lies with (``--float models/face68-s/float.pt``), and is timed against that, too. ``--keep-times`` measures accuracy
alone, which a busy machine does as well as an idle one. ``python -m tools.docs write`` puts the figures into README.md
and the models' cards.
"""

from __future__ import annotations

import json
import tempfile
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import click
import cv2

from cunet_deploy.bench.latency import Candidate, Scene, drawn_picture, measure_latency, ratio
from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples, split_name
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import ONCE, TTA, Evaluation, compare, evaluate, open_model
from cunet_deploy.machine.describe import describe_machine, describe_versions
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.registry import packages
from tools.docs.models import table_of
from tools.reports import errors_in_a_line, file_record, recorded_times, write_report

ROOT = Path(__file__).resolve().parents[2]
TITLE = "HELEN subset"
CALLS = 10
AUGMENTED = {"flip_test": TTA(flip=True), "flip_test_scales": TTA(flip=True, scales=(0.9, 1.1))}
"""Test-time augmentation with which bodies are also measured, by the name in ``numbers.json``."""


@click.command()
@click.argument("name")
@click.option(
    "--float",
    "parent",
    type=click.Path(path_type=Path),
    help="Float checkpoint that the model came from.  [default: models/NAME/float.pt]",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Test photos; further ones are parts of the first.",
)
@click.option("--title", default=TITLE, show_default=True, help="Name of the data set.")
@click.option(
    "--rounds", type=click.IntRange(1), default=60, show_default=True, help="Rounds of the latency measurement."
)
@click.option("--keep-times", is_flag=True, help="Measure accuracy alone; times of the same graph stay as they are.")
@click.option("--models", type=click.Path(path_type=Path), default=ROOT / "models", help="Folder of released models.")
@errors_in_a_line
def main(
    name: str,
    parent: Path | None,
    data: tuple[Path, ...],
    title: str,
    rounds: int,
    keep_times: bool,
    models: Path,
) -> None:
    """Measure the released model NAME."""
    times = recorded_times(models / name) if keep_times else None
    numbers = measure_model(models / name, parent or models / name / "float.pt", data, title, rounds, times)
    write_report(models / name / "numbers.json", numbers)
    click.echo(table_of([numbers]), nl=False)


def measure_model(
    folder: Path,
    parent: Path,
    data: tuple[Path, ...],
    title: str,
    rounds: int,
    times: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of ``numbers.json``, with `recorded_times` in place of new ones where they are given."""
    paths = {"float": parent, "quantized": folder / "checkpoint.pt", "released": folder / "model.onnx"}
    photos = PhotoCache(1 << 30)
    evaluations = {kind: _evaluate(path, data[0], photos) for kind, path in paths.items()}
    released = evaluations["released"]
    if evaluations["float"].manifest.crop != released.manifest.crop:
        raise InputError(f"{parent}: takes other crops than {folder.name}; is it the float parent of this model?")
    twin = None if parent.parent == folder else parent.with_name("model.onnx")
    if times is None:
        latency, float_bytes = _latency(paths["released"], parent, twin, rounds)
        times = {
            "latency": latency,
            "machine": describe_machine(),
            "versions": describe_versions(*packages(), "torch", "onnx"),
        }
    else:
        float_bytes = times["file"]["float_bytes"]
    quant = load_checkpoint(paths["quantized"]).config.quant
    sidecar = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return {
        "model": folder.name,
        "command": _command(folder.name, parent, data, title, twinned=twin is not None),
        "parent": parent.parent.name,
        "landmarks": released.manifest.skeleton.name,
        "weights": quant.weights,
        "input_pixels": released.manifest.crop.size,
        "crop_padding": released.manifest.crop.padding,
        "weight_bits": released.manifest.weight_bits,
        "activation_bits": released.manifest.activation_bits,
        "accuracy": {
            "dataset": title,
            "metric": _metric(released),
            "normalizer": released.normalizer,
            **_of_part(paths, data[0], photos, evaluations),
            **{kind: _accuracy(evaluation) for kind, evaluation in evaluations.items()},
            "released_minus_quantized": _differences(released, evaluations["quantized"]),
            **_parts(paths, data[1:], photos),
        },
        "latency": times["latency"],
        "file": {**file_record(paths["released"]), "float_bytes": float_bytes},
        "parity": sidecar.get("parity"),
        "machine": times["machine"],
        "versions": times["versions"],
    }


def _command(name: str, parent: Path, data: tuple[Path, ...], title: str, *, twinned: bool) -> str:
    """The command, without folders of one machine."""
    words = [name, *(["--float", f"models/{parent.parent.name}/{parent.name}"] if twinned else [])]
    for path in data:
        words += ["--data", _shown(path)]
    words += [] if title == TITLE else ["--title", json.dumps(title)]
    return "python -m tools.release.models " + " ".join(words)


def _shown(path: Path) -> str:
    """The end of a path that names the data; a part of a data set is a part of its folder's name."""
    folder, parts = split_name(path)
    name = "#" + ":".join(parts) if parts else ""
    return "/".join(folder.resolve().parts[-1 if parts else -3 :]) + name


def _metric(evaluation: Evaluation) -> str:
    """The key of the number that stands for a model, without its unit."""
    return f"nme_{evaluation.normalizer}" if evaluation.pck_threshold is None else evaluation.pck_threshold.key


def _evaluate(path: Path, data: Path, photos: PhotoCache, tta: TTA = ONCE) -> Evaluation:
    session = open_model(str(path))
    try:
        return evaluate(session, read_examples(data, session.manifest.skeleton), photos, tta=tta)
    finally:
        session.close()


def _of_part(
    paths: dict[str, Path], data: Path, photos: PhotoCache, evaluations: dict[str, Evaluation]
) -> dict[str, Any]:
    """Part of the released model's report on a data set: objects, cost of quantization, and of bodies augmentation."""
    released = evaluations["released"]
    table: dict[str, Any] = {
        "objects": len(released.examples),
        "released_minus_float": _differences(released, evaluations["float"]),
    }
    if released.pck_threshold is not None:
        for name, tta in AUGMENTED.items():
            table[f"released_{name}"] = _accuracy(_evaluate(paths["released"], data, photos, tta))
        table["landmarks_percent"] = {
            name: round(value, 2) for name, value in released.landmarks_percent().items() if isfinite(value)
        }  # of those that the data set has
    return table


def _parts(paths: dict[str, Path], data: tuple[Path, ...], photos: PhotoCache) -> dict[str, Any]:
    """The same on further data sets, by name."""
    parts: dict[str, Any] = {}
    for path in data:
        found = {kind: _evaluate(paths[kind], path, photos) for kind in ("float", "released")}
        own = {kind: _accuracy(evaluation) for kind, evaluation in found.items()}
        parts[_shown(path)] = {**_of_part(paths, path, photos, found), **own}
    return {"parts": parts} if parts else {}


def _accuracy(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "backend": evaluation.backend,
        **({"scales": [1.0, *evaluation.tta.scales]} if evaluation.tta.scales else {}),
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


if __name__ == "__main__":
    main()
