"""Names of result files."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from cunet_deploy._files import exists, part_path
from cunet_deploy.errors import InputError
from cunet_deploy.media.pipeline import DEPTH
from cunet_deploy.media.readers.base import Source
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES, WRITABLE_IMAGE_SUFFIXES, ImageFiles
from cunet_deploy.media.writers.base import ResultFormat
from cunet_deploy.media.writers.formats import FORMATS
from cunet_deploy.media.writers.video import WRITABLE_SUFFIXES

__all__ = ["OutputPlan", "plan_outputs"]


@dataclass(frozen=True)
class OutputPlan:
    """Files to write.

    Attributes:
        records: files with landmarks by the name of their format, see `FORMATS`. That of ``pts`` is a folder, or for a
            single image the file, with that suffix.
        video: annotated video, or ``None``.
        images: annotated image for each image file's path, in its order; empty for video or without drawing.
        numbered: a path with a ``%`` in its name, such as ``%06d.png``, for an annotated image of each frame of a
            video; or ``None``.
        stdout: whether JSON Lines go to standard output.
    """

    records: dict[str, Path] = field(default_factory=dict)
    video: Path | None = None
    images: tuple[Path, ...] = ()
    numbered: Path | None = None
    stdout: bool = False

    @property
    def files(self) -> list[Path]:
        """Paths of all files, pictures first."""
        pictures = [path for path in (self.numbered, self.video) if path is not None]
        return [*self.images, *pictures, *(self.records[name] for name in FORMATS if name in self.records)]

    @property
    def folder(self) -> Path:
        """Folder of the files, of which there has to be one."""
        first = self.files[0]
        return first if first == self.records.get("pts") and first.suffix.lower() != ".pts" else first.parent

    def of_still(self) -> OutputPlan:
        """The plan for a source that was taken for a video, and is a single image: no file of a set is called so."""
        if self.video is None:
            return self
        return replace(self, video=None, images=(self.video.with_suffix(".landmarks.png"),))

    @property
    def draws(self) -> bool:
        """Return whether pictures are written."""
        return bool(self.video or self.images or self.numbered)

    @property
    def depth(self) -> int:
        """Frames that may wait for a thread that writes these files; 0 where handing over takes longer than writing."""
        return DEPTH if self.draws or self.stdout or any(FORMATS[name].slow for name in self.records) else 0

    @property
    def _whole_files(self) -> list[Path]:
        """Records and video: those that are one file for all of a source."""
        return [*self.records.values(), *([] if self.video is None else [self.video])]

    def unfinished(self) -> list[Path]:
        """List what an interrupted run has left of these files, see `part_path`."""
        return [part for path in self._whole_files if exists(part := part_path(path))]

    def mark_unfinished(self) -> None:
        """Mark files that are complete in themselves but do not reach the end of their source; see `unfinished`."""
        for path in self._whole_files:
            if path.is_file():
                with contextlib.suppress(OSError):
                    part_path(path).touch()

    def in_the_way(self) -> Path | None:
        """One of the files that exists already."""
        for path in self.files:
            if path == self.numbered:
                path = path.with_name(path.name % 0)
            elif path == self.records.get("pts") and path.is_dir():
                path = next(path.glob("*.pts"), path / ".pts")
            if exists(path):
                return path
        return None


def plan_outputs(
    source: Source,
    out: str | Path | None,
    *,
    draw: bool = True,
    formats: tuple[str, ...] | None = None,
    read: tuple[Path, ...] = (),
) -> OutputPlan:
    """Name the result files.

    Args:
        source: what is localized in.
        out: for a video ``out.mp4``, or ``frames/%06d.png`` for its frames; for an image ``out.png``: files with
            landmarks go beside it. For several images, a folder. A folder that exists, or as text one that ends with
            ``/``, takes files named after the source. ``out.jsonl``, ``out.csv``, ``out.json`` (COCO) or,
            for a single image, ``out.pts`` writes that file alone. ``"-"`` writes JSON Lines to standard output,
            ``"none"`` nothing. ``None`` takes names after the source, in the current folder.
        draw: whether to write annotated pictures.
        formats: which of `FORMATS` to write; ``None``: JSON Lines and CSV.
        read: further files that are read and must not be replaced.

    Raises:
        InputError: the suffix does not fit the source, or a result would replace a file that is read.
    """
    unknown = [name for name in formats or () if name not in FORMATS]
    if unknown:
        raise InputError(f"{', '.join(unknown)} is not written; choose from {', '.join(FORMATS)}")
    path = None if out is None else Path(out)
    is_folder = str(out).endswith(("/", os.sep))
    alone = None if path is None else next((f for f in FORMATS.values() if f.suffix == path.suffix.lower()), None)
    if str(out) == "none":
        return OutputPlan()
    if path is not None and not is_folder and (alone is not None or str(path) == "-"):
        plan = _one_file(source, path, alone, formats)
    elif isinstance(source, ImageFiles) and not source.single:
        plan = _folder_plan(source, path, draw, formats)
    else:
        if path is None or is_folder or (exists(path) and path.is_dir()):
            path = (path or Path()) / f"{source.stem}.landmarks{'.mp4' if source.moving else '.png'}"
        plan = _file_plan(source, path, draw, formats)
    originals = {original.resolve() for original in (*source.originals, *read)}
    taken = originals & {file.resolve() for file in plan.files}
    if taken:
        raise InputError(f"{min(taken)}: is read and would be replaced; choose another output")
    return plan


def _one_file(source: Source, path: Path, kind: ResultFormat | None, formats: tuple[str, ...] | None) -> OutputPlan:
    if formats is not None:
        raise InputError(
            f"{path}: says its format by itself; leave the formats out, or name a picture or video", option="format"
        )
    if kind is None:
        return OutputPlan(stdout=True)
    if kind.one_image and (source.moving or source.count != 1):
        raise InputError(
            f"{path}: a {kind.suffix} file is of one image; for more, name a folder and the format {kind.name}"
        )
    return OutputPlan({kind.name: path})


def _records(stem: Path, formats: tuple[str, ...] | None, *, of_one: bool) -> OutputPlan:
    """The files with landmarks that are wanted, called after a path without suffix."""
    wanted = [name for name, row in FORMATS.items() if row.usual] if formats is None else formats
    return OutputPlan({name: FORMATS[name].beside(stem, of_one) for name in wanted})


def _folder_plan(source: ImageFiles, out: Path | None, draw: bool, formats: tuple[str, ...] | None) -> OutputPlan:
    folder = Path("landmarks") if out is None else out
    if (exists(folder) and not folder.is_dir()) or folder.suffix.lower() in (*IMAGE_SUFFIXES, *WRITABLE_SUFFIXES):
        raise InputError(f"{folder}: several images or clips are written to a folder; give one with -o DIR")
    names = [_written_name(name) for name in source.file_names]
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if repeated:
        raise InputError(f"two images are called {min(repeated)}; localize in one folder at a time")
    plan = _records(folder / "landmarks", formats, of_one=False)
    if "pts" in plan.records:
        plan = replace(plan, records=plan.records | {"pts": folder})
    return replace(plan, images=tuple(folder / name for name in names) if draw else ())


def _written_name(name: str) -> str:
    """The name of an annotated image: that of the image, and ``.png`` behind it where its type cannot be written."""
    return name if Path(name).suffix.lower() in WRITABLE_IMAGE_SUFFIXES else f"{name}.png"


def _file_plan(source: Source, out: Path, draw: bool, formats: tuple[str, ...] | None) -> OutputPlan:
    video = source.moving
    accepted = WRITABLE_SUFFIXES if video else WRITABLE_IMAGE_SUFFIXES
    if video and "%" in out.name and out.suffix.lower() in WRITABLE_IMAGE_SUFFIXES:
        _check_pattern(out)
        plan = _records(out.with_name("landmarks"), formats, of_one=False)
        if "pts" in plan.records:
            plan = replace(plan, records=plan.records | {"pts": out.parent})
        return replace(plan, numbered=out) if draw else plan
    if out.suffix.lower() not in accepted:
        what = "a video" if video else "an image"
        more = ("frames/%06d.png",) if video else ()
        others = ", ".join(
            (*accepted, *more, *(row.suffix for row in FORMATS.values() if not (video and row.one_image)))
        )
        given = str(source.originals[0]) if source.originals else "the source"
        raise InputError(f"{out}: {given} is {what}; the output may end in {others}, or in / for a new folder")
    plan = _records(out.with_suffix(""), formats, of_one=not video)
    if not draw:
        return plan
    return replace(plan, video=out) if video else replace(plan, images=(out,))


def _check_pattern(path: Path) -> None:
    try:
        good = path.name % 1 != path.name % 2
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(f"{path}: stands not for numbered files; write a name such as %06d.png")
