r"""Compare our body models with MediaPipe's, on the same crop, threads and clock, and on the same people.

    python -m tools.peers bodies pose14-s --mediapipe mediapipe-0.10.14-....whl \
        --data lspet#test --data lspet#test:clean --json docs/speed/pose.json

All take turns in one process, as in faces.py. MediaPipe Pose (full) learned people who stand upright in its crop,
and in use its detector turns the picture so. So it is measured in three crops: one like ours, which is not turned; one
that is turned and placed by what it found in the first; and one turned and placed by the labels, as a detector without
errors would. Its time is that of one evaluation of the first crop; the others count as accuracy only. It has no neck
and no head top: what is compared are the twelve joints that both have. How many people it sees is by its own score,
from 0.5 on, in the crop whose landmarks count.

Where the people are from the data set whose other photos ours were trained on, ours have an advantage: they know how it
labels. MediaPipe's learned photos that its authors annotated (Bazarevsky et al., BlazePose, 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import LSP14
from tools.peers.adapters import Ours, Peer
from tools.peers.mediapipe_pose import GROWN, JOINTS, PADDING, MediaPipePose, next_crop, upright
from tools.peers.turns import STAGES, time_peers, timed_row, warn_of_threads
from tools.reports import errors_in_a_line, signed, write_report

__all__ = ["main", "table"]

PACKAGES = ("ai-edge-litert",)
CROPS = {"pck_12": "", "pck_12_own": ", turned by its own landmarks", "pck_12_turned": ", turned by the labels"}
"""Share of the twelve joints by the crop that they are found in, as the report has it and as the table calls it."""

Points = NDArray[np.float64]


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--mediapipe", required=True, type=click.Path(path_type=Path), help="A mediapipe wheel, or a .tflite file."
)
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="People with labelled joints.")
@click.option("--padding", type=float, default=PADDING, show_default=True, help="Padding of MediaPipe's first crop.")
@click.option("--grown", type=float, default=GROWN, show_default=True, help="Padding of its crop by the labels.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Turns that each has.")
@click.option("--calls", type=click.IntRange(1), default=5, show_default=True, help="Timed calls in a turn.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def main(
    models: tuple[str, ...],
    mediapipe: Path,
    data: tuple[Path, ...],
    padding: float,
    grown: float,
    threads: int,
    rounds: int,
    calls: int,
    json_path: Path | None,
) -> None:
    """Time body MODELS and MediaPipe's in turns, and measure them on the same people."""
    cv2.setNumThreads(threads)
    warn_of_threads(threads)
    other = MediaPipePose.load(mediapipe, threads, padding)
    ours = [_body(name, threads) for name in models]
    people = {dataset.name: read_examples(dataset, LSP14) for dataset in data}
    peers: list[Peer] = [*ours, other]
    timings = time_peers(peers, rounds, calls)
    rows = [timed_row(peer, timings, index) for index, peer in enumerate(peers)]
    photos = PhotoCache(1 << 30)
    for name, examples in people.items():
        measured = [*(_of_ours(peer, examples, photos) for peer in ours), _of_other(other, examples, photos, grown)]
        for row, accuracy in zip(rows, measured, strict=True):
            row.setdefault("accuracy", {})[name] = accuracy
    report = {"threads": threads, "batch": 1, "rounds": rounds, "calls_per_round": calls, "peers": rows}
    write_report(json_path, signed({"padding_of_mediapipe": padding, "grown_of_mediapipe": grown, **report}, *PACKAGES))
    click.echo(table(rows), nl=False)


def _body(name: str, threads: int) -> Ours:
    body = Ours.load(name, threads)
    skeleton = body.session.manifest.skeleton
    if skeleton.landmarks != LSP14.landmarks:
        raise InputError(f"{name}: finds the landmarks of {skeleton.name}; expected a body model of {LSP14.name}")
    return body


def _of_ours(peer: Ours, examples: Sequence[Example], photos: PhotoCache) -> dict[str, Any]:
    """Accuracy of one of our models on a data set: of all joints, and of those that MediaPipe has."""
    boxes = [np.asarray(example.box, np.float64)[None] for example in examples]
    found = np.stack([peer.points(photos[e.image], box)[0] for e, box in zip(examples, boxes, strict=True)])
    errors = _errors(found, examples)
    return {"people": len(examples), "pck_14": _share(errors), "pck_12": _share(errors[:, : len(JOINTS)])}


def _of_other(other: MediaPipePose, examples: Sequence[Example], photos: PhotoCache, grown: float) -> dict[str, Any]:
    """Accuracy of MediaPipe's: for each of its crops, over everybody and over those that it says it sees."""
    found = {kind: np.full((len(examples), len(LSP14), 2), np.inf) for kind in CROPS}
    seen = {kind: np.zeros(len(examples), np.bool_) for kind in CROPS}
    for row, example in enumerate(examples):
        image, plain = photos[example.image], other.plain(np.asarray(example.box, np.float64))
        first = other.locate(image, plain)
        own, labels = next_crop(first[0]), upright(example.points, grown)
        looks = (first, *(first if crop is None else other.locate(image, crop) for crop in (own, labels)))
        for kind, (points, score) in zip(CROPS, looks, strict=True):
            found[kind][row, : len(JOINTS)], seen[kind][row] = points[list(JOINTS)], score > 0.5
    table: dict[str, Any] = {"people": len(examples)}
    for kind in CROPS:
        errors = _errors(found[kind], examples)[:, : len(JOINTS)]
        table |= {kind: _share(errors), f"{kind}_seen_percent": round(100 * float(seen[kind].mean()), 2)}
        if np.isfinite(errors[seen[kind]]).any():
            table[f"{kind}_of_seen"] = _share(errors[seen[kind]])
    return table


def _errors(found: Points, examples: Sequence[Example]) -> Points:
    truth = np.stack([example.points for example in examples])
    return np.asarray(metrics.normalized_errors(found, truth, LSP14, "torso"), np.float64)


def _share(errors: Points) -> dict[str, float]:
    return metrics.share(metrics.correct_joints(errors, 0.2)).scaled(100).to_dict()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table: a line a peer and crop."""
    sets = list(rows[0].get("accuracy", {}))
    people = [rows[0]["accuracy"][name]["people"] for name in sets]
    columns = [f"PCK@0.2 of 12 joints, {count} people of {name}" for name, count in zip(sets, people, strict=True)]
    head = ["model", "file", "crop", "network", "landmarks", "network / first", "total / first", *columns]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        kinds = [kind for kind in CROPS if sets and kind in row["accuracy"][sets[0]]] or ["pck_12"]
        lines += [f"| {' | '.join(_cells(row, kind, sets))} |" for kind in kinds]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any], kind: str, sets: Sequence[str]) -> list[str]:
    cells = [row["name"] + CROPS[kind], f"{row['file_bytes'] / 1e6:.2f} MB"]
    if CROPS[kind]:  # timed in the first crop only
        cells += ["-"] * 5
    else:
        cells += [f"{row[f'{stage}_p50_ms']:.2f} ms" for stage in STAGES]
        ratios = (row[f"{part}_ratio_to_first"] for part in ("network", "total"))
        cells += [metrics.Estimate.of(each).text() for each in ratios]
    for name in sets:
        accuracy = row["accuracy"][name]
        text = _percent(accuracy[kind])
        if "pck_14" in accuracy:
            text += f"; of all 14 {_percent(accuracy['pck_14'])}"
        if f"{kind}_of_seen" in accuracy:
            seen = accuracy[f"{kind}_seen_percent"]
            text += f"; {accuracy[f'{kind}_of_seen']['value']:.1f} % of the {seen:.0f} % it sees"
        cells.append(text)
    return cells


def _percent(value: dict[str, float]) -> str:
    return metrics.Estimate.of(value).text(1, unit="%")
