"""MediaPipe's body landmark network behind the calls of `peers.Peer`, and the crops that it is made for.

What is said here of MediaPipe is in its public graphs, in mediapipe/modules/pose_landmark: the input and the order of
the landmarks in ``pose_landmark_by_roi_cpu.pbtxt``, what is done with the outputs in
``tensors_to_pose_landmarks_and_segmentation.pbtxt``, and the crop of the next picture of a video in
``pose_landmarks_to_roi.pbtxt``. Nothing of it is stored here; its file is given by the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop, CropRule
from tools.peers.adapters import load_litert, mediapipe_file, rgb_crop

__all__ = ["GROWN", "JOINTS", "PADDING", "SIZE", "MediaPipePose", "next_crop", "refined", "upright"]

Points = NDArray[np.float64]

MEMBER = "pose_landmark/pose_landmark_full.tflite"
SIZE = 256
JOINTS = (28, 26, 24, 23, 25, 27, 16, 14, 12, 11, 13, 15)
"""Numbers of BlazePose's landmarks in the order of the first twelve of lsp14."""
HIPS, SHOULDERS = (23, 24), (11, 12)
CENTER, REACH = 33, 34
"""Landmarks that are no joints: the middle of the hips, and a point of the circle around the body."""
MARGIN = 1.25
"""Side of MediaPipe's crop, in diameters of that circle."""
PADDING, GROWN = 1.8, 1.25
"""Side of a crop like ours, in longer sides of the box, and of one by the labels, in diameters of the circle around the
labelled joints. Of 1.25, 1.4, 1.6, 1.8 and 2.0, and of 1.0, 1.1, 1.25 and 1.4, these are the best on ``lspet#val``."""
CELLS, REACHED, CONFIDENT = 64, 3, 0.5
"""Side of its heatmaps, the cells searched on each side of a landmark, and the peak from which they are used."""


class Output(NamedTuple):
    """Output of the network: (39, 2) landmarks in pixels of the crop, the score that somebody is there, heatmaps."""

    points: Points
    score: float
    maps: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MediaPipePose:
    """MediaPipe's body landmark network (256 px), run by LiteRT. See `peers.Peer`.

    Attributes:
        interpreter: with the network loaded.
        outputs: indices of its tensors of landmarks, score and heatmaps.
        bytes: size of the file.
        padding: side of the first crop divided by the longer side of the box.
    """

    interpreter: Any
    outputs: tuple[int, int, int]
    bytes: int | None
    padding: float = PADDING
    name: str = "MediaPipe Pose (full), LiteRT"
    trained: bool = True

    @classmethod
    def load(cls, file: Path, threads: int, padding: float = PADDING) -> MediaPipePose:
        """Load the network from a wheel of mediapipe, or another one of its kind (lite, heavy) from a .tflite file.

        Raises:
            MissingDependencyError: LiteRT is not installed.
            InputError: there is no such network in the file.
        """
        content = mediapipe_file(file, MEMBER)
        interpreter = load_litert(content, threads, file)
        takes = [tuple(int(n) for n in item["shape"]) for item in interpreter.get_input_details()]
        found = {tuple(int(n) for n in item["shape"]): item["index"] for item in interpreter.get_output_details()}
        wanted = ((1, 195), (1, 1), (1, CELLS, CELLS, 39))
        if takes != [(1, SIZE, SIZE, 3)] or not set(wanted) <= set(found):
            raise InputError(
                f"{file}: takes {takes} and returns {sorted(found)}; MediaPipe's pose network returns {wanted}"
            )
        landmarks, score, maps = (found[shape] for shape in wanted)
        name = cls.name if file.suffix == ".whl" else f"MediaPipe {file.stem}, LiteRT"
        return cls(interpreter, (landmarks, score, maps), len(content), padding, name)

    def prepare(self, image: NDArray[np.uint8], box: Points) -> tuple[Crop, NDArray[np.float32]]:
        """See `Peer`."""
        return self._prepared(image, self.plain(box))

    def network(self, prepared: tuple[Crop, NDArray[np.float32]]) -> Output:
        """See `Peer`."""
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], prepared[1])
        self.interpreter.invoke()
        points, score, maps = (np.asarray(self.interpreter.get_tensor(index)) for index in self.outputs)
        return Output(points.reshape(39, 5)[:, :2].astype(np.float64), float(score.ravel()[0]), maps[0])

    def finish(self, prepared: tuple[Crop, Any], output: Output) -> Points:
        """(39, 2) landmarks in the image. The network's pixels have (0, 0) at the corner of the picture."""
        return prepared[0].to_image(refined(output.points, output.maps) - 0.5)

    def locate(self, image: NDArray[np.uint8], crop: Crop) -> tuple[Points, float]:
        """(39, 2) landmarks in the image, and the score that there is somebody in the crop."""
        prepared = self._prepared(image, crop)
        output = self.network(prepared)
        return self.finish(prepared, output), output.score

    def plain(self, box: Points) -> Crop:
        """The crop that is not turned."""
        return CropRule(SIZE, self.padding).crop(box)

    @staticmethod
    def _prepared(image: NDArray[np.uint8], crop: Crop) -> tuple[Crop, NDArray[np.float32]]:
        return crop, rgb_crop(image, crop)[None].astype(np.float32) * np.float32(1 / 255)


def refined(points: Points, maps: NDArray[np.float32]) -> Points:
    """(39, 2) landmarks in the crop, as MediaPipe corrects them by the heatmaps.

    Where one inside the crop has a confident cell among the 7 x 7 around it, it becomes their mean, weighted by
    confidence; a cell counts as its upper left corner.

    Args:
        points: (39, 2) pixels of the crop.
        maps: (64, 64, 39) heatmaps before the sigmoid.
    """
    cells = np.floor(points * (CELLS / SIZE)).astype(np.int64)
    near = cells[:, :, None] + np.arange(-REACHED, REACHED + 1)  # (39, 2, 7): columns, then rows
    known = (near >= 0) & (near < CELLS)
    columns, rows = np.moveaxis(near.clip(0, CELLS - 1), 1, 0)
    logits = maps[rows[:, :, None], columns[:, None, :], np.arange(len(points))[:, None, None]].astype(np.float64)
    weights = known[:, 1, :, None] * known[:, 0, None, :] / (1 + np.exp(-logits.clip(-60, 60)))
    total = np.maximum(weights.sum(axis=(1, 2)), 1e-12)
    means = np.stack(
        [(weights * columns[:, None, :]).sum(axis=(1, 2)), (weights * rows[:, :, None]).sum(axis=(1, 2))], axis=1
    )
    sure = (weights.max(axis=(1, 2)) >= CONFIDENT) & ((cells >= 0) & (cells < CELLS)).all(axis=1)
    return np.where(sure[:, None], means / total[:, None] * (SIZE / CELLS), points)


def next_crop(landmarks: Points) -> Crop | None:
    """The crop for a second look, by (39, 2) landmarks that were found; ``None`` where they are all in one place.

    Its size is MediaPipe's own for the next picture of a video: a square around the middle of the hips, `MARGIN` times
    as large as the circle through its 35th point. MediaPipe turns that point up. Here the shoulders are turned up, by
    which the network finds more: 51 % of the joints of ``lspet#val`` in place of 45 %.
    """
    hips, shoulders = (landmarks[list(pair)].mean(axis=0) for pair in (HIPS, SHOULDERS))
    reach = float(np.linalg.norm(landmarks[REACH] - landmarks[CENTER]))
    return _turned(hips, shoulders, 2 * MARGIN * reach)


def upright(joints: Points, grown: float) -> Crop | None:
    """The crop by (14, 2) labelled joints of lsp14, as MediaPipe's would be; ``None`` without a labelled torso."""
    order = list(JOINTS)
    hips, shoulders = (joints[[order.index(number) for number in pair]].mean(axis=0) for pair in (HIPS, SHOULDERS))
    reach = float(np.nanmax(np.linalg.norm(joints - hips, axis=1), initial=0))
    return _turned(hips, shoulders, 2 * grown * reach)


def _turned(hips: Points, shoulders: Points, side: float) -> Crop | None:
    """A square around the hips in which the shoulders are above them; ``None`` where that says nothing."""
    x, y = shoulders - hips
    if not np.isfinite([x, y, side]).all() or side < 1 or (x == 0 and y == 0):
        return None
    return Crop((float(hips[0]), float(hips[1])), side, SIZE, float(np.degrees(np.arctan2(x, -y))))
