"""Several sources at once: what files, folders, patterns and lists stand for, and what results are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cunet_deploy._files import exists
from cunet_deploy.errors import InputError
from cunet_deploy.media.frames import LeftOut
from cunet_deploy.media.plan import OutputPlan, plan_outputs
from cunet_deploy.media.readers.base import Source
from cunet_deploy.media.readers.files import is_pattern, look_for
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES, ImageFiles, frames_in_image
from cunet_deploy.media.readers.sources import open_source
from cunet_deploy.media.source_lists import LIST_SUFFIXES, check_sources, parse_source_list
from cunet_deploy.media.url_names import safe_segments

__all__ = ["Item", "find_items", "plan_items"]


@dataclass(frozen=True)
class Item:
    """One set of results: of a video or another source, or of several images.

    Attributes:
        text: as `open_source` takes it; of several images, what messages call them.
        images: their files; empty for anything else.
        left_out: images beside them that are not read.
    """

    text: str
    images: tuple[Path, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def originals(self) -> tuple[Path, ...]:
        """Files that are read, as far as they are known before it is opened."""
        path = unquote(urlsplit(self.text).path) if self.text.lower().startswith("file://") else self.text
        return self.images or ((Path(path),) if exists(path) else ())

    def open(self, *, timeout: float = 10.0, reconnect: float = 30.0) -> Source:
        """Open it; raises as `open_source`."""
        if self.images:
            return ImageFiles(list(self.images), single=False, left_out=list(self.left_out))
        return open_source(self.text, timeout=timeout, reconnect=reconnect)


@dataclass
class _Named:
    """Properties of an unopened source that `plan_outputs` needs."""

    stem: str
    originals: tuple[Path, ...]
    moving: bool = True
    live: bool = False
    count: int | None = None
    fps: float = 0.0
    name: str = ""
    left_out: list[LeftOut] = field(default_factory=list)

    def __iter__(self):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def find_items(sources: Sequence[str]) -> list[Item] | None:
    """Expand several sources, in their order; ``None`` if it is a single one with results of its own.

    A folder or pattern gives its images as one set, and each of its videos; single images make one set together. Lists
    are read by `cunet_deploy.media.source_lists.parse_source_list`. What is named twice comes once.

    Raises:
        InputError: a source is an empty text, a list cannot be read, or there is nothing in it or in a folder or
            pattern.
        MissingDependencyError: a list is a Parquet file, and pyarrow is not installed.
    """
    check_sources(sources)
    texts = [text for source in sources for text in _listed(source)]
    if len(sources) == 1 and texts == [sources[0]]:
        found = look_for(texts[0]) if _is_group(texts[0]) else None
        if found is None or not found.videos:
            return None
    items: dict[str, Item] = {}
    loose: list[Path] = []
    for text in dict.fromkeys(texts):
        if _is_still(text):
            loose.append(Path(text))
            continue
        for item in _grouped(text) if _is_group(text) else [Item(text)]:
            items.setdefault(str(Path(item.text)) if exists(item.text) else item.text, item)
    if not loose:
        return list(items.values())
    paths = tuple(dict.fromkeys(loose))
    return [*items.values(), Item(f"{len(paths)} images" if len(paths) > 1 else str(paths[0]), paths)]


def plan_items(
    items: Sequence[Item],
    folder: Path,
    *,
    draw: bool = True,
    formats: tuple[str, ...] | None = None,
    read: Iterable[Path] = (),
) -> list[OutputPlan]:
    """The result files of each item, in one folder.

    Videos are called after their sources: ``clip.mp4``, and where several have that stem, ``clip.mkv.mp4`` or
    ``FOLDER-clip.mkv.mp4``. Images keep their names, in a folder of their own where there are several sets of them.

    Args:
        items: see `find_items`.
        folder: where all results go.
        draw: whether to write annotated pictures.
        formats: see `plan_outputs`.
        read: further files that must not be replaced.

    Raises:
        InputError: ``folder`` is a file, a result would replace a file that is read, or two sources write one file.
    """
    if exists(folder) and not folder.is_dir():
        raise InputError(f"{folder}: several sources are written to a folder; give one with -o DIR")
    sets = [item for item in items if item.images]
    names = _names([item for item in items if not item.images])
    originals = [path for item in items for path in item.originals]
    plans = []
    for item in items:
        if item.images:
            source: Source = item.open()
            place = folder if len(sets) == 1 else folder / f"images-{sets.index(item) + 1}"
        else:
            source = _Named(names[item.text], item.originals)
            place = folder / f"{names[item.text]}.mp4"
        plans.append(plan_outputs(source, place, draw=draw, formats=formats, read=(*originals, *read)))
    written = Counter(path for item, plan in zip(items, plans, strict=True) for path in _possible(item, plan))
    for path, times in written.items():
        if times > 1:
            raise InputError(f"{path}: two sources write this file; rename one, or localize in one at a time")
    return plans


def _possible(item: Item, plan: OutputPlan) -> dict[Path, None]:
    """Files that may be written; whether a URL is of a picture or a video is known when it is opened."""
    return dict.fromkeys([*plan.files, *(plan.of_still().files if "://" in item.text else ())])


def _names(videos: Sequence[Item]) -> dict[str, str]:
    """A name for the results of each source."""
    forms = [
        {item.text: Path(_path_of(item)).stem or "stream" for item in videos},
        {item.text: Path(_path_of(item)).name or "stream" for item in videos},
        {item.text: "-".join(Path(_path_of(item)).parts[-2:]) for item in videos},
        {item.text: f"{number + 1}-{Path(_path_of(item)).name}" for number, item in enumerate(videos)},
    ]
    names: dict[str, str] = {}
    for form in forms:
        repeated = Counter(name.casefold() for name in form.values())
        for text, name in form.items():
            if text not in names and repeated[name.casefold()] == 1 and name not in names.values():
                names[text] = name
    return names


def _path_of(item: Item) -> str:
    """The part of a text that is like a path; of a camera, its name."""
    text = item.text
    scheme, divider, place = text.partition("://")
    if divider and not exists(text):
        place = place.partition("?")[0].partition("#")[0]
        if scheme.lower() == "file":
            return unquote(place)
        host, _, path = place.partition("/")
        return "/".join(safe_segments(f"{host.rpartition('@')[2]}/{path}"))  # without a password
    return f"camera{text}" if text.isdecimal() and not exists(text) else text


def _listed(source: str) -> list[str]:
    path = Path(source)
    if path.suffix.lower() not in LIST_SUFFIXES or not exists(source) or not path.is_file():
        return [source]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}); check the path") from error
    return parse_source_list(source, content)


def _is_group(text: str) -> bool:
    return (exists(text) and Path(text).is_dir()) or (is_pattern(text) and "://" not in text)


def _is_still(text: str) -> bool:
    path = Path(text)
    if path.suffix.lower() not in IMAGE_SUFFIXES or not exists(text) or not path.is_file():
        return False
    return path.suffix.lower() in (".tif", ".tiff") or frames_in_image(path) == 1


def _grouped(text: str) -> list[Item]:
    found = look_for(text)
    if not (found.images or found.videos):
        raise InputError(f"{text}: holds no image or video; give another folder, pattern or file")
    images = [Item(text, found.images, found.left_out)] if found.images else []
    if not images and found.left_out:  # nothing to read beside them: named all the same
        images = [replace(Item(text), text=str(Path(text) / item.name)) for item in found.left_out]
    return [*images, *(Item(str(path)) for path in found.videos)]
