r"""Compare our models with what else is installed, on the same photo, threads and clock, and on the same test faces.

    python -m tools.peers faces face68-s face68-m --mediapipe mediapipe-0.10.14-....whl \
        --dlib shape_predictor_68_face_landmarks.dat --data 300w/helen/testset --json peers.json

Peers take turns in one process, a few calls each, round after round, so that ratios hold even where the clock or the
load of the machine changes meanwhile. Each is given the same photo and the same tight box and does what it needs: crop,
network, landmarks. What has trained weights is measured on the same faces by the same code; the rest is timed with
random weights. A peer that is not installed is named, with what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import CunetError
from cunet_deploy.skeletons import get_skeleton
from tools.peers.adapters import Dlib, MediaPipe, Ours, Peer, random_network
from tools.peers.frameworks import network_peers
from tools.peers.turns import STAGES, time_peers, timed_row, warn_of_threads
from tools.reports import errors_in_a_line, signed, write_report

PACKAGES = ("torch", "openvino", "nncf", "ai-edge-litert", "dlib-bin", "dlib", "face-alignment", "onnx")


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--mediapipe", type=click.Path(path_type=Path), help="face_landmark.tflite, or a mediapipe wheel with it."
)
@click.option("--dlib", "dlib_file", type=click.Path(path_type=Path), help="shape_predictor_68_face_landmarks.dat.")
@click.option("--network", type=click.Path(path_type=Path), help="Float checkpoint to run in other frameworks.")
@click.option("--calibration", type=click.Path(path_type=Path), help="Calibration photos of the quantizers of others.")
@click.option("--large/--no-large", default=False, help="Also time stacked hourglass and FAN, with random weights.")
@click.option("--compile/--no-compile", "compiled", default=False, help="Also time torch.compile; takes a minute.")
@click.option("--data", type=click.Path(path_type=Path), help="Test faces in the 300-W layout.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Turns that each peer has.")
@click.option("--calls", type=click.IntRange(1), default=10, show_default=True, help="Timed calls in a turn.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def main(
    models: tuple[str, ...],
    mediapipe: Path | None,
    dlib_file: Path | None,
    network: Path | None,
    calibration: Path | None,
    large: bool,
    compiled: bool,
    data: Path | None,
    threads: int,
    rounds: int,
    calls: int,
    json_path: Path | None,
) -> None:
    """Time MODELS and their peers in turns, and measure those that have weights on test faces."""
    cv2.setNumThreads(threads)
    warn_of_threads(threads)
    missing: list[str] = []
    peers: list[Peer] = [Ours.load(name, threads) for name in models]
    peers += _optional(missing, "MediaPipe", lambda: [MediaPipe.load(_given(mediapipe), threads)])
    peers += _optional(missing, "dlib", lambda: [Dlib.load(_given(dlib_file))])
    if network is not None:
        peers += network_peers(network, calibration, threads, compiled=compiled, missing=missing)
    if large:
        peers += _optional(missing, "stacked hourglass", lambda: _hourglass(threads))
        peers += _optional(missing, "FAN", lambda: _fan(threads))
    timings = time_peers(peers, rounds, calls)
    rows = [_row(peer, timings, index, data) for index, peer in enumerate(peers)]
    report = {
        "threads": threads,
        "batch": 1,
        "rounds": rounds,
        "calls_per_round": calls,
        "peers": rows,
        "missing": missing,
    }
    write_report(json_path, signed(report, *PACKAGES))
    click.echo(table(rows), nl=False)
    for line in missing:
        click.echo(f"left out: {line}", err=True)


def _given(path: Path | None) -> Path:
    if path is None:
        raise CunetError("no file was given")
    return path


def _optional(missing: list[str], name: str, load: Any) -> list[Peer]:
    """The peers that ``load`` makes, or none and a line in ``missing`` that says why."""
    try:
        return list(load())
    except (CunetError, ImportError) as error:
        missing.append(f"{name}: {error}")
        return []


def _hourglass(threads: int) -> Sequence[Peer]:
    from cunet_deploy.config import ModelConfig
    from cunet_deploy.model.networks import build_network

    found: list[Peer] = []
    for stacks in (2, 8):
        module = build_network(ModelConfig(kind="hourglass", num_unets=stacks, order=0, channels=256), 68)
        found += random_network(f"stacked hourglass, {stacks} stacks, 256 px", module, 256, threads)
    return found


def _fan(threads: int) -> Sequence[Peer]:
    from face_alignment.models import FAN

    return random_network("FAN, 4 stacks, 256 px", FAN(4), 256, threads)


def _row(peer: Peer, timings: NDArray[np.float64], index: int, data: Path | None) -> dict[str, Any]:
    accuracy = measure(peer, data) if data is not None and peer.trained else None
    return {**timed_row(peer, timings, index), "accuracy": accuracy}


def measure(peer: Peer, data: Path) -> dict[str, Any]:
    """Error by the outer eye corners on labelled faces: of all 68 landmarks, and of the 51 without the contour."""
    found, truth = find_landmarks(peer, data)
    errors = metrics.normalized_errors(found, truth, get_skeleton("ibug68"), "outer_eye")
    every, inner = (metrics.bootstrap_mean(metrics.object_errors(part)) for part in (errors, errors[:, 17:]))
    median = float(np.median(metrics.object_errors(errors)))  # a few lost faces make most of some means
    return {
        "dataset": "/".join(data.resolve().parts[-2:]),
        "objects": len(found),
        "nme_outer_eye_percent": every.scaled(100).to_dict(),
        "nme_inner_51_percent": inner.scaled(100).to_dict(),
        "nme_outer_eye_median_percent": round(100 * median, 5),
    }


def find_landmarks(peer: Peer, data: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 68, 2) landmarks that a peer finds in the boxes of labelled faces, and their labels, in pixels."""
    photos = PhotoCache(1 << 30)
    examples = read_300w(data, len(get_skeleton("ibug68")))
    found = [_locate(peer, photos[item.image], np.asarray(item.box, np.float64)) for item in examples]
    return np.stack(found), np.stack([item.points for item in examples])


def _locate(peer: Peer, image: NDArray[np.uint8], box: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(peer, MediaPipe):
        return peer.locate(image, box)
    prepared = peer.prepare(image, box)
    return np.asarray(peer.finish(prepared, peer.network(prepared)), np.float64)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table."""
    head = (
        "| model | file | crop | network | landmarks | total / first | NME, 68 | NME, inner 51 |\n" + "|---" * 8 + "|\n"
    )
    return head + "".join(f"| {' | '.join(_cells(row))} |\n" for row in rows)


def _cells(row: dict[str, Any]) -> Iterator[str]:
    yield row["name"]
    yield f"{row['file_bytes'] / 1e6:.2f} MB" if row["file_bytes"] else "-"
    for stage in STAGES:
        yield f"{row[f'{stage}_p50_ms']:.2f} ms"
    yield metrics.Estimate.of(row["total_ratio_to_first"]).text()
    for key in ("nme_outer_eye_percent", "nme_inner_51_percent"):
        yield metrics.Estimate.of(row["accuracy"][key]).text(unit="%") if row["accuracy"] else "-"
