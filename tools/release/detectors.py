r"""Measure a released detector, and write the figures where they are quoted.

    python -m tools.release.detectors face-detect-s --test 300w/helen/testset --validation 300w/afw=0.1 \
        --frames clips/asl_eat.mkv --yunet face_detection_yunet.onnx
    python -m tools.release.detectors person-detect-s --objects people --test people/boxes_test \
        --frames clips/asl_eat.mkv

It writes ``models/NAME/numbers.json``: recall, precision and average precision of the float parent and of
the released ``model.onnx`` on photos that training did not see, and the latency per frame, in turns
with OpenCV's YuNet at two input sizes where its file is given, which takes frames of 640x480. ``--keep-times`` measures
the photos alone. ``python -m tools.docs write`` puts the figures into README.md and the cards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.examples import PhotoCache, split_by_photo
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.data.readers import split_name
from cunet_deploy.detection.network import NetworkDetector
from cunet_deploy.detection.yunet import YuNet
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import open_model
from cunet_deploy.evaluation.boxes import evaluate_boxes
from cunet_deploy.media import open_source
from cunet_deploy.metrics import Estimate, ratio_of_medians
from cunet_deploy.sessions import open_session
from tools.reports import errors_in_a_line, file_record, recorded_times, replace_between, signed, write_report

ROOT = Path(__file__).resolve().parents[2]
MARK = "detector"
YUNET_SIZE = (640, 480)
YUNET_SIDES = (320, 640)
LABELS = {
    "faces": "boxes that OpenCV's YuNet finds",
    "people": "labelled boxes and boxes on which two other detectors agree",
}
"""Names of what is found, and of what it is compared with."""


@click.command()
@click.argument("name")
@click.option("--test", "tests", multiple=True, type=click.Path(path_type=Path), help="Photos with boxes or landmarks.")
@click.option("--validation", multiple=True, metavar="DIR=SHARE", help="The validation split of a training folder.")
@click.option(
    "--bodies",
    multiple=True,
    type=click.Path(path_type=Path),
    help="People with joints, for a row of its own: against boxes made from these, to hair, hands and shoes.",
)
@click.option("--frames", type=click.Path(path_type=Path), help="A clip to time on.")
@click.option("--yunet", type=click.Path(path_type=Path), help="YuNet's ONNX file, timed in turns.")
@click.option("--objects", type=click.Choice(list(LABELS)), default="faces", show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=40, show_default=True)
@click.option("--keep-times", is_flag=True, help="Measure the photos alone; times of the same graph stay as they are.")
@errors_in_a_line
def main(
    name: str,
    tests: tuple[Path, ...],
    validation: tuple[str, ...],
    bodies: tuple[Path, ...],
    frames: Path | None,
    yunet: Path | None,
    objects: str,
    rounds: int,
    keep_times: bool,
) -> None:
    """Measure the released detector NAME."""
    if not (tests or validation):
        raise InputError("photos, by --test or --validation, are needed to measure a detector")
    photos, folder = _photos(tests, validation), ROOT / "models" / name
    if keep_times:
        latency = recorded_times(folder)
    elif frames is None:
        raise InputError("--frames, a clip to time on, is needed; or --keep-times")
    else:
        latency = {"latency": _latency(folder, frames, yunet, rounds)}
    further = {f"whole bodies of {name_of(folder)}": read_boxes(folder, bodies=True) for folder in bodies}
    numbers = {"objects": objects, **measure(folder, photos, latency, further)}
    write_report(ROOT / "models" / name / "numbers.json", numbers)
    click.echo(table_of(numbers), nl=False)


def _photos(tests: tuple[Path, ...], validation: tuple[str, ...]) -> dict[str, list[BoxedPhoto]]:
    photos = {name_of(folder): read_boxes(folder) for folder in tests}
    for item in validation:
        folder, _, share = item.rpartition("=")
        kept = split_by_photo(read_boxes(Path(folder)), float(share))[1]
        photos[f"{float(share):.0%} of {'/'.join(Path(folder).parts[-2:])}"] = kept
    return photos


def name_of(dataset: Path) -> str:
    """Name of a data set, wherever it lies."""
    return dataset.name if split_name(dataset)[1] else "/".join(dataset.parts[-2:])


def measure(
    folder: Path,
    photos: dict[str, list[BoxedPhoto]],
    times: dict[str, Any],
    further: dict[str, list[BoxedPhoto]],
) -> dict[str, Any]:
    """The content of ``numbers.json``.

    Args:
        folder: of the released detector.
        photos: what it is measured on, by name.
        times: ``latency``, and of `recorded_times` also the machine, the versions and the command that measured it.
        further: what the released detector is also measured on, each by itself.
    """
    cache, everything = PhotoCache(1 << 30), [photo for some in photos.values() for photo in some]
    accuracy: dict[str, Any] = {"dataset": " and ".join(photos)}
    for kind, file in (("float", folder / "float.pt"), ("released", folder / "model.onnx")):
        session = open_model(str(file))
        accuracy[kind] = evaluate_boxes(session, everything, cache).to_dict()
        if kind == "released":
            parts = photos | further
            accuracy["parts"] = {name: evaluate_boxes(session, some, cache).to_dict() for name, some in parts.items()}
        session.close()
    report = {
        "model": folder.name,
        "task": "boxes",
        "accuracy": accuracy,
        "latency": times["latency"],
        "parity": json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["parity"],
        "file": file_record(folder / "model.onnx"),
    }
    new = signed(report, "torch", "onnx")
    if "command" not in times:
        return new
    # the photos of this command need not be those of the one that measured the times
    measured_by = times.get("times_command", times["command"])
    return new | {"times_command": measured_by, "machine": times["machine"], "versions": times["versions"]}


def _latency(folder: Path, frames: Path, yunet: Path | None, rounds: int) -> dict[str, Any]:
    """Latency of a frame, from pixels to boxes, of ours and of YuNet, in turns on one thread."""
    cv2.setNumThreads(1)
    # of a long clip not more than these
    images = [np.ascontiguousarray(picture.image) for picture in islice(open_source(frames), 0, 32, 4)]
    height, width = images[0].shape[:2]
    if yunet is not None and (width, height) != YUNET_SIZE:
        raise InputError(f"{frames}: frames of {width}x{height}; YuNet is timed on {YUNET_SIZE[0]}x{YUNET_SIZE[1]}")
    session = open_session(folder / "model.onnx", threads=1)
    finder = NetworkDetector(session)
    detectors: dict[str, Callable[[NDArray[np.uint8]], Any]] = {folder.name: finder.find}
    if yunet is not None:
        detectors |= {f"YuNet at {side} px": partial(YuNet(yunet).look, side=side) for side in YUNET_SIDES}
    times: dict[str, list[list[float]]] = {name: [] for name in detectors}
    for turn in range(rounds + 1):
        for name, detect in detectors.items():
            taken = []
            for image in images:
                start = time.perf_counter()
                detect(image)
                taken.append((time.perf_counter() - start) * 1000)
            if turn:  # the first warms up
                times[name].append(taken)
    session.close()
    ours = np.array(times[folder.name])
    table: dict[str, Any] = {"threads": 1, "frame": [width, height], "rounds": rounds}
    for name, rows in times.items():
        values = np.array(rows)
        ratio = ratio_of_medians(np.stack([ours, values], axis=1))
        table[name] = {
            "look_p50_ms": round(float(np.median(values)), 3),
            "look_p95_ms": round(float(np.percentile(values, 95)), 3),
            "ratio_of_ours_to_it": ratio.to_dict(),
        }
    return table


def table_of(numbers: dict[str, Any]) -> str:
    """The Markdown tables of a card."""
    accuracy, latency = numbers["accuracy"], numbers["latency"]
    rows = {"float": accuracy["float"], "8 bit, released": accuracy["released"]}
    rows |= {f"8 bit, {name}": part for name, part in accuracy["parts"].items()}
    text = f"| | photos | {_objects(numbers)} | recall | precision | AP at 0.5 |\n" + "|---" * 6 + "|\n"
    for name, row in rows.items():
        cells = [name, str(row["photos"]), str(row["boxes"])]
        cells += [_percent(row.get(f"{key}_percent")) for key in ("recall", "precision", "ap")]
        text += f"| {' | '.join(cells)} |\n"
    width, height = latency["frame"]
    text += f"\n| detector | latency per {width}x{height} frame, p50 | p95 | ours / it |\n" + "|---" * 4 + "|\n"
    for name, row in latency.items():
        if isinstance(row, dict):
            ratio = Estimate.of(row["ratio_of_ours_to_it"]).text()
            text += f"| {name} | {row['look_p50_ms']:.2f} ms | {row['look_p95_ms']:.2f} ms "
            text += f"| {ratio} |\n"
    released, machine = accuracy["released"], numbers["machine"]
    notes = (
        f"On {accuracy['dataset']}: boxes with a label score of at least {released['least_label_score']:g}",
        f"and a side of at least {released['least_side_px']:g} px of the network's input; found at a score of",
        f"{released['min_score']:g}, right at an intersection over union of {released['overlap']:g}.",
        "Intervals are 95 % bootstrap intervals over photos. One thread of",
        f"{machine['processor']}, ONNX Runtime {numbers['versions']['onnxruntime']}, all timed in turns.",
        "Written by `tools/release/detectors.py`.",
    )
    return f"{text}\n{' '.join(notes)}\n"


def _percent(estimate: dict[str, float] | None) -> str:
    """A number with its interval; one of nothing, such as the precision where nothing was found, is not there."""
    return "-" if estimate is None else Estimate.of(estimate).text(1, unit="%")


def sentence_of(numbers: dict[str, Any]) -> str:
    """Write the sentence of README.md about a detector: the figures of the first data set, which is its test part."""
    name, objects = numbers["model"], _objects(numbers)
    released = next(iter(numbers["accuracy"]["parts"].values()))
    size, found, right = numbers["file"]["bytes"], released.get("recall_percent"), released.get("precision_percent")
    return (
        f"[`{name}`](models/{name}/README.md) ({size / 1e6:.2f} MB) detects {objects}: recall {_percent(found)}\n"
        f"and precision {_percent(right)} on {released['boxes']} {objects} in photos it was not trained on, against\n"
        f"{LABELS[objects]}.\n"
    )


def _objects(numbers: dict[str, Any]) -> str:
    return str(numbers.get("objects", "faces"))


def update_cards(models: Path, *, write: bool) -> list[Path]:
    """The documents that quote measured detectors and are not current; none is left with ``write``."""
    tables = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(models.glob("*/numbers.json"))]
    detectors = [numbers for numbers in tables if numbers.get("task") == "boxes"]
    wanted = {models / numbers["model"] / "README.md": table_of(numbers) for numbers in detectors}
    wanted[models.parent / "README.md"] = "\n".join(map(sentence_of, detectors))
    return [path for path, text in wanted.items() if not replace_between(path, MARK, text, write=write)]


if __name__ == "__main__":
    main()
