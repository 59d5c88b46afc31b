"""Worker of a bulk run: one network, items in, files out."""

from __future__ import annotations

import contextlib
import json
import posixpath
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from cunet_deploy._files import shown_name
from cunet_deploy.bulk.items import Item, file_system, is_local, without_password
from cunet_deploy.bulk.results import Output, schema_of, write_results
from cunet_deploy.bulk.split import parts_of, read_part
from cunet_deploy.errors import CunetError
from cunet_deploy.localizer import Localizer
from cunet_deploy.machine.allocator import keep_freed_memory
from cunet_deploy.media import Frame, LeftOut, Picture, VideoFile, read_image
from cunet_deploy.media.readers.images import frames_in_image

__all__ = [
    "DETECTOR_FILE",
    "NETWORK_FILE",
    "SETTINGS_FILE",
    "Model",
    "Settings",
    "Status",
    "Worker",
    "local_copy",
]

NETWORK_FILE, DETECTOR_FILE = "model/network.onnx", "model/detector.onnx"
"""Copies of the model's files in the output."""

SETTINGS_FILE = "model/settings.json"
"""Settings on which the results in the output depend."""

_MOST_ATTEMPTS = 3
"""An item during which the worker died this often is given up."""


@dataclass(frozen=True)
class Model:
    """A model as workers are told of it; its files are in the output, since machines may share nothing else.

    Attributes:
        name: what was asked for, which is opened where the output has no file of it, as of an engine.
        detector: as `Localizer` takes it, opened by name where the workers are; ``None``: its file is in the output.
        sha256: of the network's file.
        manifest: of the network, as JSON.
        remark: on the licence of the weights, or empty.
    """

    name: str
    detector: str | None
    sha256: str
    manifest: str
    remark: str = ""


@dataclass(frozen=True)
class Settings:
    """Settings of a bulk run.

    Attributes:
        threads: of each worker.
        backend: as in `cunet_deploy.sessions.open_session`.
        smooth: whether landmarks in videos are steadied.
        part_seconds: videos of twice that or more are cut into parts about this long; 0: never.
        warm_up: frames by which parts overlap.
        jsonl: also write JSON Lines for each video or block of photos.
        trust: load an engine whose checksum differs.
    """

    threads: int = 1
    backend: str | None = None
    smooth: bool = True
    part_seconds: float = 120.0
    warm_up: int = 60
    jsonl: bool = False
    trust: bool = False


@dataclass(frozen=True)
class Status:
    """Outcome of an item.

    Attributes:
        key: of the item.
        name: its first source.
        part: of a video in parts, the number of this one.
        frames: that were localized.
        left_out: frames, pages and photos that were not read.
        error: why it failed; empty: it did not.
        parts: of a long video, of which nothing was localized yet.
    """

    key: str
    name: str
    part: int | None = None
    frames: int = 0
    left_out: int = 0
    error: str = ""
    parts: tuple[Item, ...] = ()

    def to_json(self) -> str:
        """As text, to go through a data set."""
        return json.dumps({**vars(self), "parts": [part.to_json() for part in self.parts]})

    @classmethod
    def from_json(cls, text: str) -> Status:
        """Read what `to_json` wrote."""
        table = json.loads(text)
        return cls(**{**table, "parts": tuple(map(Item.from_json, table["parts"]))})


class Worker:
    """Localizes items, one after the other. Loads its network when it is made."""

    def __init__(self, model: Model, settings: Settings, output: Output) -> None:
        """Open the networks."""
        cv2.setNumThreads(settings.threads)
        keep_freed_memory()
        self._settings, self._output = settings, output
        # Not for longer than it takes to open them: Ray ends workers without letting them clean up.
        with tempfile.TemporaryDirectory(prefix="cunet-bulk-") as folder:
            self._localizer = Localizer(
                self._copy(NETWORK_FILE, folder) or model.name,
                detector=model.detector or self._copy(DETECTOR_FILE, folder),
                threads=settings.threads,
                backend=settings.backend,
                trust=settings.trust,
                licence="any",  # it was checked where the run was started
            )
        self._schema = schema_of(self._localizer.manifest, model.sha256)

    def _copy(self, name: str, folder: str) -> Path | None:
        """A copy of a file of the model in a folder, where the output has it."""
        if not self._output.exists(name):
            return None
        path = Path(folder) / posixpath.basename(name)
        path.write_bytes(self._output.read_bytes(name))
        return path

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Localize the items of a batch (column ``item``); the answer has what became of them (column ``status``)."""
        return {"status": [self.run(Item.from_json(str(text))).to_json() for text in batch["item"]]}

    def run(self, item: Item) -> Status:
        """Localize an item and write its results, or say into which parts a long video is to be cut.

        An error is in the answer, and in the output's ``failed``.
        """
        part = None if item.part is None else item.part.number
        try:
            if part is not None and self._output.exists(self._output.landmarks_path(item)):
                return Status(item.key, item.sources[0], part)
            with self._attempt(item), contextlib.ExitStack() as stack:
                path = stack.enter_context(local_copy(item.sources[0])) if item.kind == "video" else None
                if path is not None and (parts := self._parts_of(item, path)):
                    return Status(item.key, item.sources[0], parts=parts)
                frames, left_out = self._localize(item, path)
            return Status(item.key, item.sources[0], part, frames, left_out)
        except Exception as problem:  # noqa: BLE001  the other items go on
            return Status(item.key, item.sources[0], part, error=self._output.record_failure(item, problem))

    def _parts_of(self, item: Item, path: Path) -> tuple[Item, ...]:
        """The parts of a long video; none where it is short, or is one."""
        if item.part is not None or not self._settings.part_seconds:
            return ()
        try:
            parts = parts_of(path, self._settings.part_seconds, self._settings.warm_up)
        except CunetError:
            return ()  # reading it says what is wrong
        return tuple(Item(item.kind, item.sources, part) for part in parts)

    @contextlib.contextmanager
    def _attempt(self, item: Item) -> Iterator[None]:
        """Count attempts in the output: an item that kills its worker would be given to the next one for ever."""
        path = f"attempts/{item.key}-{item.part.number if item.part else 0}.json"
        attempts = int(json.loads(self._output.read_bytes(path))) if self._output.exists(path) else 0
        if attempts >= _MOST_ATTEMPTS:
            self._output.remove(path)
            raise CunetError(f"{item.sources[0]}: its worker died {attempts} times; it is given up")
        self._output.write_bytes(path, json.dumps(attempts + 1).encode())
        try:
            yield
        finally:
            self._output.remove(path)

    def _localize(self, item: Item, path: Path | None) -> tuple[int, int]:
        if item.kind == "images":  # before its results: those that are complete have a record
            self._output.record_block(item)
        jsonl = self._settings.jsonl and item.part is None  # those of a video in parts are written when it is joined
        return write_results(self._output, item, self._schema, self._frames(item, path), jsonl=jsonl)

    def _frames(self, item: Item, path: Path | None) -> Iterator[tuple[str, Frame | LeftOut]]:
        """Frames with the source that each came from, and what was not read."""
        if path is None:
            for index, source in enumerate(item.sources):
                yield from ((source, found) for found in self._photo(index, source))
            return
        (source,) = item.sources
        threads, left_out = self._settings.threads, list[LeftOut]()
        pictures: VideoFile | Iterator[Picture]
        if item.part is None:
            pictures = VideoFile(path, threads=threads)
            left_out = pictures.left_out
        else:
            pictures = read_part(path, item.part, left_out, threads)
        told = 0
        for frame in self._localizer.stream(pictures, follow=True, smooth=self._settings.smooth):
            while told < len(left_out) and left_out[told].index <= frame.index:
                yield source, left_out[told]
                told += 1
            yield source, frame
        for gap in left_out[told:]:
            yield source, gap

    def _photo(self, index: int, source: str) -> Iterator[Frame | LeftOut]:
        """The first frame or page of a photo; further ones are left out."""
        name, place = shown_name(posixpath.basename(source)), source
        try:
            with local_copy(source) as path:
                place = str(path)
                image, count = read_image(path), frames_in_image(path)
        except (CunetError, OSError) as problem:
            # a library of a store names the URL alone where a file is gone
            reason = str(problem) if isinstance(problem, CunetError) else f"cannot be copied here ({problem})"
            reason = reason.removeprefix(f"{source}: ").removeprefix(f"{place}: ")
            yield LeftOut(index, without_password(reason, source), name=name)
            return
        yield Frame(index, 0.0, image, self._localizer.predict(image), name)
        if count > 1:
            reason = f"the first of {count} frames or pages is read; infer reads them all"
            yield LeftOut(index, reason, count - 1, name=name)


@contextlib.contextmanager
def local_copy(source: str) -> Iterator[Path]:
    """A source as a file on this machine: itself, or a copy that goes with the block."""
    system, path = file_system(source)
    if is_local(system):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="cunet-bulk-") as folder:
        target = Path(folder) / posixpath.basename(path)
        system.get_file(path, str(target))
        try:
            yield target
        except CunetError as problem:  # it is about the source, whose copy is gone when somebody reads this
            problem.args = (str(problem).replace(str(target), source),)
            raise
