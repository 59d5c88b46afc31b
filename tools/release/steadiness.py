"""Measure the jitter of joints in real clips, and how often left and right joints exchange places.

    python -m tools.release.steadiness pose14-s walkers.mp4 'asl_*.mkv' --json models/pose14-s/steadiness.json

Clips are followed as `cunet-deploy infer` does, without smoothing and with it; patterns stand for several clips, which
share a row. Joints count while their score is at least a half; see `cunet_deploy.metrics.steadiness` for the measures.
``python -m tools.docs write`` puts the figures into the cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import Frame
from cunet_deploy.metrics import exchanged_pairs, normalizer_lengths, second_differences
from cunet_deploy.skeletons import Skeleton
from tools.reports import errors_in_a_line, signed, update_reported_cards, write_report

MARK = "steadiness"
LEAST_SCORE = 0.5
LEAST_APART = 0.2
"""Distance of a left and a right joint, in torsos, below which they are at one place: the threshold of PCK."""
_SHORTEST = 3  # frames: a second difference needs as many


@dataclass(frozen=True)
class Trajectory:
    """Trajectory of one person's joints through T successive frames.

    Attributes:
        points: (T, K, 2) pixels.
        scores: (T, K).
        milliseconds: from the first frame to the last.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    milliseconds: float


def paths_of(frames: Iterable[Frame]) -> Iterator[Trajectory]:
    """Follow everybody, from the first frame of a track to one in which the track is not there."""
    open_paths: dict[int, list[tuple[Frame, int]]] = {}
    for frame in frames:
        present = {int(number): row for row, number in enumerate(frame.landmarks.ids)}
        for number in sorted(set(open_paths) - set(present)):
            yield from _closed(open_paths.pop(number))
        for number, row in present.items():
            open_paths.setdefault(number, []).append((frame, row))
    for number in sorted(open_paths):
        yield from _closed(open_paths[number])


def _closed(rows: Sequence[tuple[Frame, int]]) -> Iterator[Trajectory]:
    if len(rows) < _SHORTEST:
        return
    points = np.array([frame.landmarks.points[row] for frame, row in rows], np.float64)
    scores = np.array([frame.landmarks.scores[row] for frame, row in rows], np.float64)
    yield Trajectory(points, scores, rows[-1][0].time_ms - rows[0][0].time_ms)


def measure(paths: Iterable[Trajectory], skeleton: Skeleton) -> dict[str, float | int]:
    """Median jitter in percent of the torso, and exchanges of left and right a minute.

    Raises:
        InputError: nobody was followed, or the landmarks are not those of a body.
    """
    jitter: list[NDArray[np.float64]] = []
    exchanges, minutes, frames = 0, 0.0, 0
    pairs = np.asarray(skeleton.flip_pairs, np.intp)
    for path in (one for one in paths if one.milliseconds > 0):
        torso = float(np.nanmedian(normalizer_lengths(path.points, skeleton, "torso")))
        sure = path.scores >= LEAST_SCORE
        counted = sure[2:] & sure[1:-1] & sure[:-2]
        jitter.append(100 * second_differences(path.points)[counted] / torso)
        both = np.asarray(sure[:, pairs].all(axis=-1))
        exchanged = exchanged_pairs(path.points, skeleton, LEAST_APART * torso)
        exchanges += int((exchanged & both[1:] & both[:-1]).sum())
        minutes += path.milliseconds / 60_000
        frames += len(path.points)
    lengths = np.concatenate([np.zeros(0), *jitter])
    if not len(lengths):
        raise InputError("nobody was followed long enough in these clips; expected clips that show people")
    middle, high = np.percentile(lengths, [50, 90])
    return {
        "frames": frames,
        "minutes": round(minutes, 3),
        "jitter_p50_percent": round(float(middle), 3),
        "jitter_p90_percent": round(float(high), 3),
        "exchanges": exchanges,
        "exchanges_per_minute": round(exchanges / minutes, 2),
    }


@click.command()
@click.argument("model")
@click.argument("patterns", nargs=-1, required=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def main(model: str, patterns: tuple[str, ...], json_path: Path | None) -> None:
    """Measure how steady MODEL is in the clips that PATTERNS stand for."""
    cv2.setNumThreads(1)
    rows = []
    with Localizer(model, threads=1) as localizer:
        skeleton = localizer.manifest.skeleton
        for pattern in patterns:
            clips = clips_of(pattern)
            for smooth in (False, True):
                found = [path for clip in clips for path in paths_of(localizer.stream(clip, smooth=smooth))]
                figures = measure(found, skeleton)
                rows.append({"clips": Path(pattern).name, "count": len(clips), "smooth": smooth, **figures})
    report = signed({"model": model, "rows": rows})
    write_report(json_path, report)
    click.echo(text_of(report), nl=False)


def clips_of(pattern: str) -> list[Path]:
    """The files of a pattern.

    Raises:
        InputError: there is none.
    """
    clips = sorted(Path(pattern).parent.glob(Path(pattern).name))
    if not clips:
        raise InputError(f"{pattern}: there is no such file; expected a clip, or a pattern of several")
    return clips


def text_of(report: dict[str, Any]) -> str:
    """Write the text of a card."""
    lines = [
        "| clips | smooth | people followed for | jitter, median and 90th percentile | left and right exchanged |",
        "|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        clips = row["clips"] if row["count"] == 1 else f"{row['count']} of {row['clips']}"
        jitter = f"{row['jitter_p50_percent']:.1f} % and {row['jitter_p90_percent']:.1f} % of the torso"
        exchanged = f"{row['exchanges_per_minute']:.1f} a minute ({row['exchanges']})"
        smooth = "yes" if row["smooth"] else "no"
        lines.append(f"| {clips} | {smooth} | {60 * row['minutes']:.0f} s | {jitter} | {exchanged} |")
    lines += [
        "",
        "Joints with a score of at least 0.5. Jitter: length of the second difference of a joint's path from frame to "
        "frame, which holds real acceleration, too. Left and right are exchanged where both joints of a pair, at least "
        "0.2 torsos apart, are nearer to where the other one was in the frame before; a swap that does not last counts "
        "twice. This counts changes, and not which side is right. Smoothing includes putting such pairs back. "
        f"`{report['command']}`",
    ]
    return "\n".join(lines) + "\n"


update_cards = partial(update_reported_cards, MARK, text_of)

if __name__ == "__main__":
    main()
