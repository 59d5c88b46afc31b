"""The generic head of `cunet_deploy.head_pose`: fitted to renders, and its errors measured.

    python -m tools.head_pose fit renders/faces       # writes cunet_deploy/head68.json
    python -m tools.head_pose measure other/faces --json docs/head-pose.json     # docs/infer.md shows it
    python -m tools.head_pose measure other/faces --model face68-s

``fit`` takes the labels of renders and their known poses. For each of seven yaws it finds the 68 points that, turned as
each head near that yaw was, project onto its labels with the least squared distance; nothing but renders of CC0 assets
goes into them. ``measure`` compares the poses of labels, or of the landmarks that a model finds, with the known ones.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import write_text_atomic
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import evaluate, open_model
from cunet_deploy.head_pose import FOCAL, head_pose, normalized
from cunet_deploy.metrics import bootstrap_mean
from cunet_deploy.skeletons import IBUG68
from tools.reports import errors_in_a_line, signed, update_reported_document, write_report

_ROOT = Path(__file__).resolve().parents[1]
FILE = _ROOT / "cunet_deploy" / "head68.json"
MODULE = _ROOT / "cunet_deploy" / "web" / "package" / "src" / "head68.js"
"""The same views for browsers, written together with `FILE`."""
REPORT, DOCUMENT, MARK = _ROOT / "docs" / "head-pose.json", _ROOT / "docs" / "infer.md", "head pose"
YAWS = tuple(range(0, 91, 15))
REACH = 12.0
"""Degrees around each yaw from which renders count for its view."""
BINS = ((0, 30), (30, 60), (60, 90.01))
ANGLES = ("yaw", "pitch", "roll")
_ROUNDS = 8
_LABELS = "labels"

FloatArray = NDArray[np.float64]


@click.group()
def main() -> None:
    """Fit and measure the generic head."""


@main.command()
@click.argument("renders", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--output", "out", type=click.Path(path_type=Path), default=FILE, show_default=True, help="File to write."
)
@errors_in_a_line
def fit(renders: tuple[Path, ...], out: Path) -> None:
    """Write the generic head of RENDERS."""
    examples, poses = read_poses(renders)
    faces = np.stack([normalized(example.points) for example in examples])
    views = fit_views(faces, poses)
    about = f"mean head of {len(examples)} renders of cunet-deploy synth faces (CC0), by tools/head_pose.py"
    rows = ",\n".join(json.dumps(view.round(4).tolist(), separators=(",", ":")) for view in views)
    write_text_atomic(out, f'{{"about": "{about}",\n"yaws": {list(YAWS)},\n"views": [\n{rows}\n]}}\n', overwrite=True)
    if out == FILE:
        write_text_atomic(MODULE, browser_module(rows), overwrite=True)
    click.echo(f"{out}: {len(views)} views of {len(examples)} renders")


def browser_module(rows: str) -> str:
    """JavaScript module of views that are written as rows of JSON."""
    about = "The generic head of `cunet_deploy/head68.json`, written with it by `python -m tools.head_pose fit`."
    kind = "/** Points from yaw 0 to 90 in equal steps. @type {number[][][]} */"
    return f"/**\n * {about}\n */\n\n{kind}\nexport const VIEWS = [\n{rows}\n];\n"


@main.command()
@click.argument("renders", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--model", help="Measure landmarks that this model finds.  [default: the labels]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def measure(renders: tuple[Path, ...], model: str | None, json_path: Path | None) -> None:
    """Compare the poses of landmarks in RENDERS with the known ones."""
    examples, poses = read_poses(renders)
    if model is None:
        points = np.stack([example.points for example in examples])
    else:
        session = open_model(model, threads=1)
        points = evaluate(session, examples, PhotoCache(1 << 28)).points
        session.close()
    report = signed({"landmarks": model or _LABELS, **errors_of(points, poses)})
    write_report(json_path, report)
    click.echo(table(report), nl=False)


def read_poses(folders: tuple[Path, ...]) -> tuple[list[Example], FloatArray]:
    """Labelled renders, and (N, 3) yaw, pitch and roll that the lines beside their folders tell.

    Raises:
        InputError: a folder has no such lines.
    """
    examples, poses = [], []
    for folder in folders:
        parent = folder.resolve().parent
        files = sorted((parent / "blocks").glob("*.jsonl")) or [parent / f"{folder.resolve().name}.jsonl"]
        told: dict[str, list[float]] = {}
        for path in files:
            if not path.is_file():
                raise InputError(f"{folder}: no lines of cunet-deploy synth lie beside it; the poses are not known")
            for line in map(json.loads, path.read_text("utf-8").splitlines()):
                told[Path(line["image"]).name] = [line[name] for name in ANGLES]
        found = [example for example in read_300w(folder, len(IBUG68)) if example.image.name in told]
        examples += found
        poses += [told[example.image.name] for example in found]
    return examples, np.array(poses)


def fit_views(faces: FloatArray, poses: FloatArray) -> FloatArray:
    """(V, 68, 3) points that project best onto (N, 68, 2) normalized faces of known pose, for each of `YAWS`."""
    mirrored = faces[:, IBUG68.flip_order] * [-1, 1]
    faces = np.concatenate([faces, mirrored])
    poses = np.concatenate([poses, poses * [-1, 1, -1]])
    views = []
    for yaw in YAWS:
        near = np.abs(poses[:, 0] - yaw) <= REACH
        if near.sum() < 3:
            raise InputError(f"only {near.sum()} renders look {yaw} degrees to the side; render more")
        views.append(_fit_view(faces[near], np.stack([_rotation(*pose) for pose in poses[near]])))
    return np.stack(views)


def _fit_view(faces: FloatArray, rotations: FloatArray) -> FloatArray:
    """Alternate between where the heads are and what they look like, both by linear least squares."""
    count = faces.shape[1]
    points = _start(faces, rotations)
    u, v = faces[..., 0], faces[..., 1]
    for _ in range(_ROUNDS):
        turned = np.einsum("nij,kj->nki", rotations, points)
        shifts = []
        for face, head in zip(faces, turned, strict=True):  # FOCAL * (X + tx) = u * (Z + tz)
            rows = np.zeros((2 * count, 3))
            rows[:count, 0] = rows[count:, 1] = FOCAL
            rows[:, 2] = -face.T.ravel()
            right = face.T.ravel() * np.tile(head[:, 2], 2) - FOCAL * head[:, :2].T.ravel()
            shifts.append(np.linalg.lstsq(rows, right, rcond=None)[0])
        shift = np.array(shifts)
        weight = 1 / shift[:, 2] ** 2
        left, right = np.zeros((count, 3, 3)), np.zeros((count, 3))
        for axis, image in ((0, u), (1, v)):
            rows = FOCAL * rotations[:, None, axis] - image[..., None] * rotations[:, None, 2]
            values = image * shift[:, None, 2] - FOCAL * shift[:, None, axis]
            left += np.einsum("n,nki,nkj->kij", weight, rows, rows)
            right += np.einsum("n,nki,nk->ki", weight, rows, values)
        points = np.asarray(np.linalg.solve(left, right[..., None])[..., 0], np.float64)
        points -= points.mean(axis=0)
        points /= np.sqrt(np.square(points).sum(axis=1).mean()) / 0.5
    return np.asarray(points)


def _start(faces: FloatArray, rotations: FloatArray) -> FloatArray:
    """(68, 3) points by parallel projection."""
    rows = rotations[:, :2].reshape(-1, 3)
    values = faces.transpose(0, 2, 1).reshape(len(rows), -1)
    return np.asarray(np.linalg.lstsq(rows, values, rcond=None)[0].T)


def _rotation(yaw: float, pitch: float, roll: float) -> FloatArray:
    """(3, 3) rotation of OpenCV's axes; see `cunet_deploy.head_pose`."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(np.diag([1.0, -1.0, -1.0]) @ about_z @ about_x @ about_y)


def errors_of(points: FloatArray, poses: FloatArray) -> dict[str, Any]:
    """Mean absolute errors in degrees by yaw, the share without a pose, and the processor time of each face."""
    began = time.process_time()
    found = head_pose(points)
    microseconds = 1e6 * (time.process_time() - began) / len(points)
    errors = np.abs((found - poses + 180) % 360 - 180)
    rows = []
    for low, high in (*BINS, (0, 90.01)):
        own = errors[(np.abs(poses[:, 0]) >= low) & (np.abs(poses[:, 0]) < high)]
        row: dict[str, Any] = {"yaw_from": low, "yaw_to": round(high), "faces": len(own)}
        row["without_percent"] = round(100 * float(np.isnan(own[:, 0]).mean()), 2)
        for index, name in enumerate(ANGLES):
            row[f"{name}_mean_degrees"] = bootstrap_mean(own[:, index]).to_dict()
            row[f"{name}_p95_degrees"] = round(float(np.nanpercentile(own[:, index], 95)), 2)
        rows.append(row)
    return {"faces": len(points), "cpu_microseconds_per_face": round(microseconds, 1), "by_yaw": rows}


def table(report: dict[str, Any]) -> str:
    """The errors as Markdown."""
    lines = ["| yaw | faces | yaw: mean error (p95) | pitch | roll | no pose |", "|---|---|---|---|---|---|"]
    for row in report["by_yaw"]:
        cells = [f"{row[f'{name}_mean_degrees']['value']:.1f}° ({row[f'{name}_p95_degrees']:.1f}°)" for name in ANGLES]
        what = [f"{row['yaw_from']} to {row['yaw_to']}°", str(row["faces"]), *cells, f"{row['without_percent']:.1f} %"]
        lines.append(f"| {' | '.join(what)} |")
    time_of_each = f"{report['cpu_microseconds_per_face']:.0f} µs of a processor for each face"
    return "\n".join(lines) + f"\n\n{time_of_each} ({report['machine']['processor']}).\n"


update = partial(update_reported_document, REPORT, DOCUMENT, MARK, table)

if __name__ == "__main__":
    main()
