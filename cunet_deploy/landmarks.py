"""The result of localization."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError, MissingDependencyError
from cunet_deploy.skeletons import IBUG68, Skeleton

__all__ = ["Landmarks", "coco_category", "format_pts"]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks of the N objects of one image.

    Attributes:
        points: (N, K, 2) float32, x then y, in pixels of the image; (0, 0) is the centre of the top-left pixel.
        scores: (N, K) float32 in [0, 1]: the share of landmarks with such a peak that are right, where the model was
            exported with calibrated scores; else the height of each landmark's heatmap peak.
        boxes: (N, 4) float32, x0, y0, x1, y1 in pixels of the image: where the object was looked for.
        skeleton: names of the K landmarks, in order.
        ids: (N,) int64 track ids, the same for the same object in successive frames; they count up from 0 in one image.
    """

    points: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    skeleton: Skeleton
    ids: NDArray[np.int64]

    def __post_init__(self) -> None:
        count, landmarks = len(self.points), len(self.skeleton)
        expected = {"points": (count, landmarks, 2), "scores": (count, landmarks), "boxes": (count, 4), "ids": (count,)}
        for name, shape in expected.items():
            got = getattr(self, name).shape
            if got != shape:
                raise InputError(f"Landmarks.{name} must have shape {shape}, got {got}")

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        """Counts, names and confidences; the arrays alone would fill pages."""
        confidence = ", ".join(f"{value:.2f}" for value in self.confidence)
        ids = ", ".join(map(str, self.ids.tolist()))
        what = f"{len(self)} x {len(self.skeleton)} {self.skeleton.name}"
        return f"Landmarks({what}, ids [{ids}], confidence [{confidence}])"

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(N,) mean score of each object's landmarks."""
        return np.asarray(self.scores.mean(axis=1), np.float32)

    @cached_property
    def pose(self) -> NDArray[np.float32]:
        """(N, 3) yaw, pitch and roll of each head in degrees, computed when first asked for.

        Yaw is positive when the face looks to the right of the image, pitch when it looks down, roll counter-clockwise;
        see `cunet_deploy.head_pose`. NaN where the landmarks are not those of a face, or not the 68 of ibug68.
        """
        if self.skeleton.name != IBUG68.name:
            return np.full((len(self), 3), np.nan, np.float32)
        from cunet_deploy.head_pose import head_pose  # loads OpenCV

        return head_pose(self.points)

    @property
    def yaw(self) -> NDArray[np.float32]:
        """(N,) degrees, positive when a face looks to the right of the image; see `pose`."""
        return self.pose[:, 0]

    @property
    def pitch(self) -> NDArray[np.float32]:
        """(N,) degrees, positive when a face looks down; see `pose`."""
        return self.pose[:, 1]

    @property
    def roll(self) -> NDArray[np.float32]:
        """(N,) degrees, positive counter-clockwise; see `pose`."""
        return self.pose[:, 2]

    @classmethod
    def empty(cls, skeleton: Skeleton) -> Landmarks:
        """No object."""
        count = len(skeleton)
        return cls(
            np.zeros((0, count, 2), np.float32),
            np.zeros((0, count), np.float32),
            np.zeros((0, 4), np.float32),
            skeleton,
            np.zeros(0, np.int64),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists: ``{"objects": [{"id", "box", "landmarks", "scores"}, ...], "names": [...]}``."""
        objects = [
            {"id": identity, "box": box, "landmarks": points, "scores": scores}
            for identity, box, points, scores in zip(
                self.ids.tolist(),
                self.boxes.astype(np.float64).round(2).tolist(),
                self.points.astype(np.float64).round(2).tolist(),
                self.scores.astype(np.float64).round(3).tolist(),
                strict=True,
            )
        ]
        return {"objects": objects, "names": list(self.skeleton.landmarks)}

    def to_numpy(self) -> NDArray[np.float32]:
        """(N, K, 3) x, y and score of each landmark."""
        return np.concatenate([self.points, self.scores[:, :, None]], axis=2, dtype=np.float32)

    def to_coco(
        self, image_id: int = 0, first_id: int = 1, category_id: int = 1, visible_score: float | None = None
    ) -> list[dict[str, Any]]:
        """Annotations as in a COCO keypoints file, one for each object.

        A landmark is given as visible (``v`` = 2), or as hidden (1) below ``visible_score``; its score is in
        ``"keypoint_scores"``. Coordinates of landmarks are those of `points`; ``"bbox"`` is x, y, width, height, from
        the corner of the image as in COCO, half a pixel more than in `boxes`; ``"track_id"`` is the object's id.

        Args:
            image_id: of the image.
            first_id: of the first annotation; those after it count up. COCO's own tools take 0 for none.
            category_id: of the kind of object, see `coco_category`.
            visible_score: as in the model's manifest; ``None``: scores do not tell hidden landmarks.
        """
        visible = np.where(self.scores < (visible_score or 0), 1.0, 2.0)
        flat = np.concatenate([self.points, visible[..., None]], axis=2)
        sizes = self.boxes[:, 2:] - self.boxes[:, :2]
        rows = zip(
            self.ids.tolist(),
            flat.reshape(len(self), 3 * len(self.skeleton)).astype(np.float64).round(2).tolist(),
            np.concatenate([self.boxes[:, :2] + 0.5, sizes], axis=1).astype(np.float64).round(2).tolist(),
            sizes.prod(axis=1).astype(np.float64).round(2).tolist(),
            self.confidence.astype(np.float64).round(3).tolist(),
            self.scores.astype(np.float64).round(3).tolist(),
            strict=True,
        )
        return [
            {
                "id": number,
                "image_id": image_id,
                "category_id": category_id,
                "track_id": identity,
                "num_keypoints": len(self.skeleton),
                "keypoints": keypoints,
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "score": score,
                "keypoint_scores": scores,
            }
            for number, (identity, keypoints, box, area, score, scores) in enumerate(rows, first_id)
        ]

    def to_supervision(self) -> Any:
        """A ``supervision.KeyPoints``, with the objects' ids as ``data["track_id"]``.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        try:
            kind: Any = importlib.import_module("supervision").KeyPoints
        except ImportError as error:
            raise MissingDependencyError("supervision is not installed; run: pip install supervision") from error
        # the field had the shorter name until 0.27, where that came to mean the whole object's
        named = "keypoint_confidence" in getattr(kind, "__dataclass_fields__", {})
        confidence = {"keypoint_confidence" if named else "confidence": self.scores}
        classes = np.zeros(len(self), np.int64)
        return kind(xy=self.points, class_id=classes, data={"track_id": self.ids}, **confidence)

    def plot(self, image: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
        """A copy of the image with the landmarks and their contours drawn into it, (H, W, 3) uint8 BGR.

        Args:
            image: the one that was localized in, in any form that `cunet_deploy.Localizer.predict` takes.

        Raises:
            InputError: the image is of another form.
        """
        from cunet_deploy.drawing import draw_landmarks  # loads OpenCV, which a result needs for nothing else

        return draw_landmarks(image, self.points, self.ids, self.skeleton)


def coco_category(skeleton: Skeleton, category_id: int = 1) -> dict[str, Any]:
    """The entry of ``"categories"`` that names the landmarks and edges; COCO counts those from 1."""
    return {
        "id": category_id,
        "name": skeleton.name,
        "supercategory": "",
        "keypoints": list(skeleton.landmarks),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.edges],
    }


def format_pts(points: NDArray[np.floating]) -> str:
    """A ``.pts`` file of (N, 2) points, which are 0-based here and 1-based there."""
    rows = "".join(f"{x:.3f} {y:.3f}\n" for x, y in (points.astype(float) + 1).tolist())
    return f"version: 1\nn_points: {len(points)}\n{{\n{rows}}}\n"
