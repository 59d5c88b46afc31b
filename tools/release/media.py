"""Test of the videos, images and names that are read, on small files made for it: docs/media.md.

python -m tools.release.media                    # try all
python -m tools.release.media clips/*.mkv        # and time reading beside OpenCV's own
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import cv2
import numpy as np

from cunet_deploy.errors import CunetError
from cunet_deploy.media import open_source
from tools.clips import make_clip, spoil
from tools.heic import box, heic
from tools.reports import errors_in_a_line, replace_file, signed, write_report

ROOT = Path(__file__).resolve().parents[2]
REPORT, DOCUMENT = ROOT / "docs" / "media.json", ROOT / "docs" / "media.md"
TIMES = [index * 40.0 for index in range(20)]
VARIABLE = [*(index * 200.0 for index in range(15)), *(3000 + index * 1000 / 30 for index in range(30))]

VIDEOS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *((f"a.{suffix}", "libx264", {}) for suffix in ("mp4", "mov", "m4v", "mkv", "flv", "ts", "m2ts", "3gp")),
    ("a.mp4", "libx265", {}),
    ("a.mkv", "libx265", {"pix_fmt": "yuv420p10le"}),
    ("a.mp4", "libsvtav1", {}),
    ("a.webm", "libvpx", {}),
    ("a.webm", "libvpx-vp9", {}),
    ("a.webm", "libsvtav1", {}),
    ("a.avi", "mpeg4", {}),
    ("a.avi", "mjpeg", {"pix_fmt": "yuvj420p"}),
    ("a.mov", "mjpeg", {"pix_fmt": "yuvj422p"}),
    ("a.mov", "prores_ks", {"pix_fmt": "yuv422p10le"}),
    ("a.mkv", "ffv1", {"pix_fmt": "yuv444p"}),
    ("a.mkv", "ffv1", {"pix_fmt": "gray"}),
    ("a.mkv", "ffv1", {"pix_fmt": "bgr0"}),
    ("a.mkv", "ffv1", {"pix_fmt": "yuv420p10le"}),
    ("a.mkv", "ffv1", {"pix_fmt": "yuv444p12le"}),
    ("a.mpg", "mpeg1video", {}),
    ("a.mpg", "mpeg2video", {}),
    ("a.vob", "mpeg2video", {}),
    ("a.mxf", "mpeg2video", {}),
    ("a.wmv", "wmv2", {}),
)
KINDS: tuple[tuple[str, str, list[float], dict[str, Any]], ...] = (
    ("variable rate: 5, then 30 frames a second", "a.mp4", VARIABLE, {}),
    ("no length and no rate in the header", "a.webm", VARIABLE, {"codec": "libvpx", "options": {"live": "1"}}),
    ("starts at 100 s", "a.mkv", [100_000 + time_ms for time_ms in TIMES], {}),
    ("pictures start 1 s after the sound", "a.mkv", [1000 + time_ms for time_ms in TIMES], {"sound_ms": (0, 1800)}),
    ("pixels of 16:9", "a.mp4", TIMES, {"codec": "libx264", "size": (90, 120), "aspect": Fraction(16, 9)}),
    *(
        (f"turned by {degrees} degrees{', mirrored' * mirrored}", "a.mp4", TIMES, {"turn": (degrees, mirrored, False)})
        for degrees in (0, 90, 180, 270)
        for mirrored in (False, True)
    ),
    ("BT.709", "a.mkv", TIMES, {"colours": {"colorspace": 1, "color_range": 1}}),
    ("BT.709, full range", "a.mkv", TIMES, {"colours": {"colorspace": 1, "color_range": 2}}),
    ("BT.2020, 10 bits", "a.mkv", TIMES, {"colours": {"colorspace": 9, "color_range": 1}, "pix_fmt": "yuv420p10le"}),
)
DAMAGED = (
    *(("a.avi", "mjpeg"), ("a.avi", "mpeg4"), ("a.mp4", "libx264"), ("a.mkv", "libx264")),
    *(("a.mkv", "libx265"), ("a.webm", "libvpx"), ("a.webm", "libvpx-vp9")),
)
NAMES = (
    b"12:30:05",
    b"50%",
    b"a b",
    "\N{SLIGHTLY SMILING FACE}".encode(),
    b"001",
    b"caf\xe9",
    b"x" * 251,
    b"-a",
    b"[a]*",
)


def videos(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Containers, codecs and pixel formats."""
    for name, codec, how in VIDEOS:
        what = f"{codec}, {how.get('pix_fmt', 'yuv420p')}"
        yield name, what, _read(partial(make_clip, folder / name, TIMES, codec=codec, rate=25, **how), TIMES)


def kinds(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Read clips whose times, shapes, turns or colours are unusual."""
    for what, name, times, how in KINDS:
        given = {"codec": "ffv1" if "colours" in how else "mpeg4", **how}
        late = 0.0 if "sound" in what else times[0]
        made = [time_ms - late for time_ms in times]
        yield name, what, _read(partial(make_clip, folder / name, times, **given), made)
    for name, codec in DAMAGED:

        def make(name: str = name, codec: str = codec) -> Path:
            pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            clip = make_clip(folder / name, TIMES, codec=codec, rate=25, group=1, pix_fmt=pix_fmt)
            return spoil(clip, 8, 3)

        yield name, f"{codec}, 3 of 20 pictures zeroed", _read(make, [*TIMES[:8], *TIMES[11:]])


def images(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Types of images."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    data = {suffix: bytes(cv2.imencode(suffix, image)[1].tobytes()) for suffix in (".jpg", ".png", ".webp")}
    deep = bytes(cv2.imencode(".png", image.astype(np.uint16) * 16)[1].tobytes())
    tiles = np.split(cv2.copyMakeBorder(image, 0, 64 - 60, 0, 128 - 80, cv2.BORDER_REPLICATE), 2, axis=1)
    rows = (
        *((f"a{suffix}", "", bytes(cv2.imencode(suffix, image)[1].tobytes())) for suffix in (".bmp", ".ppm", ".tif")),
        *((f"a{suffix}", "", content) for suffix, content in data.items()),
        ("a.jfif", "", data[".jpg"]),
        *((f"a{suffix}", "something behind it", content + b"tail" * 999) for suffix, content in data.items()),
        *((f"a{suffix}", "cut off", content[: len(content) // 2]) for suffix, content in data.items()),
        ("a.png", "12 bits in 16", deep),
        ("a.heic", "", photo := heic([image])),
        ("a.heic", "two tiles, turned", heic(tiles, grid=(1, 2, 80, 60), turns=[box(b"irot", b"\1")])),
        ("a.heic", "cut off", photo[:-9]),
    )
    for name, what, content in rows:
        yield name, what, _read(partial(_put, folder / name, content), [0.0])
    pages = folder / "b.tif"
    cv2.imwritemulti(str(pages), [image, image, image])
    yield "a.tif", "three pages", _read(partial(Path, pages), [0.0] * 3)
    for suffix in (".gif", ".webp", ".png", ".avif"):
        animation = cv2.Animation()
        animation.frames, animation.durations = [image // (index + 1) for index in range(4)], [100, 50, 200, 100]
        path = folder / f"b{suffix}"
        cv2.imwriteanimation(str(path), animation)
        yield f"a{suffix}", "animated", _read(partial(Path, path), [0.0, 100.0, 150.0, 350.0])


def names(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Names of files."""
    clip = make_clip(folder / "made.mp4", TIMES, rate=25)
    for name in NAMES:
        path = folder / os.fsdecode(name + b".mp4")
        path.write_bytes(clip.read_bytes())
        text = (name + b".mp4").decode("utf-8", "backslashreplace")
        shown = text if len(text) < 40 else f"{text[:8]}... ({len(name) + 4} bytes)"
        yield f"`{shown}`", "", _read(partial(Path, path), TIMES)


GROUPS: dict[str, Callable[[Path], Iterator[tuple[str, str, str]]]] = {
    "Containers, codecs and pixel formats": videos,
    "Times, shapes, colours and damage": kinds,
    "Images": images,
    "Names": names,
}


def _put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _read(make: Callable[[], Path], times: list[float]) -> str:
    """Read what is made, and say whether that is what should come."""
    path = make()
    try:
        source = open_source(path)
        pictures = list(source)
    except CunetError as error:
        return "refused: " + str(error).removeprefix(f"{path}: ")
    if len(pictures) != len(times):
        return f"{len(pictures)} of {len(times)} pictures"
    off = max(abs(picture.time_ms - time_ms) for picture, time_ms in zip(pictures, times, strict=True))
    if off > 25:
        return f"all pictures, times off by {off:.0f} ms"
    gaps = f", gap of {source.left_out[0].count} named" if source.left_out else ""
    return f"{len(pictures)} of {len(times)}{gaps}, {pictures[0].image.shape[1]}x{pictures[0].image.shape[0]}"


def timed(clips: list[Path], rounds: int = 7) -> dict[str, Any]:
    """Processor time of reading all frames, in turns with OpenCV."""

    def ours(path: Path) -> int:
        return sum(1 for _ in open_source(path))

    def opencv(path: Path) -> int:
        threads = max((os.cpu_count() or 2) - 1, 1)
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads])
        count = 0
        while capture.read()[0]:
            count += 1
        capture.release()
        return count

    spent: dict[str, list[float]] = {"ours": [], "opencv": []}
    frames = 0
    for turn in range(rounds):
        for name, read in list({"ours": ours, "opencv": opencv}.items())[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            frames = sum(read(path) for path in clips)
            spent[name].append((time.process_time() - start) / frames * 1000)
    return {
        "clips": [path.name for path in clips],
        "frames": frames,
        "rounds": rounds,
        **{f"{name}_cpu_ms_per_frame": median(values) for name, values in spent.items()},
    }


def update(*, write: bool) -> list[Path]:
    """docs/media.md where it is not what the report makes of it; with ``write`` it is brought up to date."""
    return replace_file(DOCUMENT, document(json.loads(REPORT.read_text(encoding="utf-8"))), write=write)


def document(report: dict[str, Any]) -> str:
    """The page."""
    versions, machine = report["versions"], report["machine"]
    with_what = f"PyAV {versions['av']}, OpenCV {versions['opencv']}, {machine['architecture']}"
    parts = [
        "# Files that were tried\n\nMade by `python -m tools.release.media`, which writes small files of each kind and "
        f"reads them ({with_what}). Times are right within 25 ms, unless a row says otherwise.\n"
    ]
    if "timed" in report:
        row = report["timed"]
        ours, opencv = row["ours_cpu_ms_per_frame"], row["opencv_cpu_ms_per_frame"]
        parts.append(
            f"\nReading {len(row['clips'])} clips ({row['frames']} frames) takes {ours:.2f} ms of processor time a "
            f"frame, and {opencv:.2f} ms with OpenCV's own reader, which converts colours less exactly (median of "
            f"{row['rounds']} turns, on {machine['processor']}).\n"
        )
    for group, rows in report["rows"].items():
        parts.append(f"\n## {group}\n\n| file | what | pictures read, size |\n|---|---|---|\n")
        parts += [f"| {name} | {what} | {result} |\n" for name, what, result in rows]
    return "".join(parts)


@click.command()
@click.argument("clips", nargs=-1, type=click.Path(exists=True, path_type=Path))
@errors_in_a_line
def main(clips: tuple[Path, ...]) -> None:
    """Try all kinds, and write docs/media.json and docs/media.md."""
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for group, tried in GROUPS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows[group] = list(tried(Path(folder)))
    report: dict[str, Any] = {"rows": rows, **({"timed": timed(list(clips))} if clips else {})}
    report = signed(report, "av")
    write_report(REPORT, report)
    update(write=True)


if __name__ == "__main__":
    main()
