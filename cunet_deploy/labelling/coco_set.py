"""Labels as a COCO keypoints file that `cunet_deploy.data.coco` reads, with the frames of clips as photos beside it."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from cunet_deploy._files import part_path, write_bytes_atomic
from cunet_deploy.errors import InputError
from cunet_deploy.labelling.agreement import Consensus
from cunet_deploy.labelling.journal import Labelled
from cunet_deploy.labelling.pictures import Found
from cunet_deploy.landmarks import coco_category
from cunet_deploy.skeletons import Skeleton

__all__ = ["CocoSet", "read_info"]

_LABEL_FOLDERS = ("annotations", "annot")
"""Folders of label files beside those of photos: names of photos start from the folder above."""
_QUALITY = 95
_LONGEST_STEM = 200
"""Bytes of a name that leave room for the number of the frame, in the usual file systems."""


class CocoSet:
    """Collects labels. Frames are written as they come, into a folder that gets its name in `finish`.

    A context manager: without any label it leaves nothing behind.
    """

    def __init__(self, out: Path, skeleton: Skeleton, *, overwrite: bool, goes_on: bool = False) -> None:
        """Take the path of the JSON file.

        Args:
            out: the file.
            skeleton: of the labels.
            overwrite: replace an earlier set.
            goes_on: continue an earlier set: its frames stay.

        Raises:
            InputError: the folder of its frames exists, and ``overwrite`` is false or it holds something else than the
                frames of the set that is replaced.
        """
        self._skeleton, self._goes_on = skeleton, goes_on
        self._root = (out.parent.parent if out.parent.name in _LABEL_FOLDERS else out.parent).resolve()
        self._folder = self._root / out.stem
        self._part = part_path(self._folder)
        self._earlier = _frames(out, self._folder)
        if self._folder.exists() and not (overwrite or goes_on):
            raise InputError(
                f"{self._folder}: exists, and frames of clips would go there; move it away, or overwrite it",
                option="overwrite",
            )
        if self._folder.exists() and not goes_on and (kept := self._not_ours()):
            raise InputError(
                f"{self._folder}: holds {kept}, which is no frame of {out}, and frames of clips would go there; give "
                f"another name with -o, or move the folder away"
            )
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._stems: dict[str, str] = {}

    def _not_ours(self) -> str:
        """Name of a file in the folder that is no frame of the earlier set; empty where all are."""
        folder = self._folder
        names = (path.name for path in sorted(folder.iterdir())) if folder.is_dir() else iter([folder.name])
        return next((name for name in names if name not in self._earlier), "")

    def __enter__(self) -> CocoSet:
        if not self._goes_on:
            shutil.rmtree(self._part, ignore_errors=True)  # of a run that was killed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._images:
            shutil.rmtree(self._part, ignore_errors=True)

    def add(self, item: Labelled, min_joints: float) -> None:
        """Note what is in a picture.

        Args:
            item: the picture. An object with too few joints keeps its box alone: nobody shall take it for background.
            min_joints: least share of its joints that must be agreed on.
        """
        if not item.objects:
            return
        identity = len(self._images) + 1
        width, height = item.size
        self._images.append({"id": identity, "file_name": item.file, "width": width, "height": height})
        if item.file.startswith(f"{self._folder.name}/"):
            self._stems[Path(item.file).stem.rpartition("_")[0].casefold()] = item.origin.source
        for consensus in item.objects:
            row = _annotation(consensus, labelled=consensus.agreed_share >= min_joints)
            number = len(self._annotations) + 1
            self._annotations.append({"id": number, "image_id": identity, "category_id": 1, **row})

    def finish(self, temporary: Path, info: dict[str, Any]) -> None:
        """Write the file to a temporary path, and give the folder of frames its name."""
        prefix = f"{self._folder.name}/"
        frames = {row["file_name"][len(prefix) :] for row in self._images if row["file_name"].startswith(prefix)}
        table = {
            "info": {**info, "frames": self._folder.name if frames else None},
            "images": self._images,
            "annotations": self._annotations,
            "categories": [coco_category(self._skeleton)],
        }
        temporary.write_text(json.dumps(table, allow_nan=False) + "\n", encoding="utf-8")
        for name in self._earlier - frames:
            (self._folder / name).unlink(missing_ok=True)
        if frames:
            self._folder.mkdir(exist_ok=True)
        elif self._earlier:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
        for name in frames:
            if (self._part / name).exists():
                (self._part / name).replace(self._folder / name)
        shutil.rmtree(self._part, ignore_errors=True)

    def name(self, found: Found) -> str:
        """Name of a picture in the set; a frame is written as a photo.

        Raises:
            InputError: the picture is in the folder that this set replaces.
            CunetError: the frame cannot be written.
        """
        if found.file is None:
            data = cv2.imencode(".jpg", found.picture.image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
            name = f"{self._stem(found)}_{found.origin.index:06d}.jpg"
            write_bytes_atomic(self._part / name, data.tobytes(), overwrite=True)
            return f"{self._folder.name}/{name}"
        if found.file.is_relative_to(self._folder):
            raise InputError(
                f"{found.file}: is in {self._folder}, which holds the frames of the set that is being written; give "
                f"the set another name with -o"
            )
        inside = found.file.is_relative_to(self._root)
        return found.file.relative_to(self._root).as_posix() if inside else str(found.file)

    def _stem(self, found: Found) -> str:
        """The beginning of the names of frames of a source, which those of no other have."""
        source, short = found.origin.source, found.stem.encode()[:_LONGEST_STEM].decode(errors="ignore")
        stems = itertools.chain([short], (f"{short}~{number}" for number in itertools.count(2)))
        return next(stem for stem in stems if self._stems.setdefault(stem.casefold(), source) == source)

    def has(self, item: Labelled) -> bool:
        """Return whether the photo of labels is still there."""
        return not item.file or self.place(item.file).exists()

    def place(self, name: str) -> Path:
        """Path of a picture of that name as long as the set is not finished."""
        part = self._part / Path(name).name
        return part if name.startswith(f"{self._folder.name}/") and part.exists() else self._root / name


def read_info(out: Path) -> dict[str, Any]:
    """Read the options with which a set was made.

    Raises:
        InputError: the file is none.
    """
    info = _read(out).get("info", {})
    if "producer" not in info:
        raise InputError(
            f"{out}: is no set that was labelled so; choose another name, or overwrite it", option="overwrite"
        )
    return dict(info)


def _frames(out: Path, folder: Path) -> set[str]:
    """Names of the files in the folder of frames that belong to an earlier set."""
    table = _read(out)
    if table.get("info", {}).get("frames") != folder.name:
        return set()
    paths = (str(row.get("file_name")).rpartition("/") for row in table["images"])
    return {name for parent, _, name in paths if parent == folder.name}


def _read(out: Path) -> dict[str, Any]:
    """An earlier set; empty where there is none."""
    try:
        table = json.loads(out.read_bytes())
        rows = [*table["images"], table["info"]]
        return dict(table) if all(isinstance(row, dict) for row in rows) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


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
