r"""Compare our body models with MediaPipe's, on the same crop, threads and clock, and on the same people.

    python tools/bench_pose.py pose14-s --mediapipe mediapipe-0.10.14-....whl \
        --data lspet#test --data lspet#test:clean --json docs/speed/pose.json

All take turns in one process, as in bench_peers.py. MediaPipe Pose (full) learned people who stand upright in its crop:
its detector turns the picture so. It is measured in two crops: one like ours, which is not turned, and one that is
turned and placed by the labels, as a detector without errors would. It has no neck and no head top: what is compared
are the twelve joints that both have.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from bench_peers import STAGES, ratio_to_first, time_peers
from numpy.typing import NDArray
from peers import Ours, Peer, load_litert, mediapipe_file, rgb_crop
from reports import signed, write_report

from cunet_deploy import metrics
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.geometry import Crop, CropRule
from cunet_deploy.runtime.sessions import model_file, open_session
from cunet_deploy.skeletons import LSP14

__all__ = ["MediaPipePose", "main", "table"]

PACKAGES = ("ai-edge-litert",)
MEMBER = "pose_landmark/pose_landmark_full.tflite"
JOINTS = (28, 26, 24, 23, 25, 27, 16, 14, 12, 11, 13, 15)
"""Numbers of BlazePose's landmarks (MediaPipe's documentation of Pose) in the order of the first twelve of lsp14."""
HIPS, SHOULDERS = (2, 3), (8, 9)
"""Of lsp14. MediaPipe's crop is a square around the middle of the hips, large enough for the circle around the body,
and turned so that the middle of the shoulders is above (its documentation of ``pose_landmarks_to_roi``)."""
SIZE = 256
PADDING, GROWN = 1.8, 1.25
"""Side of our crop, in longer sides of the box, and of the turned one, in diameters of the circle around the labelled
joints. Of 1.25, 1.4, 1.6, 1.8, 2.0 and 2.3, and of 1.0, 1.1, 1.25 and 1.4, these are the best on ``lspet#val``."""

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MediaPipePose:
    """MediaPipe's body landmark network (256 px), run by LiteRT. See `peers.Peer`.

    Attributes:
        interpreter: with the network loaded.
        bytes: size of the file.
        padding: side of the first crop divided by the longer side of the box.
    """

    interpreter: Any
    bytes: int | None
    padding: float = PADDING
    name: str = "MediaPipe Pose (full), LiteRT"
    trained: bool = True

    @classmethod
    def load(cls, file: Path, threads: int) -> MediaPipePose:
        """Load the network from a .tflite file or a wheel of mediapipe.

        Raises:
            MissingDependencyError: LiteRT is not installed.
            InputError: there is no such network in the file.
        """
        content = mediapipe_file(file, MEMBER)
        return cls(load_litert(content, threads), len(content))

    def prepare(self, image: NDArray[np.uint8], box: Points) -> tuple[Crop, NDArray[np.float32]]:
        """See `Peer`."""
        return self._prepared(image, CropRule(SIZE, self.padding).crop(box))

    def network(self, prepared: tuple[Crop, NDArray[np.float32]]) -> tuple[NDArray[np.float32], float]:
        """(39, 5) landmarks in the crop, and the score that somebody is there."""
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], prepared[1])
        self.interpreter.invoke()
        found = {int(np.prod(item["shape"])): item["index"] for item in self.interpreter.get_output_details()}
        if not {195, 1} <= set(found):
            raise InputError(f"a network with outputs of {sorted(found)} numbers is not MediaPipe's pose network")
        points = np.asarray(self.interpreter.get_tensor(found[195])).reshape(39, 5)
        return points, float(np.ravel(self.interpreter.get_tensor(found[1]))[0])

    def finish(self, prepared: tuple[Crop, Any], output: tuple[NDArray[np.float32], float]) -> Points:
        """(39, 2) landmarks in the image. The network's pixels have (0, 0) at the corner of the picture."""
        return prepared[0].to_image(output[0][:, :2].astype(np.float64) - 0.5)

    def locate(self, image: NDArray[np.uint8], crop: Crop) -> tuple[Points, float]:
        """(12, 2) joints and the score."""
        prepared = self._prepared(image, crop)
        output = self.network(prepared)
        return self.finish(prepared, output)[list(JOINTS)], output[1]

    @staticmethod
    def _prepared(image: NDArray[np.uint8], crop: Crop) -> tuple[Crop, NDArray[np.float32]]:
        return crop, rgb_crop(image, crop)[None].astype(np.float32) * np.float32(1 / 255)


def upright(labels: Points, grown: float) -> Crop | None:
    """The crop around (14, 2) labelled joints in which the body stands upright; ``None`` without a labelled torso."""
    hips, shoulders = (labels[list(pair)].mean(axis=0) for pair in (HIPS, SHOULDERS))
    if not np.isfinite([hips, shoulders]).all():
        return None
    reach = float(np.nanmax(np.linalg.norm(labels - hips, axis=1)))
    x, y = shoulders - hips
    return Crop((float(hips[0]), float(hips[1])), 2 * grown * reach, SIZE, float(np.degrees(np.arctan2(x, -y))))


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--mediapipe", required=True, type=click.Path(path_type=Path), help="The .tflite file or a wheel with it."
)
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="People with labelled joints.")
@click.option("--padding", type=float, default=PADDING, show_default=True, help="Of MediaPipe's first crop.")
@click.option("--grown", type=float, default=GROWN, show_default=True, help="Of its turned crop.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Turns that each has.")
@click.option("--calls", type=click.IntRange(1), default=5, show_default=True, help="Timed calls in a turn.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
def main(
    models: tuple[str, ...],
    mediapipe: Path,
    data: tuple[Path, ...],
    padding: float,
    grown: float,
    threads: int,
    rounds: int,
    calls: int,
    json_path: Path | None,
) -> None:
    """Time body MODELS and MediaPipe's in turns, and measure them on the same people."""
    cv2.setNumThreads(threads)
    try:
        loaded = MediaPipePose.load(mediapipe, threads)
        other = MediaPipePose(loaded.interpreter, loaded.bytes, padding)
        ours = [
            Ours(name, open_session(name, threads=threads), model_file(name, None).stat().st_size) for name in models
        ]
        peers: list[Peer] = [*ours, other]
        timings = time_peers(peers, rounds, calls)
        rows = [_times(peer, timings, index) for index, peer in enumerate(peers)]
        for dataset in data:
            for row, accuracy in zip(rows, _accuracies(ours, other, dataset, grown), strict=True):
                row.setdefault("accuracy", {})[dataset.name] = accuracy
        report = {"threads": threads, "batch": 1, "rounds": rounds, "calls_per_round": calls, "peers": rows}
        write_report(
            json_path, signed({"padding_of_mediapipe": padding, "grown_of_mediapipe": grown, **report}, *PACKAGES)
        )
    except CunetError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    click.echo(table(rows), nl=False)


def _times(peer: Peer, timings: NDArray[np.float64], index: int) -> dict[str, Any]:
    mine = timings[index]
    return {
        "name": peer.name,
        "file_bytes": peer.bytes,
        **{f"{stage}_p50_ms": round(float(np.median(mine[i])), 4) for i, stage in enumerate(STAGES)},
        "network_ratio_to_first": ratio_to_first(timings, index, slice(1, 2)),
        "total_ratio_to_first": ratio_to_first(timings, index, slice(0, 3)),
    }


def _accuracies(ours: Sequence[Ours], other: MediaPipePose, dataset: Path, grown: float) -> list[dict[str, Any]]:
    """Of each peer on a data set; of the last one for both of its crops, and of those people that it says it sees."""
    photos, examples = PhotoCache(1 << 30), read_examples(dataset, LSP14)
    truth = np.stack([example.points for example in examples])

    def errors(found: Points) -> Points:
        measured = metrics.normalized_errors(found, truth, LSP14, "torso")
        return np.asarray(measured, np.float64)

    tables = []
    for peer in ours:
        places = [peer.points(photos[e.image], np.asarray(e.box, np.float64)[None])[0] for e in examples]
        every = errors(np.stack(places))
        tables.append({"people": len(examples), "pck_14": _share(every), "pck_12": _share(every[:, : len(JOINTS)])})
    table: dict[str, Any] = {"people": len(examples)}
    for name, turned in (("pck_12", False), ("pck_12_turned", True)):
        found, seen = np.full(truth.shape, np.inf), np.zeros(len(examples), np.bool_)
        for row, example in enumerate(examples):
            plain = CropRule(SIZE, other.padding).crop(example.box)
            crop = (upright(example.points, grown) or plain) if turned else plain
            found[row, : len(JOINTS)], score = other.locate(photos[example.image], crop)
            seen[row] = score > 0.5
        every = errors(found)[:, : len(JOINTS)]
        table |= {name: _share(every), f"{name}_seen_percent": round(100 * float(seen.mean()), 2)}
        if np.isfinite(every[seen]).any():
            table[f"{name}_of_seen"] = _share(every[seen])
    return [*tables, table]


def _share(errors: Points) -> dict[str, float]:
    return metrics.share(metrics.correct_joints(errors, 0.2)).scaled(100).to_dict()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown table: a line a peer and crop."""
    sets = list(rows[0].get("accuracy", {}))
    columns = [f"PCK@0.2 of 12 joints, {name}" for name in sets]
    head = ["model", "file", "crop", "network", "landmarks", "network / first", *columns]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        turned = sets and "pck_12_turned" in row["accuracy"][sets[0]]
        kinds = ["pck_12", "pck_12_turned"] if turned else ["pck_12"]
        for kind in kinds:
            lines.append(f"| {' | '.join(_cells(row, kind, sets))} |")
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any], kind: str, sets: Sequence[str]) -> list[str]:
    turned, ratio = kind.endswith("turned"), row["network_ratio_to_first"]
    cells = [row["name"] + (", turned by the labels" if turned else ""), f"{row['file_bytes'] / 1e6:.2f} MB"]
    cells += ["-"] * 4 if turned else [f"{row[f'{stage}_p50_ms']:.2f} ms" for stage in STAGES]
    if not turned:
        cells.append(f"{ratio['value']:.2f} ({ratio['ci95_low']:.2f} to {ratio['ci95_high']:.2f})")
    for name in sets:
        accuracy = row["accuracy"][name]
        value = accuracy[kind]
        text = f"{value['value']:.1f} % ({value['ci95_low']:.1f} to {value['ci95_high']:.1f})"
        if f"{kind}_of_seen" in accuracy:
            seen = accuracy[f"{kind}_seen_percent"]
            text += f"; {accuracy[f'{kind}_of_seen']['value']:.1f} % of the {seen:.0f} % it sees"
        cells.append(text)
    return cells


if __name__ == "__main__":
    main()
