"""The files of a bulk run: Parquet that is complete or not there, and what can be told from it.

``OUT/landmarks/shard=XX/KEY.parquet`` holds a row for each frame and object, and one for a frame without any;
``OUT/failed/KEY.json`` says why an item failed. Both are named after the item, so that a run which is started again
knows what is done. ``OUT/refused/KEY.json`` says why a source of the last run gave no items.
"""

from __future__ import annotations

import contextlib
import errno
import json
import posixpath
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cunet_deploy._files import shown_name
from cunet_deploy.bulk.items import Item, file_system, is_local, without_password
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import Frame, LeftOut
from cunet_deploy.media.writers.angles import pose_names
from cunet_deploy.media.writers.jsonl import json_lines, left_out_line

__all__ = ["METADATA_KEY", "Output", "landmarks_of", "schema_of", "write_results"]

METADATA_KEY = b"cunet_deploy"
_ROWS_PER_GROUP = 20_000
_UNFINISHED = ".part"
_CONCURRENT_READS = 16
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP)
"""Errors of making a folder where a file, or a link that leads nowhere, has its place."""
_NOTHING = dict.fromkeys(("id", "box", "landmarks", "scores"))


def schema_of(manifest: Manifest, checksum: str) -> pa.Schema:
    """Columns of the results of a model, with its manifest and the checksum of its file in the metadata."""
    count = len(manifest.skeleton)
    about = {"manifest": manifest.to_dict(), "sha256": checksum}
    return pa.schema(
        [
            pa.field("source", pa.string(), nullable=False),
            pa.field("frame", pa.int64(), nullable=False),
            pa.field("time_ms", pa.float64()),
            pa.field("id", pa.int64()),
            pa.field("box", pa.list_(pa.float32(), 4)),
            pa.field("landmarks", pa.list_(pa.float32(), 2 * count)),
            pa.field("scores", pa.list_(pa.float32(), count)),
            *(pa.field(name, pa.float32()) for name in pose_names(manifest.skeleton)),
            pa.field("error", pa.string()),
        ],
        metadata={METADATA_KEY: json.dumps(about, sort_keys=True).encode()},
    )


class Output:
    """The folder of a bulk run, local or in an object store. It can be pickled."""

    def __init__(self, url: str) -> None:
        """Name a folder; it is made when something is written."""
        self.url = url
        self._system: Any = None
        self._root = ""

    def _open(self) -> tuple[Any, str]:
        if self._system is None:
            self._system, self._root = file_system(self.url)
        return self._system, self._root

    def __getstate__(self) -> str:
        return self.url

    def __setstate__(self, url: str) -> None:
        self.__init__(url)  # type: ignore[misc]

    def landmarks_path(self, item: Item) -> str:
        """Return the path of an item's results, relative to the folder."""
        if item.part is not None:
            last = "end" if item.part.last is None else f"{item.part.last:08d}"
            return f"parts/{item.key}/{item.part.first:08d}-{last}.parquet"  # parts of another length are other files
        return f"landmarks/shard={item.key[:2]}/{item.key}.parquet"

    def exists(self, path: str) -> bool:
        """Whether a file is there."""
        system, root = self._open()
        return bool(system.exists(posixpath.join(root, path)))

    def done_keys(self) -> set[str]:
        """Keys of the items whose results are complete."""
        system, root = self._open()
        folder = posixpath.join(root, "landmarks")
        if not system.exists(folder):
            return set()
        return {posixpath.basename(path).partition(".")[0] for path in system.find(folder) if path.endswith(".parquet")}

    def record_failure(self, item: Item, problem: Exception, folder: str = "failed") -> str:
        """Record in a folder why an item failed; return the reason, which names it."""
        # a library of a store has errors of its own, which name nothing
        known, source = isinstance(problem, CunetError), item.sources[0]
        error = without_password(str(problem) if known else f"{source}: {type(problem).__name__}: {problem}", source)
        record = {"sources": list(item.sources), "error": error}
        with contextlib.suppress(Exception):  # where the output itself fails, the reason is still returned
            self.write_bytes(f"{folder}/{item.key}.json", json.dumps(record).encode())
        return error

    def forget_failures(self, items: Iterable[Item]) -> None:
        """Remove records of failures, since the items are done or tried again; photos may be in other blocks now.

        Those of sources that were refused go, too: each run has its own.
        """
        self.remove("refused")
        records = self._read_folder("failed")
        if records:
            sources = {source for item in items for source in item.sources}
            for name, content in records.items():
                if not sources.isdisjoint(json.loads(content)["sources"]):
                    self.remove(f"failed/{name}")

    def _read_folder(self, folder: str) -> dict[str, bytes]:
        """Files of a folder by name, with their contents."""
        system, root = self._open()
        full = posixpath.join(root, folder)
        paths = system.find(full) if system.exists(full) else []
        paths = [path for path in paths if path.endswith(".json")]
        with ThreadPoolExecutor(_CONCURRENT_READS) as pool:  # each is a request where the output is in a store
            return dict(zip(map(posixpath.basename, paths), pool.map(system.cat_file, paths), strict=True))

    def record_block(self, item: Item) -> None:
        """Record the photos of a block, for `done_blocks`."""
        self.write_bytes(f"photos/{item.key}.json", json.dumps(item.sources).encode())

    def done_blocks(self, finished: set[str]) -> dict[str, Item]:
        """Blocks of photos, by photo, of those whose keys are given."""
        blocks: dict[str, Item] = {}
        for name, content in self._read_folder("photos").items():
            if name.partition(".")[0] in finished:
                item = Item("images", tuple(json.loads(content)))
                blocks |= dict.fromkeys(item.sources, item)
        return blocks

    def sweep(self) -> None:
        """Remove what a run that was killed had begun to write."""
        system, root = self._open()
        if system.exists(root):
            for path in system.find(root):
                if path.endswith(_UNFINISHED):
                    system.rm(path)

    def write_bytes(self, path: str, content: bytes) -> None:
        """Write a file completely or not at all."""
        with self.replacing(path) as file:
            file.write(content)

    def read_bytes(self, path: str) -> bytes:
        """The content of a file."""
        system, root = self._open()
        return bytes(system.cat_file(posixpath.join(root, path)))

    def remove(self, path: str) -> None:
        """Delete a file or folder, if it is there."""
        system, root = self._open()
        full = posixpath.join(root, path)
        if system.exists(full):
            system.rm(full, recursive=True)

    def write_rows(self, path: str, schema: pa.Schema, rows: Iterable[list[dict[str, Any]]]) -> int:
        """Write a Parquet file completely or not at all, from rows of successive frames.

        Returns:
            How many rows.
        """
        total = 0
        with self.replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            waiting: list[dict[str, Any]] = []
            for some in rows:
                waiting += some
                total += len(some)
                if len(waiting) >= _ROWS_PER_GROUP:
                    writer.write_table(pa.Table.from_pylist(waiting, schema))
                    waiting = []
            if waiting:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
        return total

    def read_rows(self, path: str) -> Iterator[dict[str, Any]]:
        """The rows of a Parquet file, in order."""
        system, root = self._open()
        with system.open(posixpath.join(root, path), "rb") as file:
            for batch in pq.ParquetFile(file).iter_batches():
                yield from batch.to_pylist()

    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file to write, which takes its place when the block ends well.

        Raises:
            InputError: the output is a file, or a link that leads nowhere.
        """
        system, root = self._open()
        final = posixpath.join(root, path)
        try:
            system.makedirs(posixpath.dirname(final), exist_ok=True)
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise
            raise InputError(f"{self.url}: cannot be a folder ({error.strerror}); choose another output") from error
        if not is_local(system):  # an object appears when all of it was sent, and is sent when it is complete
            with tempfile.NamedTemporaryFile(prefix="cunet-bulk-") as copy:
                yield copy.file
                copy.flush()
                system.put_file(copy.name, final)
            return
        part = f"{final}.{uuid.uuid4().hex[:8]}{_UNFINISHED}"
        try:
            with system.open(part, "wb") as file:
                yield file
            system.mv(part, final)
        finally:
            if system.exists(part):
                system.rm(part)


def write_results(
    output: Output, item: Item, schema: pa.Schema, frames: Iterable[tuple[str, Frame | LeftOut]], *, jsonl: bool = False
) -> tuple[int, int]:
    """Write the results of an item.

    Args:
        output: where to.
        item: whose results they are.
        schema: of `schema_of`.
        frames: in order, each with its source.
        jsonl: also write JSON Lines.

    Returns:
        How many frames were localized, and how many frames, pages or photos were not read.
    """
    counts = [0, 0]

    def rows() -> Iterator[list[dict[str, Any]]]:
        # JSON Lines are complete before the rows end: the Parquet file then marks the item as done
        with output.replacing(f"jsonl/{item.key}.jsonl") if jsonl else contextlib.nullcontext() as lines:
            for source, frame in frames:
                source = shown_name(source)
                if isinstance(frame, LeftOut):
                    counts[1] += frame.count
                    some = [_row_left_out(frame, source)]
                else:
                    counts[0] += 1
                    some = _rows_of(frame, source)
                if lines is not None:
                    lines.write((left_out_line(frame) if isinstance(frame, LeftOut) else json_lines(frame)).encode())
                yield some

    output.write_rows(output.landmarks_path(item), schema, rows())
    return counts[0], counts[1]


def _rows_of(frame: Frame, source: str) -> list[dict[str, Any]]:
    """The rows of one frame, one for each object."""
    found, head = frame.landmarks, {"source": source, "frame": frame.index, "time_ms": frame.time_ms}
    if not len(found):
        return [{**head, **_NOTHING}]
    flat = found.points.reshape(len(found), 2 * len(found.skeleton))
    rows = [
        {**head, "id": int(found.ids[i]), "box": found.boxes[i], "landmarks": flat[i], "scores": found.scores[i]}
        for i in range(len(found))
    ]
    names = pose_names(found.skeleton)
    if names:
        for row, angles in zip(rows, found.pose.tolist(), strict=True):
            row.update({name: angle if angle == angle else None for name, angle in zip(names, angles, strict=True)})
    return rows


def _row_left_out(item: LeftOut, source: str) -> dict[str, Any]:
    """The row of what gave no picture."""
    return {"source": source, "frame": item.index, "time_ms": item.time_ms, "error": item.reason, **_NOTHING}


def landmarks_of(rows: Sequence[dict[str, Any]], manifest: Manifest) -> Landmarks:
    """The landmarks of one frame from its rows."""
    found = [row for row in rows if row["id"] is not None]
    count = len(manifest.skeleton)
    return Landmarks(
        np.array([row["landmarks"] for row in found], np.float32).reshape(-1, count, 2),
        np.array([row["scores"] for row in found], np.float32).reshape(-1, count),
        np.array([row["box"] for row in found], np.float32).reshape(-1, 4),
        manifest.skeleton,
        np.array([row["id"] for row in found], np.int64),
    )
