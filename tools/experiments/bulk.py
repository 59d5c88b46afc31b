"""Speed and memory of ``cunet-deploy bulk`` beside ``infer``: start, time per clip, peak memory of the driver.

    python -m tools.experiments.bulk speed CLIPS --rounds 3 --json speed.json
    python -m tools.experiments.bulk items --json items.json

``speed`` runs both commands in turns on links to the same clips, once and four times each: the difference is the steady
state, the rest is the start. CPU seconds are those of all processes of a command; they count where others use the
machine. ``items`` localizes 100 and 10,000 links to a clip of two frames.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cunet_deploy.media.readers.video import VIDEO_SUFFIXES
from tools.clips import make_clip
from tools.reports import errors_in_a_line, signed, write_report

__all__ = ["main"]

Command = Callable[[Path, Path], list[str]]
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """Cost of a command.

    Attributes:
        seconds: from start to end.
        cpu_seconds: of all its processes.
        peak_mb: largest memory of the process that was started.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


def watch(command: Sequence[str]) -> Run:
    """Run a command in a session of its own, and look at its processes ten times a second.

    Raises:
        click.ClickException: it failed.
    """
    begun = time.perf_counter()
    ticks: dict[str, int] = {}
    peak = 0
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            while process.poll() is None:
                for entry in Path("/proc").glob("[0-9]*"):
                    try:
                        fields = (entry / "stat").read_text().rpartition(")")[2].split()
                        if int(fields[3]) == process.pid:
                            ticks[entry.name] = int(fields[11]) + int(fields[12])
                    except (OSError, IndexError):
                        continue  # it ended meanwhile
                try:
                    peak = max(peak, _peak_kb(process.pid))
                except (OSError, IndexError):
                    continue
                time.sleep(0.1)
        finally:
            if process.poll() is None:  # interrupted: Ctrl-C does not reach another session
                os.killpg(process.pid, signal.SIGKILL)
        seconds = time.perf_counter() - begun
        log.seek(0)
        if process.returncode:
            raise click.ClickException(f"{' '.join(command)} ended with {process.returncode}:\n{log.read()[-2000:]}")
    return Run(seconds, sum(ticks.values()) / _TICKS, peak / 1000)


def _peak_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])


def infer(clips: Path, out: Path) -> list[str]:
    """The command of one process, which writes landmarks only."""
    return [sys.executable, "-m", "cunet_deploy", "infer", str(clips), "--no-draw", "--format", "jsonl", "-o", str(out)]


def bulk(workers: int) -> Command:
    """The command with so many workers."""

    def line(clips: Path, out: Path) -> list[str]:
        return [sys.executable, "-m", "cunet_deploy", "bulk", str(clips), "-o", str(out), "--workers", str(workers)]

    return line


def on_one_cpu(command: Command) -> Command:
    """A command that has one processor."""
    return lambda clips, out: ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command(clips, out)]


def links(folder: Path, clips: Sequence[Path], count: int) -> Path:
    """A folder with so many links to clips."""
    folder.mkdir()
    for index in range(count):
        clip = clips[index % len(clips)].resolve()
        (folder / f"{index:05d}{clip.suffix}").symlink_to(clip)
    return folder


def slope(runs: dict[int, list[Run]], field: str) -> tuple[float, float]:
    """Cost of the start and of each further clip, from the medians of two numbers of clips."""
    few, many = sorted(runs)
    low, high = (statistics.median(getattr(run, field) for run in runs[count]) for count in (few, many))
    each = (high - low) / (many - few)
    return low - few * each, each


@click.group()
def main() -> None:
    """Measure bulk runs."""


@main.command()
@click.argument("clips", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=60, show_default=True, type=click.IntRange(1), help="Clips of the smaller run.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each, in turns.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def speed(clips: Path, count: int, workers: int, rounds: int, json_path: Path | None) -> None:
    """Compare bulk with one process of infer, free and on one processor, on links to the videos in CLIPS."""
    files = sorted(path for path in clips.iterdir() if path.suffix in VIDEO_SUFFIXES)
    commands = {"infer": infer, "infer on one processor": on_one_cpu(infer), "bulk": bulk(workers)}
    runs: dict[str, dict[int, list[Run]]] = {name: {count: [], 4 * count: []} for name in commands}
    with tempfile.TemporaryDirectory() as work:
        folders = {number: links(Path(work) / str(number), files, number) for number in (count, 4 * count)}
        for turn in range(rounds):
            for number, folder in folders.items():
                for name, command in commands.items():
                    run = watch(command(folder, Path(work) / f"{name}-{turn}-{number}"))
                    runs[name][number].append(run)
                    click.echo(f"{name}, {number} clips: {run.seconds:.1f} s, {run.cpu_seconds:.1f} CPU s", err=True)
    rows = [_row(name, runs[name]) for name in commands]
    for row in rows:
        row["times_infer"] = round(rows[0]["clip_ms"] / row["clip_ms"], 2)
        row["times_one_processor"] = round(rows[1]["clip_ms"] / row["clip_ms"], 2)
        click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    if json_path is not None:
        write_report(json_path, signed({"count": count, "workers": workers, "rounds": rounds, "rows": rows}, "ray"))


@main.command()
@click.option("--few", default=100, show_default=True, type=click.IntRange(1))
@click.option("--many", default=10_000, show_default=True, type=click.IntRange(2))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def items(few: int, many: int, workers: int, json_path: Path | None) -> None:
    """Memory of the driver, and what a clip costs of which there is next to nothing to localize."""
    with tempfile.TemporaryDirectory() as work:
        clip = make_clip(Path(work) / "clip.mp4", [0, 40])
        runs = {}
        for number in (few, many):
            folder = links(Path(work) / str(number), [clip], number)
            runs[number] = [watch(bulk(workers)(folder, Path(work) / f"out-{number}"))]
    row = {**_row("bulk", runs), **{f"driver_mb_{number}": round(runs[number][0].peak_mb, 1) for number in runs}}
    click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    if json_path is not None:
        write_report(json_path, signed({"workers": workers, **row}, "ray"))


def _row(name: str, runs: dict[int, list[Run]]) -> dict[str, Any]:
    (start, each), (cpu_start, cpu_each) = slope(runs, "seconds"), slope(runs, "cpu_seconds")
    return {
        "name": name,
        "start_s": round(start, 2),
        "clip_ms": round(1000 * each, 1),
        "start_cpu_s": round(cpu_start, 2),
        "clip_cpu_ms": round(1000 * cpu_each, 1),
    }


if __name__ == "__main__":
    main()
