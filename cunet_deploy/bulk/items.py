"""The work of a bulk run: videos, parts of long ones, and blocks of photos.

They come from folders, patterns and lists of sources, on local disks or wherever fsspec reaches: ``s3://bucket/clips/``,
``gs://bucket/*.mp4``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from cunet_deploy._files import shown_name
from cunet_deploy._optional import require
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES
from cunet_deploy.media.readers.video import VIDEO_SUFFIXES
from cunet_deploy.media.source_lists import LIST_SUFFIXES, check_sources, parse_source_list

__all__ = ["Item", "Part", "file_system", "is_local", "list_items", "out_of_reach", "without_password"]


@dataclass(frozen=True)
class Part:
    """A part of a long video.

    Attributes:
        number: counts from 0.
        first: index of its first frame in the video.
        seek: time stamp of the key frame to begin reading at, in units of the stream; ``None``: the start.
        seek_index: index of that frame.
        warm_up: frames before ``first`` that are localized, so that what is followed there is found.
        last: index of the frame behind its last one; ``None``: the end.
    """

    number: int
    first: int
    seek: int | None
    seek_index: int
    warm_up: int
    last: int | None


@dataclass(frozen=True)
class Item:
    """A piece of work, whose results are one file.

    Attributes:
        kind: "video", or "images": photos that do not follow each other.
        sources: one video, or the photos of a block.
        part: of a long video; ``None``: all of it.
    """

    kind: Literal["video", "images"]
    sources: tuple[str, ...]
    part: Part | None = None

    @property
    def key(self) -> str:
        """A name for its files that depends on the sources alone; parts of a video share it."""
        return hashlib.sha256("\n".join((self.kind, *self.sources)).encode("utf-8", "surrogateescape")).hexdigest()[:24]

    def to_json(self) -> str:
        """As text, to go through a data set."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Item:
        """Read what `to_json` wrote."""
        table: dict[str, Any] = json.loads(text)
        part = None if table["part"] is None else Part(**table["part"])
        return cls(table["kind"], tuple(table["sources"]), part)


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path in it.

    Raises:
        InputError: the protocol is not known.
        MissingDependencyError: its library is not installed.
    """
    fsspec = require("fsspec", extra="ray")
    try:
        # listings are not kept: other processes write to the same folders
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ValueError as error:
        raise InputError(f"{url}: {error}; give a path, or a URL such as s3://BUCKET/FOLDER") from error
    except ImportError as error:
        raise InputError(f"{url}: {error}; install it beside cunet-deploy on every machine of the cluster") from error
    return system, path


def out_of_reach(url: str, error: Exception) -> CunetError:
    """An error that names a server or store, from one of its library."""
    why = f"cannot be reached ({str(error) or type(error).__name__}); check the address and the network"
    return CunetError(without_password(f"{url}: {why}", url))


def without_password(text: str, url: str) -> str:
    """A message in which a URL or path is written as `shown_name` does."""
    return text.replace(url, shown_name(url))


def is_local(system: Any) -> bool:
    """Whether the paths of a file system are those of this machine."""
    return "file" in (system.protocol if isinstance(system.protocol, (tuple, list)) else (system.protocol,))


def list_items(
    sources: Sequence[str],
    *,
    photos_per_item: int = 256,
    blocks: Mapping[str, Item] | None = None,
    refused: dict[str, CunetError] | None = None,
) -> Iterator[Item]:
    """List the work of some sources. What is named twice comes once.

    Args:
        sources: videos, photos, folders (searched deeper), patterns, or lists of sources, see
            `cunet_deploy.media.source_lists.parse_source_list`.
        photos_per_item: photos whose results are one file.
        blocks: of an earlier run, by photo: they come as they were, and other photos form blocks of their own.
        refused: where to note sources that are not there, of no type that is read or out of reach; ``None`` makes the
            first one an error.

    Raises:
        InputError: a source is refused and ``refused`` is ``None``, or all are.
        CunetError: as before, and a server or store cannot be reached.
    """
    photos: list[str] = []
    check_sources(sources)
    known, met = blocks or {}, set[str]()

    def refuse(source: str, error: CunetError) -> None:
        error.args = (without_password(str(error), source),)
        if refused is None:
            raise error
        refused[source] = error

    for source in _files(sources, refuse):
        if source in met:
            continue
        met.add(source)
        if source in known:
            met.update(known[source].sources)
            yield known[source]
            continue
        suffix = PurePosixPath(source).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            photos.append(source)
            if len(photos) == photos_per_item:
                yield Item("images", tuple(photos))
                photos = []
        else:
            yield Item("video", (source,))
    if photos:
        yield Item("images", tuple(photos))
    if not met:
        reasons = list((refused or {}).values())
        whole = f"{', '.join(map(shown_name, sources))}: no photo or video is there"
        if len(reasons) == 1:
            raise reasons[0]
        kind = InputError if all(isinstance(reason, InputError) for reason in reasons) else CunetError
        raise kind("; ".join([whole, *map(str, reasons[:1])]))


def _files(sources: Iterable[str], refuse: Callable[[str, CunetError], object]) -> Iterator[str]:
    """URLs of single photos and videos."""
    for source in sources:
        try:
            system, path = file_system(source)
            if PurePosixPath(path).suffix.lower() in LIST_SUFFIXES and system.isfile(path):
                yield from _files(_listed(system, path, source), refuse)
            else:
                yield from _found(system, path, source)
        except InputError as error:
            refuse(source, error)
        except CunetError:
            raise
        except Exception as error:  # the library of each store has errors of its own
            if "://" not in source:
                raise
            refuse(source, out_of_reach(source, error))


def _found(system: Any, path: str, source: str) -> list[str]:
    """The photos and videos of a folder or pattern, or a single one."""
    is_pattern = any(sign in source for sign in "*?[") and not system.exists(path)
    if is_pattern or system.isdir(path):
        paths = system.glob(path) if is_pattern else system.find(path)
        found = [_named(system, source, found) for found in sorted(paths) if _is_read(found)]
        if not found:
            raise InputError(f"{source}: no photo or video is there; check the path")
        return found
    if not system.isfile(path):
        raise InputError(f"{source}: does not exist, or is no file; check the path")
    if PurePosixPath(source).suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
        kinds = f"a photo or video of a type that is read, or a list of sources ({' '.join(LIST_SUFFIXES)})"
        raise InputError(f"{source}: is not {kinds}")
    return [source]


def _named(system: Any, source: str, path: str) -> str:
    """A path of a file system as a URL, or as a path where the source was one."""
    return path if "://" not in source else str(system.unstrip_protocol(path))


def _is_read(path: str) -> bool:
    name = PurePosixPath(path)
    return name.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and not name.name.startswith(".")


def _listed(system: Any, path: str, source: str) -> list[str]:
    """The sources that a list names; none of them is a list."""
    try:
        content = system.cat_file(path)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror or error}); check the path") from error
    return parse_source_list(source, content)
