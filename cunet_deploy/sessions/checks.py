"""Checks of every session: the file, the graph against its manifest, and the crops it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._decode import decode_json
from cunet_deploy._files import file_sha256
from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.manifest import Manifest

__all__ = ["Port", "check_crops", "check_file", "check_graph", "matches_manifest", "read_manifest"]

Port = tuple[str, str, tuple[int | None, ...]]
"""An input or output of a graph: its name, its type as numpy calls it, and its shape with ``None`` for free sizes."""


def check_file(path: Path) -> None:
    """Refuse a model file that is missing or empty.

    Raises:
        InputError: it is.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if size == 0:
        raise InputError(f"{path}: is empty; export or copy the model again")


@dataclass(frozen=True)
class _Described:
    """Keys of ``manifest.json`` that are read here."""

    sha256: str | None = None


def matches_manifest(model: Path) -> bool | None:
    """Return whether a model is the file that ``manifest.json`` beside it describes; ``None``: nothing describes it.

    Raises:
        InputError: the model cannot be read.
        ArtifactError: ``manifest.json`` is damaged.
    """
    sidecar = model.with_name("manifest.json")
    try:
        expected = decode_json(sidecar.read_bytes(), _Described).sha256
    except FileNotFoundError:
        return None
    except (OSError, InputError) as error:
        raise ArtifactError(f"{sidecar}: is damaged ({error}); export the bundle again") from error
    return None if expected is None else file_sha256(model) == expected


def read_manifest(text: str | None, path: Path) -> Manifest:
    """The manifest that an ONNX file carries.

    Args:
        text: found under `cunet_deploy.manifest.METADATA_KEY`; ``None``: there is none.
        path: of the file.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    if text is None:
        raise ArtifactError(
            f"{path}: is ONNX but carries no cunet-deploy manifest; use a model.onnx that "
            "'cunet-deploy export CKPT -o DIR' wrote"
        )
    return Manifest.from_json(text, path)


def check_graph(path: Path, manifest: Manifest, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """The graph's input and output must be those of the manifest, with a free batch; landmarks may be outputs, too.

    Raises:
        ArtifactError: they are others.
    """
    size, cells, count = manifest.crop.size, manifest.map_size, len(manifest.skeleton)
    expected: dict[str, Port] = {
        "input": ("image", "uint8", (None, size, size, 3)),
        "output": ("heatmaps", "float32", (None, count, cells, cells)),
    }
    decoded: list[Port] = [("landmarks", "float32", (None, count, 2)), ("scores", "float32", (None, count))]
    for side, found in (("input", inputs), ("output", outputs)):
        if list(found) != [expected[side]] and (side == "input" or list(found) != [expected[side], *decoded]):
            raise ArtifactError(
                f"{path}: its {side} is {list(found)} but its manifest says {[expected[side]]}; export it again"
            )


def check_crops(images: NDArray[np.uint8], manifest: Manifest) -> None:
    """Refuse what is not (B, size, size, 3) uint8.

    Raises:
        InputError: it is not.
    """
    size = manifest.crop.size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise InputError(f"crops of shape (B, {size}, {size}, 3) uint8 expected, got {images.shape} {images.dtype}")
