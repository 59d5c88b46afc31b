"""Photos with boxes: a ``faces.json`` lists for each photo of its folder the boxes of all objects in it.

``{"NAME.jpg": [[x, y, width, height, score], ...], ...}`` in 0-based pixels; the score says how sure the label is, 1
where a person drew it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError

__all__ = ["FILE_NAME", "BoxedPhoto", "read_faces"]

FILE_NAME = "faces.json"


@dataclass(frozen=True, eq=False)
class BoxedPhoto:
    """A photo and what is in it.

    Attributes:
        image: path of the photo.
        boxes: (N, 4) xyxy, 0-based pixels.
        scores: (N,) in [0, 1], how sure the label is; 0 where something may be that nobody labelled.
        photo: identifies the photo; splits keep files of one photo together.
    """

    image: Path
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    photo: str

    @property
    def longer(self) -> NDArray[np.float64]:
        """(N,) longer sides."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1, initial=0))


def read_faces(folder: Path, bad: list[str] | None = None) -> list[BoxedPhoto]:
    """Read a folder with a ``faces.json``, in order of file names.

    Args:
        folder: holds both.
        bad: where to note photos that are missing; ``None`` makes the first one an error.

    Raises:
        InputError: the list is missing or not of this form, or a photo is missing and ``bad`` is ``None``.
    """
    path = folder / FILE_NAME
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        rows = {str(name): np.array(boxes, np.float64).reshape(-1, 5) for name, boxes in sorted(table.items())}
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; expected photos and a {FILE_NAME} of the boxes in them") from error
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: is not a list of boxes ({error}); expected {{photo: [[x, y, width, height, score], ...]}}"
        ) from error
    photos = []
    for name, boxes in rows.items():
        if not (folder / name).is_file():
            if bad is None:
                raise InputError(f"{folder / name}: is missing, but {FILE_NAME} lists it; restore it or use --skip-bad")
            bad.append(f"{folder / name}: is missing")
            continue
        if not np.isfinite(boxes).all() or (boxes[:, 2:4] <= 0).any():
            raise InputError(f"{path}: {name} has a box without area or with a number that is not finite; fix it")
        xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], axis=1)
        # STEM_1, STEM_2 show the same photo
        photos.append(BoxedPhoto(folder / name, xyxy, boxes[:, 4], re.sub(r"_[1-9]\d?$", "", Path(name).stem)))
    if not photos:
        raise InputError(f"{path}: lists no photo; is it the right folder?")
    return photos
