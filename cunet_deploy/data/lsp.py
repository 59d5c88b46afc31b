"""The layouts of Leeds Sports Pose (LSP) and its extended training set (LSPET): a ``joints.mat`` beside ``images``.

Both files count pixels from 1, `read_lsp` counts from 0. Their third number of a joint means different things:

* LSP, ``joints`` of shape (3, 14, N): 1 is an *occluded* joint. It has a label like any other, so all joints count.
* LSPET, ``joints`` of shape (14, 3, N): 1 is a labelled joint; 0 is an unlabelled one whose coordinates are garbage.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.data.examples import Example
from cunet_deploy.errors import InputError

__all__ = ["FILE_NAME", "read_lsp"]

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
    try:
        joints = np.asarray(require("scipy.io", extra="train").loadmat(path)["joints"], np.float64)
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path}: is not the {FILE_NAME} of LSP or LSPET ({error}); download it again") from error
    names = _names(folder)
    points = _points(joints)
    if points is None or len(points) != len(names):
        raise InputError(
            f"{path}: joints of shape {joints.shape} and {len(names)} photos; expected (3, 14, N) or (14, 3, N) and N"
        )
    return [Example(folder / "images" / name, own, Path(name).stem) for name, own in zip(names, points, strict=True)]


def _names(folder: Path) -> list[str]:
    """Names of the photos in the order of the joints."""
    listed = folder / "images.json"
    if not listed.is_file():
        return sorted(path.name for path in (folder / "images").glob("*.jpg"))
    try:
        names = json.loads(listed.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{listed}: is not JSON ({error}); expected a list of names of photos") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{listed}: expected a list of names of photos")
    return names


def _points(joints: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(N, 14, 2) 0-based pixels, NaN where not labelled; ``None`` for another shape."""
    if joints.ndim == 3 and joints.shape[:2] == (3, 14):
        return np.asarray(joints[:2].T - 1)
    if joints.ndim == 3 and joints.shape[:2] == (14, 3):
        rows = np.moveaxis(joints, 2, 0)
        return np.where(rows[:, :, 2:] > 0, rows[:, :, :2] - 1, np.nan)
    return None
