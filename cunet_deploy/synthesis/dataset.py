"""Writes folders of renders that training reads, in blocks, so that an interrupted run goes on where it was.

    DIR/synth.json           options, versions, licences; a later run has to agree with it
    DIR/faces/000000.jpg     a picture
    DIR/faces/000000.pts     its 68 landmarks, 300-W's format (pixels count from 1)
    DIR/blocks/00000.jsonl   a line for each face of a finished block
    DIR/faces.jsonl          all lines, once everything is there

A block's lines are written after its pictures, and every file is complete or not there. What a picture shows follows
from its number and the options alone: neither the number of workers nor interruptions change a byte.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import __version__
from cunet_deploy._files import write_bytes_atomic, write_text_atomic
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.synthesis.assets import AssetLibrary, listed_assets
from cunet_deploy.synthesis.gl import Graphics
from cunet_deploy.synthesis.lens import encode_jpeg
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.recipe import describe
from cunet_deploy.synthesis.render import FaceRenderer

__all__ = ["BLOCK", "format_pts", "write_faces"]

BLOCK = 20
"""Faces in a block."""

_FORMAT = 1
_STRAY = re.compile(r"\.\w{1,80}\.[0-9a-f]{8}\.(jpg|pts|jsonl|json)")
_QUEUE = 2  # blocks a worker is given ahead


def format_pts(points: NDArray[np.float64]) -> str:
    """A ``.pts`` file of (N, 2) points, which are 0-based here and 1-based there."""
    rows = "".join(f"{x + 1:.3f} {y + 1:.3f}\n" for x, y in points)
    return f"version: 1\nn_points: {len(points)}\n{{\n{rows}}}\n"


def write_faces(
    options: FaceOptions,
    count: int,
    folder: Path,
    *,
    workers: int = 1,
    advance: Callable[[int], None] = lambda done: None,
) -> int:
    """Render ``count`` faces into a folder, or what is missing of them.

    Args:
        options: what to render.
        count: faces with numbers from 0 on; more than an earlier run's adds to them.
        folder: new, empty, or of an earlier run with the same options.
        workers: processes; 1 renders in this one.
        advance: told how many faces were done, those of an earlier run at once.

    Returns:
        The number of faces that were rendered now.

    Raises:
        InputError: the folder holds something else.
        MissingDependencyError: a library of the extra ``[synth]`` is not installed.
        CunetError: a worker died, or the disk cannot be written to.
    """
    _claim(folder, options)
    _remove_strays(folder)
    blocks = range((count + BLOCK - 1) // BLOCK)
    missing = [block for block in blocks if _lines_of(folder, block) < _size(block, count)]
    rendered = sum(_size(block, count) for block in missing)
    advance(count - rendered)
    for block in _work(options, folder, missing, count, workers):
        advance(_size(block, count))
    lines = "".join(_block_file(folder, block).read_text("utf-8") for block in blocks)
    kept = "".join(line for line in lines.splitlines(keepends=True)[:count])
    write_text_atomic(folder / "faces.jsonl", kept, overwrite=True)
    return rendered


def _size(block: int, count: int) -> int:
    return min(BLOCK, count - block * BLOCK)


def _block_file(folder: Path, block: int) -> Path:
    return folder / "blocks" / f"{block:05d}.jsonl"


def _lines_of(folder: Path, block: int) -> int:
    """Lines of a finished block, 0 when it is not there."""
    try:
        return _block_file(folder, block).read_text("utf-8").count("\n")
    except FileNotFoundError:
        return 0


def _claim(folder: Path, options: FaceOptions) -> None:
    """Write ``synth.json``, or check that it says what this run would say."""
    library, graphics = AssetLibrary(), Graphics(64)
    renderer = graphics.renderer
    graphics.close()
    record: dict[str, Any] = {
        "format": _FORMAT,
        "made_with": {"cunet-deploy": __version__, "anny": library.version(), "renderer": renderer},
        "options": options.as_json(),
        "licence": "CC0-1.0",
        "assets": [
            {"name": asset.name, "package": asset.package, "authors": asset.authors, "licence": asset.licence}
            for asset in listed_assets()
        ],
        "user_files": [_user_files(name) for name in (options.backgrounds, options.environments) if name],
    }
    path = folder / "synth.json"
    text = json.dumps(record, indent=1) + "\n"
    try:
        old = dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        if folder.exists() and (not folder.is_dir() or next(folder.iterdir(), None) is not None):
            raise InputError(f"{folder}: exists and is no folder of renders; choose a new or empty folder") from None
        write_text_atomic(path, text, overwrite=False)
        return
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); remove the folder, or choose another") from error
    changed = _differences(old, json.loads(text))
    if changed:
        raise InputError(
            f"{folder}: holds renders of other options ({', '.join(changed)}); use the same ones to go on, "
            "or choose another folder"
        )


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What is not as it was, as ``name was A, is B``."""
    if old.get("format") != _FORMAT:
        return [f"format was {old.get('format')}, is {_FORMAT}"]
    found = []
    for table in ("options", "made_with"):
        for key, value in new[table].items():
            before = old.get(table, {}).get(key)
            if before != value:
                found.append(f"{key} was {before}, is {value}")
    if old.get("user_files") != new["user_files"] and not found:
        found.append("backgrounds or environments have changed")
    return found


def _user_files(folder: str) -> dict[str, Any]:
    """Names of the files in a user's folder, and what its ``LICENSE`` begins with."""
    path = Path(folder)
    stated = None
    for candidate in sorted(path.glob("LICEN[CS]E*")):
        first = candidate.read_text("utf-8", errors="replace").strip().splitlines()
        stated = first[0][:200] if first else None
    names = sorted(item.name for item in path.iterdir() if item.is_file())
    return {"folder": path.name, "licence_stated": stated, "files": names}


def _remove_strays(folder: Path) -> None:
    """Remove temporary files of a run that was killed."""
    for name in ("", "faces", "blocks"):
        with contextlib.suppress(FileNotFoundError):
            for path in (folder / name).iterdir():
                if _STRAY.fullmatch(path.name):
                    path.unlink(missing_ok=True)


def _work(options: FaceOptions, folder: Path, blocks: list[int], count: int, workers: int) -> Iterator[int]:
    """Render blocks, in this process or in several; gives each block's number when it is finished."""
    if workers == 1 or len(blocks) <= 1:
        if blocks:
            with FaceRenderer(options) as renderer:
                for block in blocks:
                    _render_block(renderer, folder, block, count)
                    yield block
        return
    context = multiprocessing.get_context("spawn")  # a graphics context does not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(blocks)), context, _start_worker, (options, folder, count))
    try:
        queue = iter(blocks)
        running: set[Future[int]] = set()
        while True:
            for block in queue:
                running.add(pool.submit(_worker_block, block))
                if len(running) >= workers * _QUEUE:
                    break
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise CunetError("a worker died, perhaps for want of memory; run the same command again to go on") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[FaceRenderer, Path, int] | None = None


def _start_worker(options: FaceOptions, folder: Path, count: int) -> None:
    global _worker
    cv2.setNumThreads(1)
    _worker = FaceRenderer(options), folder, count


def _worker_block(block: int) -> int:
    assert _worker is not None
    renderer, folder, count = _worker
    _render_block(renderer, folder, block, count)
    return block


def _render_block(renderer: FaceRenderer, folder: Path, block: int, count: int) -> None:
    lines = []
    for number in range(block * BLOCK, block * BLOCK + _size(block, count)):
        name = f"{number:06d}"
        recipe = renderer.sample(number)
        rendered = renderer.render(number)
        data = encode_jpeg(rendered.image, recipe.lens.quality, recipe.lens.twice)
        write_bytes_atomic(folder / "faces" / f"{name}.jpg", data, overwrite=True)
        write_text_atomic(folder / "faces" / f"{name}.pts", format_pts(rendered.points), overwrite=True)
        line = {
            "image": f"faces/{name}.jpg",
            **describe(recipe),
            "visibility": [int(state) for state in rendered.visibility],
        }
        lines.append(json.dumps(line, separators=(",", ":")) + "\n")
    write_text_atomic(_block_file(folder, block), "".join(lines), overwrite=True)
