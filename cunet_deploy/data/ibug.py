"""The 300-W layout: ``NAME.jpg`` beside ``NAME.pts``, several labelled faces of a photo as ``STEM_1``, ``STEM_2``.

`cunet_deploy.data.layout.face_stems` says for which names. A ``.pts`` file counts pixels from 1; `read_pts` counts
from 0. A landmark at (-1, -1) or (0, 0), as the file counts, is not labelled. ``faces.json``, where a folder has one,
lists for each photo the boxes of all its faces, labelled or not, as ``[x, y, w, h, score]``. Without it, other faces
of a photo count as background where background is drawn. Of renders it is also read which landmarks are visible, see
`cunet_deploy.data.visibility`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.examples import Example
from cunet_deploy.data.faces import FILE_NAME, read_face_boxes
from cunet_deploy.data.layout import Layout, face_stems, tell_placeholders, without_placeholders
from cunet_deploy.data.visibility import read_visibility
from cunet_deploy.errors import InputError
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES
from cunet_deploy.skeletons import IBUG68, Skeleton

__all__ = ["LAYOUT", "read_300w", "read_pts"]


def read_pts(path: Path, count: int | None = None) -> NDArray[np.float64]:
    """Read a ``.pts`` file.

    The header may be spelled ``n_points: 68`` or ``n_points 68`` or be absent, coordinates may be separated by blanks,
    tabs or commas, braces may stand on lines of their own or beside the header, and ``#`` or ``//`` starts a comment.

    Args:
        path: the file.
        count: how many landmarks are expected; ``None`` takes any number.

    Returns:
        (K, 2) 0-based pixels; NaN where not labelled.

    Raises:
        InputError: the file is missing, truncated or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); every photo needs a .pts file beside it"
        ) from error
    except UnicodeDecodeError as error:
        raise _unusable(f"{path}: is not a text file; expected the .pts format of 300-W") from error
    lines = [re.sub(r"(#|//).*", "", line).strip() for line in text.splitlines()]
    body = "\n".join(lines)
    stated = re.search(r"n_points\s*:?\s*(\d+)", body)
    start, end = body.find("{"), body.rfind("}")
    if start >= 0 and end < start:
        raise _unusable(f"{path}: the closing brace is missing, so the file is cut off")
    if start < 0:
        body = "\n".join(line for line in lines if not re.match(r"(version|n_points)\b", line))
    else:
        body = body[start + 1 : end]
    rows = [re.split(r"[\s,;]+", line.strip()) for line in body.splitlines() if line.strip()]
    try:
        points = np.array([[float(x), float(y)] for x, y in rows], np.float64).reshape(-1, 2)
    except ValueError as error:
        raise _unusable(f"{path}: a line is not two numbers; expected 'x y' of one landmark a line") from error
    if count is not None and stated and len(points) == int(stated.group(1)) != count:
        raise InputError(
            f"{path}: has {len(points)} landmarks, and the model {count}; give a data set of the same ones"
        )
    expected = count if count is not None else int(stated.group(1)) if stated else len(points)
    if len(points) != expected or not len(points) or not np.isfinite(points).all():
        raise _unusable(f"{path}: holds {len(points)} landmarks, expected {expected} finite ones")
    return without_placeholders(points)[0] - 1


def _unusable(message: str) -> InputError:
    return InputError(f"{message}; mend the file, or skip it", option="skip_bad")


def read_300w(folder: Path, count: int, *, bad: list[str] | None = None) -> list[Example]:
    """Read a folder of the 300-W layout, in order of file names.

    Args:
        folder: holds the photos and ``.pts`` files, without sub-folders.
        count: landmarks a face must have.
        bad: where to note files that cannot be used; ``None`` makes the first one an error.

    Raises:
        InputError: the folder is missing or holds no labelled photo, or a file is bad and ``bad`` is ``None``.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected photos with .pts files beside them")
    faces, examples, placeholders = _read_faces(folder / FILE_NAME, bad), [], 0
    seen = read_visibility(folder, count, bad)
    files = sorted(_label_files(folder))
    photos = face_stems([labels.stem for labels in files])
    for labels in files:
        spellings = (spelling for suffix in IMAGE_SUFFIXES for spelling in (suffix, suffix.upper()))
        images = [path for suffix in spellings if (path := labels.with_suffix(suffix)).is_file()]
        try:
            if not images:
                raise InputError(f"{labels}: has no photo beside it (tried {', '.join(IMAGE_SUFFIXES)})")
            points = read_pts(labels, count)
            labelled = points[np.isfinite(points).all(axis=1)]
            if not len(labelled) or min(np.ptp(labelled, axis=0)) <= 0:
                raise _unusable(f"{labels}: the landmarks span no area")
        except InputError as error:
            if bad is None:
                raise
            bad.append(str(error))
            continue
        placeholders += len(points) - len(labelled)
        name = images[0].name
        others, visible = faces.get(name, np.zeros((0, 4))), seen.get(name, np.full(count, np.nan) if seen else None)
        photo = photos[labels.stem]
        examples.append(Example(images[0], points, photo, others, where=str(labels), visible=visible))
    tell_placeholders(folder, placeholders)
    if not examples:
        raise InputError(f"{folder}: holds no photo with a usable .pts file; is it the right folder?")
    return examples


def _label_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() == ".pts")


def _read_faces(path: Path, bad: list[str] | None) -> dict[str, NDArray[np.float64]]:
    """Boxes of all faces by photo, as (M, 4) xyxy; empty where the folder has no such list."""
    if not path.is_file():
        return {}
    boxes = {
        name: np.array(rows, np.float64).reshape(-1, 5)[:, :4] for name, rows in read_face_boxes(path, bad).items()
    }
    return {name: np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1) for name, xywh in boxes.items()}


def _read(folder: Path, skeleton: Skeleton, part: str, bad: list[str] | None) -> dict[str, list[Example]]:
    return {"": read_300w(folder, len(skeleton), bad=bad)}


LAYOUT = Layout(
    "300w", ".pts files", lambda folder: next(_label_files(folder), None) is not None, _read, skeleton=IBUG68
)
