"""The layouts of Leeds Sports Pose: a ``joints.mat`` beside a folder of ``images``.

The file counts pixels from 1; `read_lsp` counts from 0.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cunet_deploy._optional import require
from cunet_deploy.data.examples import Example
from cunet_deploy.errors import InputError

__all__ = ["read_lsp"]


def read_lsp(folder: Path) -> list[Example]:
    """Read the extended set (LSPET): 14 joints, ``joints`` of shape (14, 3, N) with rows x, y, labelled.

    Raises:
        InputError: the folder or its ``joints.mat`` is missing or holds something else.
    """
    path = folder / "joints.mat"
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected the joints.mat of LSPET beside a folder of images")
    try:
        joints = np.asarray(require("scipy.io", extra="train").loadmat(path)["joints"], np.float64)
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path}: is not the joints.mat of LSPET ({error}); download it again") from error
    listed = folder / "images.json"
    names = (
        json.loads(listed.read_text(encoding="utf-8"))
        if listed.is_file()
        else sorted(item.name for item in (folder / "images").glob("*.jpg"))
    )
    if joints.ndim != 3 or joints.shape[:2] != (14, 3) or joints.shape[2] != len(names):
        raise InputError(f"{path}: joints of shape {joints.shape} and {len(names)} photos; expected (14, 3, N) and N")
    points = np.moveaxis(joints, 2, 0)
    points = np.where(points[:, :, 2:] > 0, points[:, :, :2] - 1, np.nan)
    return [Example(folder / "images" / name, own, Path(name).stem) for name, own in zip(names, points, strict=True)]
