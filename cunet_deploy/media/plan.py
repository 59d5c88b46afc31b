"""What result files are called."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cunet_deploy.errors import InputError
from cunet_deploy.media.pipeline import DEPTH
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES
from cunet_deploy.media.readers.sources import ImageFiles, Source
from cunet_deploy.media.readers.video import WRITABLE_SUFFIXES

__all__ = ["FORMATS", "OutputPlan", "plan_outputs"]

FORMATS = ("jsonl", "csv", "coco", "pts")
"""Kinds of files with landmarks."""

_ALONE = {".jsonl": "jsonl", ".csv": "csv", ".json": "coco", ".pts": "pts"}


@dataclass(frozen=True)
class OutputPlan:
    """Which files to write.

    Attributes:
        jsonl: JSON Lines, or ``None``.
        csv: CSV, or ``None``.
        video: annotated video, or ``None``.
        images: annotated image for each image file's path, in its order; empty for video or without drawing.
        coco: COCO keypoints, or ``None``.
        pts: a folder of ``.pts`` files; for a single image the file, with that suffix; or ``None``.
        numbered: a path with a ``%`` in its name, such as ``%06d.png``, for an annotated image of each frame of a
            video; or ``None``.
        stdout: whether JSON Lines go to standard output.
    """

    jsonl: Path | None
    csv: Path | None
    video: Path | None = None
    images: tuple[Path, ...] = ()
    coco: Path | None = None
    pts: Path | None = None
    numbered: Path | None = None
    stdout: bool = False

    @property
    def files(self) -> list[Path]:
        """All of them, pictures first."""
        single = (self.numbered, self.video, self.jsonl, self.csv, self.coco, self.pts)
        return [*self.images, *(path for path in single if path is not None)]

    @property
    def draws(self) -> bool:
        """Whether pictures are written."""
        return bool(self.video or self.images or self.numbered)

    @property
    def depth(self) -> int:
        """Frames that may wait for a thread that writes these files; 0 where handing over takes longer than writing."""
        return DEPTH if self.draws or self.pts or self.stdout else 0

    def in_the_way(self) -> Path | None:
        """One of the files that exists already."""
        for path in self.files:
            if path == self.numbered:
                path = path.with_name(path.name % 0)
            elif path == self.pts and path.is_dir():
                path = next(path.glob("*.pts"), path / ".pts")
            if path.exists():
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
            landmarks go beside it. For several images, a folder. ``out.jsonl``, ``out.csv``, ``out.json`` (COCO) or,
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
    alone = None if path is None else "-" if str(path) == "-" else _ALONE.get(path.suffix.lower())
    if str(path) == "none":
        return OutputPlan(None, None)
    if path is not None and alone is not None:
        plan = _one_file(source, path, alone, formats)
    elif isinstance(source, ImageFiles) and not source.single:
        plan = _folder_plan(source, path, draw, formats)
    else:
        plan = _file_plan(source, path, draw, formats)
    originals = {original.resolve() for original in (*source.originals, *read)}
    taken = originals & {file.resolve() for file in plan.files}
    if taken:
        raise InputError(f"{min(taken)}: is read and would be replaced; choose another output with -o")
    return plan


def _one_file(source: Source, path: Path, kind: str, formats: tuple[str, ...] | None) -> OutputPlan:
    if formats is not None:
        raise InputError(f"-o {path} is one file of a kind by itself; leave out --format, or give a picture with -o")
    if kind == "-":
        return OutputPlan(None, None, stdout=True)
    if kind == "pts" and not (isinstance(source, ImageFiles) and source.single):
        raise InputError(f"{path}: a .pts file is of one image; for more, use --format pts and see -o")
    return _plan({kind: path})


def _records(jsonl: Path, pts: Path, formats: tuple[str, ...] | None) -> OutputPlan:
    """The files with landmarks that are wanted, called as the first."""
    paths = {"jsonl": jsonl, "csv": jsonl.with_suffix(".csv"), "coco": jsonl.with_suffix(".coco.json"), "pts": pts}
    wanted = ("jsonl", "csv") if formats is None else formats
    return _plan({name: paths[name] for name in wanted})


def _plan(paths: dict[str, Path]) -> OutputPlan:
    """Of files by their kind, see `FORMATS`."""
    return OutputPlan(paths.get("jsonl"), paths.get("csv"), coco=paths.get("coco"), pts=paths.get("pts"))


def _folder_plan(source: ImageFiles, out: Path | None, draw: bool, formats: tuple[str, ...] | None) -> OutputPlan:
    folder = Path("landmarks") if out is None else out
    if (folder.exists() and not folder.is_dir()) or folder.suffix.lower() in (*IMAGE_SUFFIXES, *WRITABLE_SUFFIXES):
        raise InputError(f"{folder}: several images are written to a folder; give one with -o DIR")
    names = [path.name for path in source.paths]
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if repeated:
        raise InputError(f"two images are called {min(repeated)}; localize in one folder at a time")
    plan = _records(folder / "landmarks.jsonl", folder, formats)
    return replace(plan, images=tuple(folder / name for name in names) if draw else ())


def _file_plan(source: Source, out: Path | None, draw: bool, formats: tuple[str, ...] | None) -> OutputPlan:
    video = source.moving
    suffix = ".mp4" if video else ".png"
    if out is None or out.is_dir():
        out = (out or Path()) / f"{source.stem}.landmarks{suffix}"
    accepted = WRITABLE_SUFFIXES if video else IMAGE_SUFFIXES
    if video and "%" in out.name and out.suffix.lower() in IMAGE_SUFFIXES:
        _check_pattern(out)
        plan = _records(out.with_name("landmarks.jsonl"), out.parent, formats)
        return replace(plan, numbered=out) if draw else plan
    if out.suffix.lower() not in accepted:
        what = "a video" if video else "an image"
        more = ("frames/%06d.png",) if video else ()
        others = ", ".join((*accepted, *more, ".jsonl", ".csv", ".json"))
        given = str(source.originals[0]) if source.originals else "the source"
        raise InputError(f"{out}: {given} is {what}; the output may end in {others}")
    pts = out.with_name(f"{out.stem}_pts") if video else out.with_suffix(".pts")
    plan = _records(out.with_suffix(".jsonl"), pts, formats)
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
