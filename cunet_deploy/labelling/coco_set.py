"""Labels as a COCO keypoints file that `cunet_deploy.data.coco` reads, with the frames of clips as photos beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from cunet_deploy.errors import InputError
from cunet_deploy.labelling.agreement import Consensus
from cunet_deploy.labelling.pictures import Found
from cunet_deploy.landmarks import coco_category
from cunet_deploy.skeletons import Skeleton

__all__ = ["CocoSet"]

_LABEL_FOLDERS = ("annotations", "annot")
"""Folders of label files beside those of photos: names of photos start from the folder above."""
_QUALITY = 95


class CocoSet:
    """Collects labels. Frames are written as they come, into a folder that gets its name in `finish`.

    A context manager: what is not finished leaves nothing behind.
    """

    def __init__(self, out: Path, skeleton: Skeleton, *, overwrite: bool) -> None:
        """Take the path of the JSON file.

        Raises:
            InputError: the folder of its frames exists, and ``overwrite`` is false or it holds something else than the
                frames of the set that is replaced.
        """
        self._skeleton = skeleton
        self._root = (out.parent.parent if out.parent.name in _LABEL_FOLDERS else out.parent).resolve()
        self._folder = self._root / out.stem
        self._part = self._folder.with_name(f"{out.stem}.part")
        if self._folder.exists() and not overwrite:
            raise InputError(
                f"{self._folder}: exists, and frames of clips would go there; move it away, or overwrite it",
                option="overwrite",
            )
        if self._folder.exists() and (kept := _not_frames(self._folder, out)):
            raise InputError(
                f"{self._folder}: holds {kept}, which is no frame of {out}, and frames of clips would go there; give "
                f"another name with -o, or move the folder away"
            )
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def __enter__(self) -> CocoSet:
        shutil.rmtree(self._part, ignore_errors=True)  # of a run that was killed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._part, ignore_errors=True)

    def add(self, found: Found, objects: Sequence[Consensus], min_joints: float) -> None:
        """Note what is in a picture.

        Args:
            found: the picture; a frame is written as a photo.
            objects: in it. One with too few joints keeps its box alone, so that nobody takes it for background.
            min_joints: least share of its joints that must be agreed on.

        Raises:
            InputError: the picture is in the folder that this set replaces.
        """
        if not objects:
            return
        if found.file is not None and found.file.is_relative_to(self._folder):
            raise InputError(
                f"{found.file}: is in {self._folder}, which holds the frames of the set that is being written; give "
                f"the set another name with -o"
            )
        height, width = found.picture.image.shape[:2]
        identity = len(self._images) + 1
        name = self._write(found) if found.file is None else self._name(found.file)
        self._images.append({"id": identity, "file_name": name, "width": width, "height": height})
        for consensus in objects:
            row = _annotation(consensus, labelled=consensus.agreed_share >= min_joints)
            number = len(self._annotations) + 1
            self._annotations.append({"id": number, "image_id": identity, "category_id": 1, **row})

    def finish(self, temporary: Path, info: dict[str, Any]) -> None:
        """Write the file to a temporary path, and give the folder of frames its name."""
        table = {
            "info": {**info, "frames": self._folder.name if self._part.exists() else None},
            "images": self._images,
            "annotations": self._annotations,
            "categories": [coco_category(self._skeleton)],
        }
        temporary.write_text(json.dumps(table, allow_nan=False) + "\n", encoding="utf-8")
        shutil.rmtree(self._folder, ignore_errors=True)  # it holds frames of the earlier set, see `__init__`
        if self._part.exists():
            self._part.rename(self._folder)

    def _name(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix() if file.is_relative_to(self._root) else str(file)

    def _write(self, found: Found) -> str:
        self._part.mkdir(parents=True, exist_ok=True)
        data = cv2.imencode(".jpg", found.picture.image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        (self._part / f"{found.stem}.jpg").write_bytes(data.tobytes())
        return f"{self._folder.name}/{found.stem}.jpg"


def _not_frames(folder: Path, earlier: Path) -> str:
    """Name of a file in a folder that is no frame of an earlier set; empty where all are."""
    try:
        table = json.loads(earlier.read_text(encoding="utf-8"))
        frames = {row["file_name"] for row in table["images"]} if table["info"].get("frames") == folder.name else set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        frames = set()
    names = (path.name for path in sorted(folder.iterdir())) if folder.is_dir() else iter([folder.name])
    return next((name for name in names if f"{folder.name}/{name}" not in frames), "")


def _annotation(consensus: Consensus, *, labelled: bool) -> dict[str, Any]:
    """A row without its ids. COCO's boxes count from the corner of the photo, keypoints from the middle of a pixel."""
    x0, y0, x1, y1 = consensus.box.tolist()
    box = [round(value, 2) for value in (x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0)]
    row: dict[str, Any] = {"bbox": box, "iscrowd": 0, "agreed": round(consensus.agreed_share, 3)}
    if not labelled:
        return {**row, "num_keypoints": 0, "keypoints": []}
    table = np.where(
        consensus.kept[:, None], np.concatenate([consensus.points, np.full((len(consensus.kept), 1), 2.0)], axis=1), 0.0
    )
    return {
        **row,
        "num_keypoints": int(consensus.kept.sum()),
        "keypoints": table.round(2).ravel().tolist(),
        "keypoint_scores": _numbers(consensus.scores),
        "keypoint_apart": _numbers(consensus.apart),
    }


def _numbers(values: Any) -> list[float | None]:
    return [round(value, 3) if np.isfinite(value) else None for value in np.asarray(values).tolist()]
