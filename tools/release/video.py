r"""Measure how steady and how late landmarks are in video, and whether objects keep their track ids.

    python -m tools.release.video motion face68-s --json models/face68-s/video.json
    python -m tools.docs write    # brings the cards up to date

``motion`` draws clips from a picture of which every pixel's true motion is known (NASA's astronaut, in tests/data): a
still camera, and cameras that pan, shake and zoom, with sensor noise. *Jitter* is the root mean square of the movement
against the true one from frame to frame, in percent of the distance of the outer eye corners. *Lag* is by how many
milliseconds the landmarks must be moved forward in time to lie best on the true motion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.localizer import Localizer
from cunet_deploy.media import Picture, read_image
from cunet_deploy.tracking.one_euro import Smoothing
from tools.reports import errors_in_a_line, signed, update_reported_cards, write_report

ROOT = Path(__file__).resolve().parents[2]
MARK = "video"
PICTURE = ROOT / "tests" / "data" / "astronaut.jpg"
FACE = (224.0, 118.0)
"""Middle of the face in the picture."""
WIDTH, HEIGHT, FPS, FRAMES = 640, 480, 30, 120
NOISE = 5.0
"""Standard deviation of the sensor's noise in grey levels: an ordinary webcam indoors."""
MOTIONS = ("still", "pan", "shake", "zoom")
LEFT, RIGHT = 36, 45  # outer eye corners of the 68 landmarks
SMOOTHED = (("off", False), ("one-euro", True), ("both-ways", Smoothing(both_ways=True)))

FloatArray = NDArray[np.float64]


def camera(motion: str, seconds: float) -> FloatArray:
    """(2, 3) matrix from the picture to the frame at a time."""
    phase = 2 * math.pi * seconds
    x, y, scale = WIDTH / 2, HEIGHT / 2, 1.6
    if motion == "pan":  # a head that sways: 0.5 Hz, about a face's width to each side
        x += 110 * math.sin(0.5 * phase)
    elif motion == "shake":  # a quick nod: 1.5 Hz
        y += 30 * math.sin(1.5 * phase)
    elif motion == "zoom":
        scale *= 1 + 0.3 * math.sin(0.4 * phase)
    matrix = np.array([[scale, 0, 0], [0, scale, 0]], np.float64)
    matrix[:, 2] = (x, y) - matrix[:, :2] @ np.array(FACE)
    return matrix


def drawn(motion: str, seed: int = 0) -> Iterator[Picture]:
    """A clip of `FRAMES` frames with noise, the same on every call."""
    image, rng = read_image(PICTURE), np.random.default_rng(seed)
    for index in range(FRAMES):
        frame = cv2.warpAffine(image, camera(motion, index / FPS), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        noisy = frame + rng.normal(0, NOISE, frame.shape)
        yield Picture(index, 1000 * index / FPS, np.asarray(noisy.round().clip(0, 255), np.uint8))


def follow(localizer: Localizer, motion: str, smooth: bool | Smoothing) -> tuple[FloatArray, FloatArray, int]:
    """Landmarks (T, K, 2) of the picture's face, times in ms, and how many track ids it had."""
    points, times, numbers = [], [], set()
    for frame in localizer.stream(list(drawn(motion)), follow=True, smooth=smooth):
        if len(frame.landmarks) == 1:
            points.append(frame.landmarks.points[0])
            times.append(frame.time_ms)
            numbers.add(int(frame.landmarks.ids[0]))
    return np.array(points, np.float64), np.array(times), len(numbers)


def judge(motion: str, points: FloatArray, times: FloatArray, rest: FloatArray) -> dict[str, float]:
    """Jitter and lag of one clip.

    Args:
        motion: of the clip.
        points: (T, K, 2) that were found.
        times: (T,) ms.
        rest: (K, 2) where the landmarks are in the picture, as the network sees them on average.
    """

    def truth(delay_ms: float) -> FloatArray:
        matrices = [camera(motion, (moment - delay_ms) / 1000) for moment in times]
        return np.array([rest @ matrix[:, :2].T + matrix[:, 2] for matrix in matrices])

    true = truth(0.0)
    unit = np.linalg.norm(true[:, RIGHT] - true[:, LEFT], axis=-1).mean()
    still = np.diff(points - true, axis=0)
    delays = np.arange(-60.0, 160.0, 1.0)
    skip = FPS // 3  # the filter starts
    errors = [np.linalg.norm((points - truth(delay))[skip:], axis=-1).mean() for delay in delays]
    found = {"jitter_percent": float(np.sqrt((still[skip:] ** 2).sum(-1).mean()) / unit * 100)}
    if motion in ("pan", "shake"):
        found["lag_ms"] = float(delays[int(np.argmin(errors))])
    return found


@click.group()
def main() -> None:
    """Measure landmarks in video; see the top of this file."""
    cv2.setNumThreads(1)


@main.command()
@click.argument("model")
@click.option("--min-cutoff", type=float, help="In place of the default.")
@click.option("--beta", type=float, help="In place of the default.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def motion(model: str, min_cutoff: float | None, beta: float | None, json_path: Path | None) -> None:
    """Jitter, lag and track ids on drawn clips."""
    base = Smoothing()
    chosen = Smoothing(base.min_cutoff if min_cutoff is None else min_cutoff, base.beta if beta is None else beta)
    rows: list[dict[str, Any]] = []
    with Localizer(model, threads=1) as localizer:
        for kind in MOTIONS:
            plain, times, numbers = follow(localizer, kind, smooth=False)
            undone = [
                (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
                for points, matrix in zip(plain, (camera(kind, moment / 1000) for moment in times), strict=True)
            ]
            rest = np.mean(undone, axis=0)
            for name, smooth in SMOOTHED:
                points, moments = plain, times
                if smooth is not False:
                    points, moments, numbers = follow(localizer, kind, chosen if smooth is True else smooth)
                judged = {key: round(value, 4) for key, value in judge(kind, points, moments, rest).items()}
                rows.append({"motion": kind, "smooth": name, "frames": len(points), "ids": numbers, **judged})
    click.echo(motion_table(rows), nl=False)
    settings = {"min_cutoff": chosen.min_cutoff, "beta": chosen.beta}
    write_report(json_path, signed({"model": model, "smoothing": settings, "fps": FPS, "noise": NOISE, "rows": rows}))


def motion_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    text = "| motion | smooth | frames | ids | jitter, % of eye distance | lag |\n" + "|---" * 6 + "|\n"
    for row in rows:
        lag = f"{row['lag_ms']:.0f} ms" if "lag_ms" in row else "-"
        text += f"| {row['motion']} | {row['smooth']} | {row['frames']} of {FRAMES} | {row['ids']} "
        text += f"| {row['jitter_percent']:.2f} | {lag} |\n"
    return text


def card_of(report: dict[str, Any]) -> str:
    """Write the text of a card about `motion`."""
    settings = report["smoothing"]
    notes = (
        f"Drawn clips of 640x480 at {report['fps']} frames a second with noise of {report['noise']:g} grey levels;",
        "jitter against the known motion from frame to frame, in percent of the distance of the outer eye corners.",
        f"One-Euro with a cutoff of {settings['min_cutoff']:g} Hz and beta {settings['beta']:g}.",
        "Written by `tools/release/video.py`.",
    )
    return f"{motion_table(report['rows'])}\n{' '.join(notes)}\n"


update_cards = partial(update_reported_cards, MARK, card_of)

if __name__ == "__main__":
    main()
