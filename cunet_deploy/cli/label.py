"""``cunet-deploy label``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cunet_deploy.cli._interrupts import interrupt_flag, saying_what_is_kept
from cunet_deploy.cli._options import (
    FloatRange,
    detector_option,
    json_option,
    licence_option,
    output_option,
    progress,
    resume_options,
    threads_option,
)
from cunet_deploy.cli._report import json_report, results
from cunet_deploy.errors import CunetError, InputError

if TYPE_CHECKING:
    from cunet_deploy.labelling.agreement import Rule
    from cunet_deploy.labelling.pictures import Pictures
    from cunet_deploy.labelling.run import Summary, TeacherEnsemble
    from cunet_deploy.skeletons import Skeleton

__all__ = ["command"]


@dataclass(frozen=True)
class _Request:
    """The options of the command, as they were given."""

    sources: tuple[str, ...]
    teachers: tuple[str, ...]
    out: Path
    skeleton: str | None
    every: int
    seconds: str | None
    within: float | None
    min_score: float
    min_joints: float
    sheet: int
    detector: str | None
    threads: int | None
    licence: str | None
    json_path: Path | None
    resume: bool
    overwrite: bool


@click.command("label")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--teacher",
    "teachers",
    metavar="MODEL|FILE.toml",
    multiple=True,
    required=True,
    help="Bundle, .onnx or released model of ours, or the description of another keypoint network; several times for "
    "several teachers.",
)
@output_option(
    "SET.json", "COCO keypoints; frames of clips go into the folder SET beside it.", folder=False, required=True
)
@click.option("--skeleton", metavar="NAME|FILE.toml", help="Landmarks to label.  [default: those of the first teacher]")
@click.option(
    "--every",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    metavar="N",
    help="Label every Nth frame of clips.",
)
@click.option("--seconds", metavar="FROM:TO", help="Label this part of clips only; either end may be left out.")
@click.option(
    "--within",
    type=FloatRange(0, 10, min_open=True),
    metavar="SHARE",
    help="Largest distance of two opinions on a joint, in sizes of the object.  [default: of bodies 0.2 of the torso, "
    "or what PCK takes; else 0.03 of the box]",
)
@click.option(
    "--min-score",
    type=FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Least mean score of a joint.",
)
@click.option(
    "--min-joints",
    type=FloatRange(0, 1),
    default=0.5,
    show_default=True,
    metavar="SHARE",
    help="Least share of an object's joints that are agreed on; with fewer it gets no labels.",
)
@click.option(
    "--sheet",
    type=click.IntRange(0),
    default=24,
    show_default=True,
    metavar="N",
    help="Draw the N least certain objects into SET.doubts.jpg.",
)
@detector_option
@threads_option
@licence_option
@json_option
@resume_options("Go on with a run that was stopped or failed.")
def command(**given: Any) -> None:
    """Label photos and clips with trained networks, to train a smaller one or adapt it to a camera.

    SOURCE is a photo, folder, pattern, clip, or a list of these, as `infer` reads it. Each teacher looks at each object
    five times: as it is, mirrored, shifted, enlarged and turned a little. A joint is labelled where all opinions of all
    teachers that know it lie close together; the others are left unlabelled. With one teacher only its own opinions are
    compared.

    SET.json is a COCO keypoints file with scores, and with the teachers' checksums under "info". Its folder is a data
    set for `train`: {path = "FOLDER", layout = "coco"}. Ctrl-C leaves a set of what is labelled by then; --resume does
    the rest, and again what has changed since. What cannot be read is named and left out, with exit code 1 at the end.

    \b
    Example:
      cunet-deploy label clip.mp4 --teacher models/pose14-m -o camera/train.json
      cunet-deploy label clips/ --teacher models/pose14-m --teacher movenet.toml -o camera/train.json --seconds 0:90
      cunet-deploy label portraits/ --teacher face68-s-open -o faces/portraits.json --within 0.03
    """
    _label(_Request(**given))


def _label(asked: _Request) -> None:
    from cunet_deploy.labelling.pictures import Pictures
    from cunet_deploy.labelling.run import TeacherEnsemble, is_done

    out, skeleton = asked.out, _skeleton(asked.skeleton)
    if out.suffix.lower() != ".json":
        raise InputError(f"-o {out}: the labels are a .json file; give -o SET.json")
    pictures = Pictures(asked.sources, every=asked.every, seconds=_seconds(asked.seconds))
    with TeacherEnsemble(
        asked.teachers, skeleton, detector=asked.detector, threads=asked.threads, licence=asked.licence
    ) as ensemble:
        rule = _rule(ensemble.skeleton, asked)
        if asked.resume and is_done(pictures, ensemble, rule, out, sheet=asked.sheet, overwrite=asked.overwrite):
            click.echo(f"{out}: is done already")
            return
        with json_report(asked.json_path, overwrite=asked.overwrite) as write:
            summary = _run(asked, pictures, ensemble, rule)
            write(_report(summary, rule, ensemble.provenance(), out))
    _print(summary, rule, out)
    if pictures.failed:
        raise CunetError(f"{out}: is complete but for what could not be read, see above")


def _run(asked: _Request, pictures: Pictures, ensemble: TeacherEnsemble, rule: Rule) -> Summary:
    from cunet_deploy.labelling.run import label_pictures

    def kept() -> str:
        done = f"{bar.tasks[0].completed} of {pictures.expected or 'all'} pictures are done"
        return f"{asked.out}: {done}; go on with --resume"

    with progress() as bar, interrupt_flag() as stop, saying_what_is_kept(kept):
        task = bar.add_task("label", total=pictures.expected)
        return label_pictures(
            pictures,
            ensemble,
            rule,
            asked.out,
            sheet=asked.sheet,
            overwrite=asked.overwrite,
            resume=asked.resume,
            advance=lambda: bar.advance(task),
            stop=stop.is_set,
        )


def _seconds(text: str | None) -> tuple[float, float]:
    begin, colon, end = (text or ":").partition(":")
    try:
        part = float(begin or 0), float(end or "inf")
    except ValueError:
        part = 0.0, 0.0
    if not colon or not 0 <= part[0] < part[1]:
        raise InputError(f"--seconds {text}: expected FROM:TO, such as 0:90 or 90:")
    return part


def _skeleton(name: str | None) -> Skeleton | None:
    from cunet_deploy.skeletons import get_skeleton
    from cunet_deploy.skeletons.files import read_skeleton

    if name is None:
        return None
    return read_skeleton(Path(name)) if name.endswith(".toml") else get_skeleton(name)


def _rule(skeleton: Skeleton, asked: _Request) -> Rule:
    from cunet_deploy.labelling.agreement import default_rule

    usual = default_rule(skeleton)
    within = asked.within or usual.within
    return replace(usual, within=within, min_score=asked.min_score, min_joints=asked.min_joints)


def _report(summary: Summary, rule: Rule, teachers: list[dict[str, str]], out: Path) -> dict[str, object]:
    return {
        "set": str(out),
        "teachers": teachers,
        "within": rule.within,
        "size": rule.size,
        "min_score": rule.min_score,
        "pictures": summary.pictures,
        "pictures_with_objects": summary.with_objects,
        "objects": summary.objects,
        "objects_labelled": summary.labelled,
        "joints": summary.joints(),
        "skipped": summary.skipped,
    }


def _print(summary: Summary, rule: Rule, out: Path) -> None:
    from rich.table import Table

    for line in summary.skipped:
        click.echo(f"skipped: {line}", err=True)
    table = Table(title=f"agreement within {rule.within:g} {rule.size}", title_justify="left")
    table.add_column("joint")
    for title in ("agreed, %", "apart, median", "apart, 90 %", "mean score"):
        table.add_column(title, justify="right")
    for row in summary.joints():
        numbers = f"{row['apart_median']:.3f}", f"{row['apart_90']:.3f}", f"{row['score_mean']:.2f}"
        table.add_row(row["joint"], f"{row['agreed_percent']:.1f}", *numbers)
    results().print(table)
    click.echo(
        f"{out}: {summary.labelled} of {summary.objects} objects labelled, in {summary.with_objects} of "
        f"{summary.pictures} pictures"
    )
