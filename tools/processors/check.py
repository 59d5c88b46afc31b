"""Compute on this processor what another one computed, and count the values that differ.

    python -m tools.processors.check --reference build/processors/reference --write
    python -m tools.processors.check --reference build/processors/reference --name cortex-a76 --json a76.json

The first form writes the reference, on the machine at hand. The second compares with it: crops of a picture, frames of
the demo clip, heatmaps and landmarks of every released model on its golden inputs, on noise and on the crops, and what
``infer`` writes for frames that are given as pictures. Golden inputs are held against ``golden.npz``, in both forms.
Exit code 4 when a value differs. The base install is enough, so it runs on a device and in an emulator:
``tools/verify_arm.sh``.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.cli import cli
from cunet_deploy.drawn_faces import drawn_faces
from cunet_deploy.errors import InputError, VerificationError
from cunet_deploy.geometry import Crop, CropRule
from cunet_deploy.golden import read_golden
from cunet_deploy.machine.cpu import cpu_features, cpu_name, read_cpuinfo
from cunet_deploy.machine.describe import describe_versions
from cunet_deploy.media import open_source
from cunet_deploy.preprocess import sample, shrink
from cunet_deploy.sessions import Session, open_session
from tools.reports import errors_in_a_line, write_report

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "tests" / "data" / "astronaut.jpg"
CLIP = ROOT / "tests" / "data" / "demo.mp4"
MODEL_OF_RECORDS = "face68-s"
EVERY = 10
"""Step between the frames of the clip that are used."""
CROPS, NOISE = 64, 8
"""Inputs of 128 x 128; networks of larger ones are given as many pixels."""
BATCH = 8
DECODED_PX = 1e-3
"""Landmarks are read from heatmaps in float, by logarithms, which processors round differently."""

UInt8Array = NDArray[np.uint8]


@click.command()
@click.option("--reference", required=True, type=click.Path(path_type=Path), help="Folder of what is right.")
@click.option("--write", is_flag=True, help="Write that folder.")
@click.option("--name", default="this machine", show_default=True, help="Name of the processor in the report.")
@click.option("--models", help="Names of released models, divided by commas.  [default: all]")
@click.option("--short", is_flag=True, help="Golden inputs and an eighth of the other inputs alone; no records.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the report here.")
@errors_in_a_line
def main(reference: Path, write: bool, name: str, models: str | None, short: bool, json_path: Path | None) -> None:
    """Count what this processor computes differently."""
    began = time.perf_counter()
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    reference.mkdir(parents=True, exist_ok=True)
    known = _Reference(reference, write=write)
    for found in _everything(models.split(",") if models else released(), known, short=short):
        rows.append(found)
        click.echo(f"{name}: {line_of(found)}")
    text = read_cpuinfo()
    report = {
        "name": name,
        "processor": cpu_name(text),
        "instruction_sets": cpu_features(text),
        "versions": describe_versions("onnxruntime"),
        "short": short,
        "seconds": round(time.perf_counter() - began),
        "rows": rows,
    }
    write_report(json_path, report)
    wrong = [row for row in rows if row["differing"]]
    if wrong:
        raise VerificationError(f"{name}: {line_of(wrong[0])}; first: {wrong[0]['first']}")


def released() -> list[str]:
    """Names of the released models, in order."""
    return sorted(file.parent.name for file in (ROOT / "models").glob("*/golden.npz"))


def line_of(row: dict[str, Any]) -> str:
    """Describe what was compared and how much of it differs."""
    return f"{row['of']}, {row['inputs']}: {row['differing']} of {row['values']} {row['unit']} differ"


class _Reference:
    """Arrays by name, that are written by one processor and compared by the others."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self._folder, self._write = folder, write

    def compare(self, of: str, inputs: str, unit: str, found: NDArray[Any], allowed: float = 0) -> dict[str, Any]:
        """A row of the report; of what is being written nothing differs."""
        path = self._folder / f"{of}-{inputs}-{unit}.npy".replace(" ", "-")
        if self._write:
            np.save(path, found)
            return row(of, inputs, unit, found, found, allowed)
        if not path.is_file():
            raise InputError(f"{path}: is missing; write the reference first, with --write and the same --models")
        return row(of, inputs, unit, np.load(path), found, allowed)

    def frames(self) -> Path:
        """Frames of the demo clip as pictures."""
        folder = self._folder / "frames"
        if self._write:
            folder.mkdir(exist_ok=True)
            for picture in open_source(CLIP):
                if picture.index % EVERY == 0:
                    cv2.imwrite(str(folder / f"{picture.index:03}.png"), np.asarray(picture.image))
        return folder


def row(
    of: str, inputs: str, unit: str, expected: NDArray[Any], found: NDArray[Any], allowed: float = 0
) -> dict[str, Any]:
    """Count how many values of two arrays differ, by more than is allowed if anything is, and the first of them."""
    if expected.shape != found.shape:
        raise VerificationError(f"{of}, {inputs}: {found.shape} {unit} found, {expected.shape} expected")
    differ = np.abs(found - expected) > allowed if allowed else expected != found
    first = ""
    if differ.any():
        place = np.unravel_index(int(differ.argmax()), differ.shape)
        first = f"{found[place]} in place of {expected[place]} at {tuple(map(int, place))}"
    counts = {"values": int(differ.size), "differing": int(np.count_nonzero(differ))}
    largest = {"allowed": allowed, "largest": float(np.abs(found - expected).max())} if allowed else {}
    return {"of": of, "inputs": inputs, "unit": unit, **counts, **largest, "first": first}


def _everything(names: list[str], known: _Reference, *, short: bool) -> Iterator[dict[str, Any]]:
    for found, unit in ((drawn_faces(128, 8), "drawn faces"), (resized(), "resized pictures")):
        yield known.compare("preprocessing", unit, "pixels", found)
    for size in (128, 320):
        pixels = photo_crops(size, CROPS // 8 if short else CROPS)
        yield known.compare("preprocessing", f"crops of {size} px", "pixels", pixels)
    for picture in open_source(CLIP):
        if picture.index % EVERY == 0:
            pixels = np.asarray(picture.image, np.uint8)
            yield known.compare("video", f"frame {picture.index} of {CLIP.name}", "pixels of video", pixels)
    for name in names:
        digest = model_digest(name)
        yield from ({**found, "sha256": digest} for found in _of_model(name, known, short=short))
    if not short:
        yield known.compare("infer", f"frames of {CLIP.name} as pictures", "bytes of records", records(known.frames()))


def model_digest(name: str) -> str:
    """SHA-256 of the file of a released model."""
    return hashlib.sha256((ROOT / "models" / name / "model.onnx").read_bytes()).hexdigest()


def _of_model(name: str, known: _Reference, *, short: bool) -> Iterator[dict[str, Any]]:
    folder = ROOT / "models" / name
    session = open_session(folder, threads=1, backend="ort:cpu")
    golden = read_golden(folder / "golden.npz")
    yield row(name, "golden inputs", "heatmap values", golden.heatmaps, run(session, golden.images))
    share = (128 / session.manifest.crop.size) ** 2 / (8 if short else 1)
    size, crops, noisy = session.manifest.crop.size, round(CROPS * share), max(round(NOISE * share), 1)
    for inputs, images in ((f"{noisy} of noise", noise(size, noisy)), (f"{crops} crops", photo_crops(size, crops))):
        maps = run(session, images)
        yield known.compare(name, inputs, "heatmap values", maps)
        if session.manifest.boxes is None:
            points = np.asarray(session.manifest.read(maps)[0], np.float64)
            yield known.compare(name, inputs, "coordinates", points, DECODED_PX)
    session.close()


def run(session: Session, images: UInt8Array) -> NDArray[np.float32]:
    """Heatmaps of images, in batches and the first one alone as well, which must be the same."""
    maps = np.concatenate([session.run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])
    alone = session.run(images[:1])
    if not np.array_equal(alone, maps[:1]):
        raise VerificationError(f"{session.manifest.name}: an input alone gives other values than in a batch")
    return maps


def noise(size: int, count: int) -> UInt8Array:
    """(count, size, size, 3) random bytes; of every second input each is 0 or 255, which gives the largest sums."""
    inputs = np.random.default_rng(7).integers(0, 256, (count, size, size, 3), np.uint8)
    inputs[1::2] = (inputs[1::2] > 127) * np.uint8(255)
    return inputs


def photo_crops(size: int, count: int) -> UInt8Array:
    """(count, size, size, 3) crops of a photo: enlarged, shrunk, half of them turned, some partly outside."""
    image, rng = np.asarray(cv2.imread(str(PICTURE)), np.uint8), np.random.default_rng(11)
    rule, crops = CropRule(size, 1.4), []
    for index in range(count):
        x, y = rng.uniform(100, 300, 2)
        half = 0.5 * size * 2 ** rng.uniform(-1.5, 1.6)
        if index % 2:
            crops.append(rule.crop((x - half, y - half, x + half, y + half)))
        else:
            crops.append(Crop((float(x), float(y)), 2 * half, size, float(rng.uniform(-45, 45))))
    return np.stack([sample(image, crop) for crop in crops])


def resized() -> UInt8Array:
    """Sizes that detectors ask for, one after another in one row of pixels."""
    image = np.asarray(cv2.imread(str(PICTURE)), np.uint8)
    sizes = ((300, 300), (192, 144), (640, 640), (150, 133), (99, 41))
    return np.concatenate([shrink(image, *size).reshape(-1) for size in sizes])


def records(frames: Path) -> UInt8Array:
    """The bytes of the records that ``cunet-deploy infer`` writes for pictures."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        options = [
            "--model",
            str(ROOT / "models" / MODEL_OF_RECORDS),
            "--threads",
            "1",
            "--backend",
            "ort:cpu",  # others round otherwise, and which one is the fastest hangs on the processor
            "--no-draw",
            "--format",
            "jsonl",
        ]
        cli.main(["infer", str(frames), "-o", str(out), *options], standalone_mode=False)
        return np.frombuffer((out / "landmarks.jsonl").read_bytes(), np.uint8)


if __name__ == "__main__":
    main()
