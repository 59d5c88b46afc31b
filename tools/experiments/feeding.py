"""Speed and memory of the data pipeline of training: a network that takes no time, drawn photos, one command.

    python -m tools.experiments.feeding speed --workers 0 --workers 2 --json speed.json
    python -m tools.experiments.feeding memory --photos 20000 --cache 1GB --json memory.json
    python -m tools.experiments.feeding coco --people 150000 --json coco.json
    python -m tools.experiments.feeding activations models/face68-s/config.toml

No data is needed: photos and labels are drawn into a temporary folder.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import click
import cv2
import numpy as np

from cunet_deploy.cli._options import parse_bytes
from cunet_deploy.config import Config, load_config, parse_config
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.machine.allocator import keep_freed_memory
from cunet_deploy.model.device import CPU
from cunet_deploy.skeletons import get_skeleton
from cunet_deploy.train.batch_loader import BatchLoader
from cunet_deploy.train.failures import activation_bytes
from cunet_deploy.train.tasks import load_task
from tools.reports import errors_in_a_line, signed, write_report

__all__ = ["main"]

WIDTH, HEIGHT = 640, 480
_MB = 1_000_000


@click.group()
def main() -> None:
    """Measure what feeds training."""


@main.command()
@click.option("--photos", default=256, show_default=True, type=click.IntRange(16), help="Photos to draw.")
@click.option("--workers", "counts", multiple=True, default=(0, 1, 2), show_default=True, type=click.IntRange(0))
@click.option("--turns", default=5, show_default=True, type=click.IntRange(1), help="Epochs of each, in turns.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def speed(photos: int, counts: tuple[int, ...], turns: int, json_path: Path | None) -> None:
    """Crops a second that reach a network which takes no time, of face-detect-s (whole images of 320 px).

    With 0 workers a thread of this process draws.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_photos(root / "faces", photos)
        config = detector_config()
        loaders = {
            count: BatchLoader(
                load_task(config, root).sampler, batch_size=config.train.batch_size, seed=0, workers=count
            )
            for count in dict.fromkeys(counts)
        }
        rates: dict[int, list[float]] = {count: [] for count in loaders}
        try:
            for turn in range(turns + 1):
                for count, loader in loaders.items():
                    begun = time.perf_counter()
                    crops = sum(len(images) for images, _ in loader.epoch(turn, CPU))
                    if turn:  # in the first one workers start and photos are decoded
                        rates[count].append(crops / (time.perf_counter() - begun))
        finally:
            for loader in loaders.values():
                loader.close()
    medians = {count: statistics.median(values) for count, values in rates.items()}
    first = medians[next(iter(medians))]
    rows = [
        {"workers": count, "crops_per_second": round(rate, 1), "times_the_first": round(rate / first, 2)}
        for count, rate in medians.items()
    ]
    for row in rows:
        click.echo(f"{row['workers']} workers: {row['crops_per_second']} crops/s, {row['times_the_first']} times")
    write_report(json_path, signed({"photos": photos, "turns": turns, "rows": rows}, "torch"))


@main.command()
@click.option(
    "--photos", default=20_000, show_default=True, type=click.IntRange(16), help="Photos of 640 x 480 pixels."
)
@click.option("--cache", default="1GB", show_default=True, help="As train --cache.")
@click.option("--workers", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--batches", default=200, show_default=True, type=click.IntRange(1), help="To draw, when all are decoded."
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def memory(photos: int, cache: str, workers: int, batches: int, json_path: Path | None) -> None:
    """Memory of training over many photos, beside the cache; of all processes, shared pages counted once.

    Every photo is decoded once before training, which fills the cache; then batches are drawn.
    """
    limit = parse_bytes("--cache", cache)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_photos(root / "faces", photos, distinct=32)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            peak = process.submit(_memory_of_an_epoch, root, limit, workers, batches).result()
    beside = (peak - limit) / _MB
    click.echo(f"{photos} photos: {peak / _MB:.0f} MB, {beside:.0f} MB beside the cache of {limit / _MB:.0f} MB")
    table = {"photos": photos, "cache_bytes": limit, "workers": workers, "batches": batches, "peak_bytes": peak}
    write_report(json_path, signed(table, "torch"))


@main.command()
@click.option("--people", default=150_000, show_default=True, type=click.IntRange(1), help="People to write and read.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def coco(people: int, json_path: Path | None) -> None:
    """Time and memory of reading a COCO keypoint file with so many people."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_coco(root, people)
        size = (root / "annotations" / "person_keypoints_train.json").stat().st_size
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found, seconds, busy, peak = process.submit(_read, root).result()
    click.echo(
        f"{found} people of {size / _MB:.0f} MB in {seconds:.1f} s ({busy:.1f} s of the processor), "
        f"{peak / _MB:.0f} MB of memory"
    )
    table = {
        "people": found,
        "file_bytes": size,
        "seconds": round(seconds, 2),
        "processor_seconds": round(busy, 2),
        "peak_bytes": peak,
    }
    write_report(json_path, signed(table, "numpy"))


@main.command()
@click.argument("configs", nargs=-1, required=True, type=click.Path(path_type=Path))
@errors_in_a_line
def activations(configs: tuple[Path, ...]) -> None:
    """Count what a step keeps for the backward pass in each memory mode, by configuration; nothing is computed."""
    click.echo("| configuration | as it is | `memory_efficient` | `saved_bits = 8` | both |\n|---|---|---|---|---|")
    for path in configs:
        config = load_config(path)
        cells = [
            f"{activation_bytes(config, memory_efficient=efficient, saved_bits=bits) / 2**20:.0f} MiB"
            for efficient, bits in ((False, 32), (True, 32), (False, 8), (True, 8))
        ]
        size = f"{config.crop.size} px, batch {config.train.batch_size}"
        click.echo(f"| `{config.name}`, {size} | {' | '.join(cells)} |")


def detector_config() -> Config:
    """A configuration whose training images are costly: mosaics of 320 px, as of face-detect-s."""
    return parse_config(
        {
            "name": "feeding",
            "skeleton": "box",
            "data": {"train": ["faces"], "layout": "faces", "validation_fraction": 0.0},
            "model": {"num_unets": 1, "order": 0, "channels": 16, "growth": 8, "block": "post", "stem": "s2d"},
            "crop": {"size": 320},
            "boxes": {"mosaic": 0.5, "max_tiles": 4, "drawn_from": 18.0, "drawn_to": 240.0},
            "train": {"batch_size": 16},
        }
    )


def draw_photos(folder: Path, count: int, distinct: int | None = None) -> None:
    """Write ``count`` photos with a box each; those beyond ``distinct`` are links to earlier ones."""
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), {}
    for index in range(count):
        path = folder / f"photo{index:06d}.jpg"
        if distinct is not None and index >= distinct:
            os.link(folder / f"photo{index % distinct:06d}.jpg", path)
        else:
            coarse = rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
            cv2.imwrite(str(path), cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
        rows[path.name] = [[float(rng.integers(0, 400)), float(rng.integers(0, 300)), 120.0, 150.0, 1.0]]
    (folder / "faces.json").write_text(json.dumps(rows))


def write_coco(root: Path, people: int) -> None:
    """A COCO keypoint file of random people, two in each photo; the photos are not there."""
    skeleton, rng = get_skeleton("coco17"), np.random.default_rng(0)
    points = rng.uniform(0, 400, (people, 17, 2)).round(1)
    seen = rng.integers(0, 3, (people, 17, 1))
    seen[:, 0] = 2
    keypoints = np.concatenate([points, seen], axis=2).reshape(people, 51)
    table = {
        "images": [
            {"id": index, "file_name": f"{index:012d}.jpg", "width": WIDTH, "height": HEIGHT}
            for index in range((people + 1) // 2)
        ],
        "annotations": [
            {
                "id": index,
                "image_id": index // 2,
                "category_id": 1,
                "iscrowd": 0,
                "area": 8000.0,
                "bbox": [10.0, 20.0, 380.0, 400.0],
                "keypoints": row,
                "num_keypoints": 17,
            }
            for index, row in enumerate(keypoints.tolist())
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.landmarks)}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "person_keypoints_train.json").write_text(json.dumps(table))
    (root / "images").mkdir()


def _read(root: Path) -> tuple[int, float, float, int]:
    """Read the file in this process, which must be fresh: people, seconds, those of the processor, peak of memory."""
    begun, busy = time.perf_counter(), time.process_time()
    found = read_examples(root, get_skeleton("coco17"), "coco")
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    return len(found), seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _memory_of_an_epoch(root: Path, limit: int, workers: int, batches: int) -> int:
    """Decode all photos and draw batches of them in this process, which must be fresh; bytes of it and its workers."""
    keep_freed_memory()  # as train does
    config = detector_config()
    photos = PhotoCache(limit // (workers + 1))
    loader = BatchLoader(
        load_task(config, root, None, photos).sampler, batch_size=config.train.batch_size, seed=0, workers=workers
    )
    peak = 0
    try:
        with closing(loader.epoch(0, CPU)) as drawn:
            for index, _ in enumerate(itertools.islice(drawn, batches)):
                if index % 20 == 0:
                    processes = [process.pid or 0 for process in multiprocessing.active_children()]
                    peak = max(peak, sum(_proportional(pid) for pid in [*processes, os.getpid()]))
    finally:
        loader.close()
    return max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _proportional(pid: int) -> int:
    """Bytes of a process, pages that it shares counted by its part of them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


if __name__ == "__main__":
    main()
