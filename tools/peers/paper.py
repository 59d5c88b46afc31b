"""Compare int8 networks of the paper's size with those of other quantizers: the same network, threads and clock.

    python -m tools.peers paper --threads 1 --json paper.json

CU-Net 2/128 with 68 landmarks for 256 px, in `pre` and in `post` blocks, with random weights: the time of a network
hangs on its shapes and not on what it learned. Each is run in float and in int8, in ONNX Runtime and in OpenVINO, our
export against ONNX Runtime's ``quantize_static`` and against NNCF, both with their default options; all quantizers see
the same drawn faces. All take turns in one process, and no data is needed. A library that is not installed is named.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cunet_deploy.bench.latency import Candidate, Scene, Timing, drawn_picture, measure_latency, ratio
from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import QuantConfig, parse_config
from cunet_deploy.errors import CunetError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.metrics import Estimate
from cunet_deploy.model.cunet import BatchNorm, Head, initialize
from cunet_deploy.model.networks import build_network
from cunet_deploy.quantize.floats import calibrate
from cunet_deploy.sessions import open_session
from tools.peers.frameworks import OpenVINOGraph, quantize_with_nncf, quantize_with_onnxruntime, read_openvino
from tools.reports import errors_in_a_line, signed, write_report

BLOCKS = ("pre", "post")
LANDMARKS, CROPS = 68, 8
PACKAGES = ("torch", "onnx", "nncf")

FLOAT = "ONNX Runtime float"
STATIC = "ONNX Runtime quantize_static"
OURS = "ONNX Runtime, our int8"
OV_FLOAT = "OpenVINO f32"
NNCF = "OpenVINO, NNCF int8"
OV_OURS = "OpenVINO, our int8"
PAIRS = ((OURS, STATIC), (OV_OURS, NNCF), (OV_OURS, OV_FLOAT))
"""Pairs that are compared besides the ratio of each to `FLOAT`."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One network in one runtime.

    Attributes:
        block: "pre" or "post".
        way: the quantizer and the runtime, for example `FLOAT`.
        candidate: what is timed.
        bytes: size of its file; ``None`` where it has none.
    """

    block: str
    way: str
    candidate: Candidate
    bytes: int | None


@click.command()
@click.option("--blocks", type=click.Choice(BLOCKS), multiple=True, default=BLOCKS, show_default=True)
@click.option("--channels", type=click.IntRange(2), default=128, show_default=True, help="Width of the network.")
@click.option("--size", type=click.IntRange(64), default=256, show_default=True, help="Side of the crop in pixels.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="Turns that each network has.")
@click.option("--calls", type=click.IntRange(1), default=5, show_default=True, help="Timed calls in a turn.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def main(
    blocks: tuple[str, ...],
    channels: int,
    size: int,
    threads: int,
    rounds: int,
    calls: int,
    json_path: Path | None,
) -> None:
    """Time networks of the paper's size in int8 and float, ours and those of other quantizers, in turns."""
    cv2.setNumThreads(threads)
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        variants: list[Variant] = []
        for block in dict.fromkeys(blocks):
            click.echo(f"making the {block} network", err=True)
            variants += make_variants(Path(folder), random_checkpoint(block, channels, size), threads, missing)
        errors = map_errors(variants)
        timings = measure_latency(
            [variant.candidate for variant in variants],
            Scene.centred(drawn_picture()),
            rounds=rounds,
            calls=calls,
            keep_open=threads == 1,  # the pools of several threads spin and would take the processors
        )
    rows = make_rows(variants, timings, errors)
    pairs = make_pairs(variants, timings)
    report = {
        "network": {"num_unets": 2, "channels": channels, "input_pixels": size, "landmarks": LANDMARKS},
        "weights": "random",
        "threads": threads,
        "batch": 1,
        "rounds": rounds,
        "calls_per_round": calls,
        "networks": rows,
        "pairs": pairs,
        "missing": missing,
    }
    write_report(json_path, signed(report, *PACKAGES))
    click.echo(table(rows, pairs), nl=False)
    for line in missing:
        click.echo(f"left out: {line}", err=True)


def random_checkpoint(block: str, channels: int, size: int) -> Checkpoint:
    """A float CU-Net of two U-Nets, the same on every call, with the statistics of drawn faces in its normalizations.

    Args:
        block: "pre" or "post".
        channels: C; the growth is C / 4, as in the paper.
        size: side of the crop in pixels.
    """
    model_table = {"block": block, "num_unets": 2, "channels": channels, "growth": max(1, channels // 4)}
    config = parse_config(
        {
            "name": f"random-{block}",
            "skeleton": "ibug68",
            "data": {"train": ["none"]},
            "crop": {"size": size},
            "model": model_table,
        }
    )
    torch.manual_seed(0)
    model = build_network(config.model, LANDMARKS)
    initialize(model, torch.Generator().manual_seed(1))
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.momentum = None  # the plain mean over the batches that it sees
    images = normalize(drawn_crops(make_manifest(Checkpoint.of_float(config, model)), CROPS))
    with torch.no_grad():
        model.train()(images[::2])
    for head in (module for module in model.modules() if isinstance(module, Head)):
        nn.init.normal_(head.conv.weight, std=0.1)  # they start near zero: too small for heatmaps with peaks
    return Checkpoint.of_float(config, model)


def make_variants(folder: Path, checkpoint: Checkpoint, threads: int, missing: list[str]) -> list[Variant]:
    """A float checkpoint in every way, files in ``folder``; ``missing`` collects what is left out and why."""
    block, manifest = checkpoint.config.model.block, make_manifest(checkpoint)
    crops = drawn_crops(manifest, CROPS)
    files = {way: folder / f"{block}-{index}.onnx" for index, way in enumerate((FLOAT, STATIC, OURS))}
    ranges = calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)])
    files[FLOAT].write_bytes(write_model(checkpoint))
    files[OURS].write_bytes(write_model(checkpoint.with_ranges(ranges, QuantConfig())))
    quantize_with_onnxruntime(files[FLOAT], files[STATIC], crops)

    def variant(way: str, opened: Any, file: Path | None) -> Variant:
        size = None if file is None else file.stat().st_size
        return Variant(block, way, Candidate(f"{block}: {way}", opened), size)

    found = [variant(way, partial(open_session, file, threads=threads), file) for way, file in files.items()]
    try:
        graph = read_openvino(files[FLOAT])
        ours = partial(open_session, files[OURS], threads=threads, backend="openvino")
        found.append(variant(OV_FLOAT, partial(OpenVINOGraph, manifest, graph, threads), files[FLOAT]))
        found.append(variant(OV_OURS, ours, files[OURS]))
        quantized = quantize_with_nncf(graph, crops)
        found.append(variant(NNCF, partial(OpenVINOGraph, manifest, quantized, threads), None))
    except CunetError as error:
        missing.append(f"{block}: {error}")
    return found


def map_errors(variants: Sequence[Variant]) -> list[float]:
    """Distance of each network's heatmaps from `FLOAT`'s, relative to these (root mean squares): all compute alike."""
    expected: dict[str, NDArray[np.float32]] = {}
    errors = []
    for variant in variants:
        session = variant.candidate.open()
        maps = session.run(drawn_crops(session.manifest, CROPS + 1)[-1:])
        session.close()
        reference = expected.setdefault(variant.block, maps)
        errors.append(float(np.sqrt(np.mean((maps - reference) ** 2) / np.mean(reference**2))))
    return errors


def make_rows(variants: Sequence[Variant], timings: Sequence[Timing], errors: Sequence[float]) -> list[dict[str, Any]]:
    """Make the row of each network in the report."""
    references = {variant.block: timing for variant, timing in _both(variants, timings) if variant.way == FLOAT}
    return [
        {
            "block": variant.block,
            "way": variant.way,
            "backend": timing.backend,
            "file_bytes": variant.bytes,
            "load_ms": round(timing.load_ms, 1),
            "network_p50_ms": round(timing.medians_ms()["network"], 3),
            "network_ratio_to_onnxruntime_float": ratio(timing, references[variant.block], stage="network").to_dict(),
            "crop_and_landmarks_per_network": round(beside_network(timing), 4),
            "relative_heatmap_error": round(error, 5),
        }
        for (variant, timing), error in zip(_both(variants, timings), errors, strict=True)
    ]


def beside_network(timing: Timing) -> float:
    """Median time of the crop and of finding landmarks in heatmaps, as a multiple of the network's."""
    return float(np.median(timing.total_ms - timing.stage_ms("network")) / np.median(timing.stage_ms("network")))


def make_pairs(variants: Sequence[Variant], timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """Network ratios of `PAIRS`, where both were timed."""
    timed = {(variant.block, variant.way): timing for variant, timing in _both(variants, timings)}
    return [
        {
            "block": block,
            "way": way,
            "reference": reference,
            "network_ratio": ratio(timed[block, way], timed[block, reference], stage="network").to_dict(),
        }
        for block in BLOCKS
        for way, reference in PAIRS
        if (block, way) in timed and (block, reference) in timed
    ]


def _both(variants: Sequence[Variant], timings: Sequence[Timing]) -> Iterator[tuple[Variant, Timing]]:
    return zip(variants, timings, strict=True)


def table(rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> str:
    """Two Markdown tables: every network against ONNX Runtime's float, and ours against others."""
    text = "| blocks | network | file | time | / ONNX Runtime float | crop and landmarks / network | maps off by |\n"
    text += "|---" * 7 + "|\n"
    for row in rows:
        size = "-" if row["file_bytes"] is None else f"{row['file_bytes'] / 1e6:.2f} MB"
        quotient = Estimate.of(row["network_ratio_to_onnxruntime_float"]).text(3)
        text += f"| {row['block']} | {row['way']} | {size} | {row['network_p50_ms']:.2f} ms | {quotient} "
        text += f"| {row['crop_and_landmarks_per_network']:.1%} | {row['relative_heatmap_error']:.1%} |\n"
    text += "\n| blocks | network | against | ratio |\n" + "|---" * 4 + "|\n"
    for pair in pairs:
        quotient = Estimate.of(pair["network_ratio"]).text(3)
        text += f"| {pair['block']} | {pair['way']} | {pair['reference']} | {quotient} |\n"
    return text
