"""The layouts of Leeds Sports Pose (LSP) and its extended training set (LSPET): a ``joints.mat`` beside ``images``.

Both files count pixels from 1, `read_lsp` counts from 0. Their third number of a joint means different things:

* LSP, ``joints`` of shape (3, 14, N): 1 is an *occluded* joint. It has a label like any other, so all joints count.
* LSPET, ``joints`` of shape (14, 3, N): 1 is a labelled joint; 0 is an unlabelled one whose coordinates are garbage.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.data.examples import Example
from cunet_deploy.data.layout import (
    Layout,
    as_skeleton,
    read_label_json,
    tell_placeholders,
    without_placeholders,
)
from cunet_deploy.data.matlab import read_mat
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import LSP14, Skeleton

__all__ = ["FILE_NAME", "LAYOUT", "read_lsp"]

FILE_NAME = "joints.mat"


def read_lsp(folder: Path) -> list[Example]:
    """Read LSP or LSPET, told apart by the shape of ``joints``: 14 joints of each person, in the file's order.

    The photos are those of ``images.json``, a list of names, where the folder has one, else all of ``images`` in order
    of name.

    Raises:
        InputError: the folder or its ``joints.mat`` is missing or holds something else.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected the {FILE_NAME} of LSP or LSPET beside a folder of images")
    found = read_mat(path, "joints", f"the {FILE_NAME} of LSP or LSPET")
    try:
        joints = np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: is not the {FILE_NAME} of LSP or LSPET ({error}); download it again") from error
    names = _names(folder)
    points, placeholders = _points(joints)
    if points is None or len(points) != len(names):
        raise InputError(
            f"{path}: joints of shape {joints.shape} and {len(names)} photos; expected (3, 14, N) or (14, 3, N) and N"
        )
    tell_placeholders(path, placeholders)
    return [
        Example(folder / "images" / name, own, Path(name).stem, where=f"{path}, person {number}")
        for number, (name, own) in enumerate(zip(names, points, strict=True), 1)
    ]


def _names(folder: Path) -> list[str]:
    """Names of the photos in the order of the joints."""
    listed = folder / "images.json"
    if not listed.is_file():
        return sorted(path.name for path in (folder / "images").glob("*.jpg"))
    return read_label_json(listed, list[str], "a list of names of photos")


def _points(joints: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, int]:
    """(N, 14, 2) 0-based pixels, NaN where not labelled, and how many placeholders; ``None`` for another shape."""
    if joints.ndim == 3 and joints.shape[:2] == (3, 14):
        rows = joints[:2].T
    elif joints.ndim == 3 and joints.shape[:2] == (14, 3):
        people = np.moveaxis(joints, 2, 0)
        rows = np.where(people[:, :, 2:] > 0, people[:, :, :2], np.nan)
    else:
        return None, 0
    labelled, count = without_placeholders(np.where(np.isfinite(rows).all(axis=-1, keepdims=True), rows, np.nan))
    return labelled - 1, count


def _read(folder: Path, skeleton: Skeleton, part: str, bad: list[str] | None) -> dict[str, list[Example]]:
    return {"": as_skeleton(read_lsp(folder), LSP14, skeleton, folder)}


LAYOUT = Layout("lsp", FILE_NAME, lambda folder: (folder / FILE_NAME).is_file(), _read, skeleton=LSP14)
