"""Visibility of the landmarks of renders, read from the lines beside the folder of pictures.

``cunet-deploy synth`` writes a line of JSON for each picture, ``{"image": "faces/000000.jpg", "visibility": [2, 0,
...], ...}``, into the files of ``blocks/`` and, once all are there, into ``faces.jsonl`` beside the folder ``faces``.
2 is visible; 1 and 0 are hidden, by something else or by the head itself.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json, read_text
from cunet_deploy.data.layout import refuse
from cunet_deploy.errors import InputError

__all__ = ["read_visibility"]

_VISIBLE = 2


class _Line(msgspec.Struct, gc=False):
    image: str = ""
    visibility: list[int] | None = None


def read_visibility(folder: Path, count: int, bad: list[str] | None = None) -> dict[str, NDArray[np.float64]]:
    """Read the visibility of landmarks, by the name of the picture; empty for a folder that is not of renders.

    Args:
        folder: of the pictures.
        count: landmarks of each.
        bad: where to note lines that cannot be used; ``None`` makes the first one an error.

    Returns:
        (count,) 1 where a landmark is visible, 0 where it is hidden.

    Raises:
        InputError: a line is no JSON or has another number of landmarks, and ``bad`` is ``None``.
    """
    parent = folder.resolve().parent
    files = sorted((parent / "blocks").glob("*.jsonl")) or [parent / f"{folder.resolve().name}.jsonl"]
    found = {}
    for path in files:
        if not path.is_file():
            continue
        for number, text in enumerate(read_text(path, "lines about renders", InputError).splitlines(), 1):
            try:
                line = decode_json(text, _Line)
            except InputError as error:
                refuse(f"{path}, line {number}: is no line about a render ({error})", bad)
                continue
            where, _, name = line.image.rpartition("/")
            if where != folder.resolve().name or line.visibility is None:
                continue  # of other pictures, or written by something else
            if len(line.visibility) != count:
                refuse(f"{path}, line {number}: {len(line.visibility)} numbers in visibility; expected {count}", bad)
                continue
            found[name] = (np.array(line.visibility) == _VISIBLE).astype(np.float64)
    return found
