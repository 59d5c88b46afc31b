"""Writes folders of renders that training reads, in blocks, so that an interrupted run goes on where it was.

    DIR/synth.json           options, versions, licences; a later run has to agree with it
    DIR/faces/000000.jpg     a picture, and what belongs to it
    DIR/blocks/00000.jsonl   a line for each picture of a finished block
    DIR/faces.jsonl          all lines, once everything is there

A block's lines are written after its pictures, and every file is complete or not there. What a picture shows follows
from its number and the options alone: neither the number of workers nor interruptions change a byte.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol

import cv2

from cunet_deploy import __version__
from cunet_deploy._files import write_bytes_atomic, write_text_atomic
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.licences import stated_licence
from cunet_deploy.synthesis.assets import AssetLibrary, listed_assets
from cunet_deploy.synthesis.gl import Graphics

__all__ = ["BLOCK", "Job", "Maker", "Product", "count_rendered", "write_renders"]

BLOCK = 20
"""Pictures in a block."""

_FORMAT = 2
_WRITERS = 4
_QUEUE = 2  # blocks a worker is given ahead


@dataclass(frozen=True)
class Product:
    """One picture: its files by suffix, and what its line says."""

    files: dict[str, bytes]
    line: dict[str, Any]


class Maker(Protocol):
    """Makes pictures; one for each process."""

    def make(self, number: int) -> Product:
        """The picture of that number, always the same."""

    def close(self) -> None:
        """Free what it holds."""


class Job(Protocol):
    """Work of a run. It travels to other processes."""

    @property
    def name(self) -> str:
        """Name of the folder of the pictures, and of the file of all lines."""

    def as_json(self) -> dict[str, Any]:
        """All options; a run that goes on has to have the same."""

    def user_folders(self) -> list[str]:
        """Folders of the user's own files."""

    def open(self) -> Maker:
        """A maker for this process."""

    def finish(self, folder: Path, lines: list[str]) -> None:
        """Write what is made of all lines."""


def write_renders(
    job: Job,
    count: int,
    folder: Path,
    *,
    workers: int = 1,
    advance: Callable[[int], None] = lambda done: None,
) -> int:
    """Render ``count`` pictures into a folder, or what is missing of them.

    Args:
        job: what to render.
        count: pictures with numbers from 0 on; more than an earlier run's adds to them.
        folder: new, empty, or of an earlier run with the same options.
        workers: processes; 1 renders in this one.
        advance: told how many pictures were done, those of an earlier run at once.

    Returns:
        The number of pictures that were rendered now.

    Raises:
        InputError: the folder holds something else.
        MissingDependencyError: a library of the extra ``[synth]`` is not installed.
        CunetError: a worker died, or the disk cannot be written to.
    """
    _claim(folder, job)
    blocks = range((count + BLOCK - 1) // BLOCK)
    missing = [block for block in blocks if _lines_of(folder, block) < _size(block, count)]
    rendered = sum(_size(block, count) for block in missing)
    advance(count - rendered)
    for block in _work(job, folder, missing, count, workers):
        advance(_size(block, count))
    text = "".join(_block_file(folder, block).read_text("utf-8") for block in blocks)
    lines = text.splitlines(keepends=True)[:count]
    job.finish(folder, lines)
    write_text_atomic(folder / f"{job.name}.jsonl", "".join(lines), overwrite=True)
    return rendered


def count_rendered(folder: Path, count: int) -> int:
    """Count the pictures of finished blocks among the first ``count``."""
    blocks = range((count + BLOCK - 1) // BLOCK)
    return sum(min(_lines_of(folder, block), _size(block, count)) for block in blocks)


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


def _claim(folder: Path, job: Job) -> None:
    """Write ``synth.json``, or check that it says what this run would say."""
    library, graphics = AssetLibrary(), Graphics(64)
    renderer = graphics.renderer
    graphics.close()
    record: dict[str, Any] = {
        "format": _FORMAT,
        "made_with": {"cunet-deploy": __version__, "anny": library.version(), "renderer": renderer},
        "kind": job.name,
        "options": job.as_json(),
        "licence": "CC0-1.0",
        "assets": [
            {"name": asset.name, "package": asset.package, "authors": asset.authors, "licence": asset.licence}
            for asset in listed_assets()
        ],
        "user_files": [_user_files(name) for name in job.user_folders()],
    }
    path = folder / "synth.json"
    text = json.dumps(record, indent=1) + "\n"
    try:
        old = dict(json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        if folder.exists() and (not folder.is_dir() or next(folder.iterdir(), None) is not None):
            raise InputError(f"{folder}: exists and is no folder of renders; choose a new or empty folder") from None
        write_text_atomic(path, text, overwrite=False)
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); choose another folder") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}); remove the folder, or choose another") from error
    changed = _differences(old, json.loads(text))
    if changed:
        raise InputError(
            f"{folder}: holds renders of other options ({', '.join(changed)}); use the same ones to go on, "
            "or choose another folder"
        )


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """List the differences, as ``name was A, is B``."""
    if old.get("format") != _FORMAT:
        return [f"format was {old.get('format')}, is {_FORMAT}"]
    found = [] if old.get("kind") == new["kind"] else [f"kind was {old.get('kind')}, is {new['kind']}"]
    for table in ("options", "made_with"):
        for key, value in new[table].items():
            before = old.get(table, {}).get(key)
            if before != value:
                found.append(f"{key} was {before}, is {value}")
    if old.get("user_files") != new["user_files"] and not found:
        found.append("backgrounds or environments have changed")
    return found


def _user_files(folder: str) -> dict[str, Any]:
    """Names of the files in a user's folder, and the title of its ``LICENSE``."""
    path = Path(folder)
    names = sorted(item.name for item in path.iterdir() if item.is_file())
    return {"folder": path.name, "licence_stated": stated_licence(path) or None, "files": names}


def _work(job: Job, folder: Path, blocks: list[int], count: int, workers: int) -> Iterator[int]:
    """Render blocks, in this process or in several; gives each block's number when it is finished."""
    if workers == 1 or len(blocks) <= 1:
        if blocks:
            with contextlib.closing(job.open()) as maker:
                for block in blocks:
                    _render_block(job, maker, folder, block, count)
                    yield block
        return
    context = multiprocessing.get_context("spawn")  # a graphics context does not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(blocks)), context, _start_worker, (job, folder, count))
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


_worker: tuple[Job, Maker, Path, int] | None = None


def _start_worker(job: Job, folder: Path, count: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one acts
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _worker = job, job.open(), folder, count


def _end_with_parent() -> None:
    """Leave no worker behind when the process that feeds it is killed; what it had not finished is made again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _worker_block(block: int) -> int:
    assert _worker is not None
    job, maker, folder, count = _worker
    _render_block(job, maker, folder, block, count)
    return block


def _render_block(job: Job, maker: Maker, folder: Path, block: int, count: int) -> None:
    lines, writing = [], []
    with ThreadPoolExecutor(_WRITERS) as writers:  # waiting for the disk takes as long as a sixth of a render
        for number in range(block * BLOCK, block * BLOCK + _size(block, count)):
            name = f"{number:06d}"
            product = maker.make(number)
            for suffix, data in product.files.items():
                path = folder / job.name / f"{name}{suffix}"
                writing.append(writers.submit(write_bytes_atomic, path, data, overwrite=True))
            line = {"image": f"{job.name}/{name}.jpg", **product.line}
            lines.append(json.dumps(line, separators=(",", ":")) + "\n")
        for written in writing:
            written.result()
    write_text_atomic(_block_file(folder, block), "".join(lines), overwrite=True)
