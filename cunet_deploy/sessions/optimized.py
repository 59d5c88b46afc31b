"""Graphs as ONNX Runtime optimized them for this processor, kept in the cache folder.

Most of the time that ONNX Runtime takes to load a network goes into expanding its weights and optimizing its graph. It
can write the optimized graph to a file, and loads that three to four times as fast, with the same results bit for bit.
Measured on an AMD EPYC (Zen 4), 1 thread, processor milliseconds of `open_session` in a fresh process, checksums
included, medians of 7:

=============================  =======  ==================  =======
network                        without  when it is written  with it
=============================  =======  ==================  =======
face68-s, 8 bits, 128 px       39       45                  13
face68-m, 8 bits, 128 px       43       53                  20
face68-s-binary, 128 px        49       53                  11
8 U-Nets, 8 bits, 256 px       163      208                 65
8 U-Nets, 1 bit, 256 px        247      279                 60
ten nodes, 64 px, for tests    4.9      6.5                 5.0
=============================  =======  ==================  =======

So it pays for every network that is worth running, and is used for all of them.

The key that a graph is found by and a checksum are in the name of its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cunet_deploy.machine.cpu import read_cpuinfo
from cunet_deploy.onnx_graph.external import has_external_data
from cunet_deploy.sessions.cache import cache_folder, describe_processor

__all__ = ["MOST_BYTES", "MOST_FILES", "KeptGraph", "find_graph"]

MOST_FILES, MOST_BYTES = 20, 200 * 2**20
"""Limits of the cache; beyond them, the least recently used graphs are removed."""

_ABANDONED_SECONDS = 24 * 3600
"""After that, a temporary file was left behind by a program that was killed."""
_PREFIX, _SUFFIX = "ort-", ".onnx"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH

_log = logging.getLogger(__name__)


def find_graph(path: Path, settings: Mapping[str, Any]) -> KeptGraph | None:
    """Return the path of a network's optimized graph, whether it is there yet or not; ``None``: it cannot be kept.

    Args:
        path: the network.
        settings: all else that the graph depends on, as JSON stores it: the optimizer, its version and how it is set.
    """
    folder = cache_folder()
    if folder is None:
        return None
    try:
        data = path.read_bytes()
    except OSError:  # whoever loads it says what is wrong
        return None
    if has_external_data(data):  # which may change without the file
        return None
    network = hashlib.sha256(data).hexdigest()
    table = {"network": network, "settings": dict(settings), **describe_processor(read_cpuinfo())}
    return KeptGraph(folder, hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:32])


class KeptGraph:
    """The place in a folder for one optimized graph.

    The name of the file holds the key and a checksum of key and content, so that a file is whole and stands where it
    belongs, or is not used. It appears under that name when it is complete; any number of programs may read, write and
    remove files at once.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Take a folder, which need not exist, and what the graph is found by."""
        self._folder = folder
        self._key = key

    def find(self) -> Path | None:
        """The file, if there is one that is whole and nobody else could have written; what is damaged is removed."""
        try:
            files = sorted(self._folder.glob(f"{_PREFIX}{self._key}-*{_SUFFIX}"))
        except OSError:
            return None
        for file in files:
            try:
                if not _is_ours(file.stat()):
                    continue
                if file == self._place(file.read_bytes()):
                    with contextlib.suppress(OSError):  # a folder that can only be read serves as well
                        os.utime(file)
                    return file
            except OSError:  # cannot be read, or was removed by another program just now
                continue
            self.drop(file)
        return None

    def drop(self, file: Path) -> None:
        """Remove a file that is of no use, if that is possible."""
        _log.debug("%s: is damaged and made again", file)
        with contextlib.suppress(OSError):
            file.unlink()

    @contextlib.contextmanager
    def making(self) -> Iterator[Path]:
        """A temporary file to write the graph to, which is kept if the block ends without an error.

        Raises:
            OSError: the folder or disk cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(_SUFFIX, f".{_PREFIX}", self._folder)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            data = temporary.read_bytes()
            if len(data) <= MOST_BYTES:
                # Not brought to the disk first: after a power cut the checksum tells, and the graph is made again.
                temporary.replace(self._place(data))
                _prune(self._folder)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _place(self, data: bytes) -> Path:
        checksum = hashlib.sha256(self._key.encode())
        checksum.update(data)
        return self._folder / f"{_PREFIX}{self._key}-{checksum.hexdigest()[:32]}{_SUFFIX}"


def _is_ours(info: os.stat_result) -> bool:
    """Return whether a file was written by this user and by nobody else; where there are no users, every file is."""
    if not stat.S_ISREG(info.st_mode):
        return False
    return not hasattr(os, "geteuid") or (info.st_uid == os.geteuid() and not info.st_mode & _OTHERS_MAY_WRITE)


def _prune(folder: Path) -> None:
    """Remove what exceeds `MOST_FILES` and `MOST_BYTES`, and what killed programs left."""
    found: list[tuple[float, int, Path]] = []
    for file in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # other programs remove files too
            info = file.stat()
            found.append((info.st_mtime, info.st_size, file))
    size = 0
    for rank, (_, bytes_, file) in enumerate(sorted(found, reverse=True)):
        size += bytes_
        if rank >= MOST_FILES or size > MOST_BYTES:
            with contextlib.suppress(OSError):
                file.unlink()
    for file in folder.glob(f".{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                file.unlink()
