r"""Measure what `cunet-deploy infer` makes of a machine: throughput, memory over long videos, and start-up.

    python -m tools.release.pipeline ../shared/media/asl_*.mkv --json pipeline.json

Three questions. How near does reading, localizing and writing at once come to what the slowest of the three does alone?
Does memory grow with the length of a video? How long does a single picture take, from the start of the process to its
end? Everything runs several times in turns, and medians are compared. Videos are not annotated unless asked for.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import click
import cv2

from cunet_deploy import Localizer
from cunet_deploy.bench.frames import FRAME_STAGES, Frames
from cunet_deploy.bench.memory import resident_bytes
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.machine.cpu import available_cpus
from cunet_deploy.media import Frame, OutputPlan, Outputs, Picture, VideoFile, WriteBehind, open_source
from cunet_deploy.sessions import open_session
from cunet_deploy.zoo import DEFAULT_MODEL
from tools.reports import errors_in_a_line, signed, write_report

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("read", "localize", "write")
STEPS = (*STAGES, "open", "all")
LEAST_SHARE, MOST_STEP_DIFFERENCE, MOST_GROWTH, MOST_START_SECONDS = 0.90, 0.10, 0.05, 0.6


@click.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Released model or file.")
@click.option(
    "--threads", type=click.IntRange(1), help="CPU threads of the network, as in infer.  [default: half, at most 4]"
)
@click.option("--draw", is_flag=True, help="Also draw into the frames and encode a video, as infer does by default.")
@click.option("--frames", type=click.IntRange(1), help="Maximum number of frames of each clip.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns that each stage has.")
@click.option("--short", type=click.IntRange(1), default=100, show_default=True, help="Frames of the short video.")
@click.option("--long", type=click.IntRange(1), default=10_000, show_default=True, help="Frames of the long video.")
@click.option("--photo", type=click.Path(path_type=Path), default=ROOT / "tests" / "data" / "astronaut.jpg")
@click.option("--runs", type=click.IntRange(1), default=10, show_default=True, help="Starts of the program.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--loop", type=click.IntRange(1), hidden=True, help="Only localize that many frames; print peak memory.")
@errors_in_a_line
def main(
    clips: tuple[Path, ...],
    model: str,
    threads: int | None,
    draw: bool,
    frames: int | None,
    rounds: int,
    short: int,
    long: int,
    photo: Path,
    runs: int,
    json_path: Path | None,
    loop: int | None,
) -> None:
    """Measure infer on CLIPS."""
    threads = threads or min(max(available_cpus() // 2, 1), 4)  # as infer chooses them
    cv2.setNumThreads(threads)
    if loop is not None:
        run_loop(_video(clips[0]), model, threads, loop, draw=draw)
        resident = resident_bytes()
        if resident is None:
            raise CunetError(f"{sys.platform} does not tell how much memory a process takes")
        click.echo(resident[1])
        return
    report = {
        "model": model,
        "threads": threads,
        "drawn": draw,
        "throughput": measure_throughput([_video(clip) for clip in clips], model, threads, frames, rounds, draw),
        "step": measure_step(_video(clips[0]), model, threads, rounds),
        "memory": measure_memory(clips[0], model, threads, (short, long), draw=draw),
        "start": measure_start(photo, model, runs),
    }
    write_report(json_path, signed(report))
    click.echo(table(report), nl=False)


def measure_throughput(
    clips: list[VideoFile], model: str, threads: int, limit: int | None, rounds: int, draw: bool
) -> dict[str, Any]:
    """Seconds of each stage alone, of opening, and of all at once, over all clips: medians over rounds.

    Frames of one clip are held in memory, so that localizing and writing can be timed without reading. Nothing can be
    localized while a clip is opened and its first frame read, which counts in short clips: the share of the slowest
    stage is given with it and without.
    """
    wall = {name: [0.0] * rounds for name in STEPS}
    busy = {name: [0.0] * rounds for name in STEPS}
    total = 0
    with Localizer(model, threads=threads) as localizer, tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            steps, number = _steps(clip, localizer, limit, Path(folder), draw)
            total += number
            for turn in range(rounds):
                for name in STEPS:
                    start, cpu = time.perf_counter(), time.process_time()
                    steps[name]()
                    wall[name][turn] += time.perf_counter() - start
                    busy[name][turn] += time.process_time() - cpu
    seconds = {name: median(values) for name, values in wall.items()}
    turns = [{name: wall[name][turn] for name in STEPS} for turn in range(rounds)]
    return {
        "clips": [clip.path.name for clip in clips],
        "frames": total,
        "rounds": rounds,
        **{f"{name}_ms_per_frame": seconds[name] / total * 1000 for name in (*STAGES, "all")},
        **{f"{name}_cpu_ms_per_frame": median(busy[name]) / total * 1000 for name in (*STAGES, "all")},
        "open_ms_per_clip": seconds["open"] / len(clips) * 1000,
        "slowest": max(STAGES, key=lambda name: seconds[name]),
        "frames_per_second": total / seconds["all"],
        "share_of_slowest_stage": median(max(turn[name] for name in STAGES) / turn["all"] for turn in turns),
        "share_without_opening": median(
            max(turn["read"] - turn["open"], turn["localize"], turn["write"]) / (turn["all"] - turn["open"])
            for turn in turns
        ),
    }


def _steps(
    clip: VideoFile, localizer: Localizer, limit: int | None, folder: Path, draw: bool
) -> tuple[dict[str, Callable[[], object]], int]:
    """Timed steps of a clip, by name, and its number of frames."""
    pictures = list(islice(clip, limit))
    found = [
        replace(frame, image=frame.image.copy()) for frame in localizer.stream(pictures, follow=True)
    ]  # drawn into
    return {
        "read": lambda: sum(1 for _ in islice(clip, limit)),
        "localize": lambda: sum(1 for _ in localizer.stream(pictures, follow=True)),
        "write": lambda: write(found, localizer, clip.fps, folder, draw, depth=0),
        "open": lambda: next(iter(clip)),
        "all": lambda: run(islice(clip, limit), localizer, clip.fps, folder, draw=draw),
    }, len(pictures)


def run(pictures: Iterable[Picture], localizer: Localizer, fps: float, folder: Path, *, draw: bool) -> None:
    """Read, localize and write at once, in the threads that infer has."""
    with closing(localizer.stream(pictures, follow=True)) as frames:
        write(frames, localizer, fps, folder, draw)


def write(
    frames: Iterable[Frame], localizer: Localizer, fps: float, folder: Path, draw: bool, depth: int | None = None
) -> None:
    """Write what infer writes for a video, in a thread for which ``depth`` frames may wait; ``None``: as infer does."""
    plan = OutputPlan({"jsonl": folder / "out.jsonl", "csv": folder / "out.csv"}, folder / "out.mp4" if draw else None)
    outputs = Outputs(plan, localizer.manifest.skeleton, fps, named=False, overwrite=True)
    with outputs, WriteBehind(outputs.write, plan.depth if depth is None else depth) as writer:
        for frame in frames:
            writer.put(frame)


def measure_step(clip: VideoFile, model: str, threads: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a frame's step, from the image to steady landmarks, in ``infer`` and in ``bench --input``.

    The two take turns with the same network, a pass over the clip each.
    """
    count = sum(1 for _ in clip)
    stages = [index for index, name in enumerate(FRAME_STAGES) if name not in ("read", "draw")]
    infer, bench = [], []
    session = open_session(model, threads=threads)
    with Localizer(session) as localizer, closing(Frames(clip).begin(time.perf_counter)) as runner:
        for _ in range(rounds):
            infer.append(sum(frame.seconds for frame in localizer.stream(clip)) * 1000 / count)
            calls = [runner.call(session).seconds for _ in range(count)]
            bench.append(sum(call[stage] for call in calls for stage in stages) * 1000 / count)
    return {
        "clip": clip.path.name,
        "frames": count,
        "rounds": rounds,
        "infer_ms_per_frame": median(infer),
        "bench_ms_per_frame": median(bench),
        "bench_by_infer": median(mine / theirs for mine, theirs in zip(bench, infer, strict=True)),
    }


def measure_memory(clip: Path, model: str, threads: int, lengths: tuple[int, int], *, draw: bool) -> dict[str, Any]:
    """Peak memory of localizing a short and a long video, in a fresh process each."""
    peaks = []
    for length in lengths:
        command = [sys.executable, "-m", "tools.release.pipeline", str(clip), "--model", model]
        command += ["--threads", str(threads), "--loop", str(length), *(["--draw"] if draw else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CunetError(f"measuring memory failed: {done.stderr.strip()[-300:]}")
        peaks.append(int(done.stdout))
    return {
        "clip": clip.name,
        "frames": list(lengths),
        "peak_bytes": peaks,
        "growth": peaks[1] / peaks[0] - 1,
    }


def run_loop(clip: VideoFile, model: str, threads: int, length: int, *, draw: bool) -> None:
    """Localize and write ``length`` frames of a clip that begins anew whenever it ends."""
    with Localizer(model, threads=threads) as localizer, tempfile.TemporaryDirectory() as folder:
        run(islice(_again(clip), length), localizer, clip.fps, Path(folder), draw=draw)


def _again(clip: VideoFile) -> Iterator[Picture]:
    """The frames of a clip over and over, numbered and timed as one video."""
    numbers = count()
    while True:
        for picture in clip:
            index = next(numbers)
            yield replace(picture, index=index, time_ms=index * 1000 / clip.fps)


def measure_start(photo: Path, model: str, runs: int) -> dict[str, Any]:
    """Seconds from starting ``cunet-deploy infer PHOTO`` to its end; the cache of optimized graphs is warm, and off."""
    seconds: dict[str, list[float]] = {"cached": [], "uncached": []}
    busy: dict[str, list[float]] = {"cached": [], "uncached": []}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cunet_deploy", "--quiet", "infer", str(photo), "--model", model]
        command += ["-o", str(Path(folder) / "out.jsonl"), "--overwrite"]
        for turn in range(runs + 1):
            for name, cache in (("cached", str(Path(folder) / "cache")), ("uncached", "off")):
                before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                done = subprocess.run(
                    command, env={**os.environ, "CUNET_CACHE": cache}, capture_output=True, text=True, check=False
                )
                elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
                if done.returncode:
                    raise CunetError(f"measuring the start failed: {done.stderr.strip()[-300:]}")
                if turn:  # the first one fills the caches
                    seconds[name].append(elapsed)
                    busy[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "photo": photo.name,
        "runs": runs,
        **{f"{name}_seconds": median(values) for name, values in seconds.items()},
        **{f"{name}_cpu_seconds": median(values) for name, values in busy.items()},
    }


def table(report: dict[str, Any]) -> str:
    """The figures beside what they should be."""
    flow, memory, start = report["throughput"], report["memory"], report["start"]
    stages = ", ".join(f"{name} {flow[f'{name}_ms_per_frame']:.2f}" for name in (*STAGES, "all"))
    (short, long), peaks = memory["frames"], [value / 2**20 for value in memory["peak_bytes"]]
    share, steady = flow["share_of_slowest_stage"], flow["share_without_opening"]
    growth, seconds = memory["growth"], start["cached_seconds"]
    step = report["step"]["bench_by_infer"]
    lines = [
        "| what | measured | at least / at most | met |",
        "|---|---|---|---|",
        f"| throughput, of {flow['slowest']} alone | {share:.1%} | {LEAST_SHARE:.0%} | {_met(share >= LEAST_SHARE)} |",
        f"| the same, without opening clips | {steady:.1%} | {LEAST_SHARE:.0%} | {_met(steady >= LEAST_SHARE)} |",
        f"| a frame's step in bench, of infer's | {step:.1%} | 100% ± {MOST_STEP_DIFFERENCE:.0%} | "
        f"{_met(abs(step - 1) <= MOST_STEP_DIFFERENCE)} |",
        f"| peak memory, {long} against {short} frames | {peaks[1]:.0f} MiB, {growth:+.1%} | {MOST_GROWTH:+.0%} | "
        f"{_met(growth <= MOST_GROWTH)} |",
        f"| start to landmarks of one picture | {seconds:.2f} s | {MOST_START_SECONDS:.2f} s | "
        f"{_met(seconds <= MOST_START_SECONDS)} |",
        "",
        f"{flow['frames']} frames of {len(flow['clips'])} clips, {flow['frames_per_second']:.0f} frames per second; "
        f"ms a frame: {stages}; opening takes {flow['open_ms_per_clip']:.1f} ms a clip",
        f"start without the cache of optimized graphs: {start['uncached_seconds']:.2f} s; processor time "
        f"{start['cached_cpu_seconds']:.2f} s with it, {start['uncached_cpu_seconds']:.2f} s without",
    ]
    return "\n".join(lines) + "\n"


def _met(good: bool) -> str:
    return "yes" if good else "NO"


def _video(path: Path) -> VideoFile:
    source = open_source(path)
    if not isinstance(source, VideoFile):
        raise InputError(f"{path}: is no video; give videos")
    return source


if __name__ == "__main__":
    main()
