"""``cunet-deploy evaluate``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
from rich.table import Table

from cunet_deploy._files import atomic_path
from cunet_deploy.cli._options import (
    AnyPath,
    FloatRange,
    backend_options,
    check_picture_name,
    device_option,
    json_option,
    output_option,
    overwrite_option,
    progress,
    resolve_backend,
    say_skipped,
    threads_option,
)
from cunet_deploy.cli._report import advancing, json_report, results
from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.examples import Labelled, PhotoCache, split_by_photo
from cunet_deploy.data.readers import read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import ONCE, TTA, Evaluation, Measure, compare, evaluate, open_model
from cunet_deploy.evaluation.boxes import BoxEvaluation, compare_boxes, evaluate_boxes
from cunet_deploy.evaluation.gallery import worst_sheet
from cunet_deploy.machine.describe import describe_machine, describe_versions
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.registry import packages

__all__ = ["command"]

AnyEvaluation = Evaluation | BoxEvaluation


@dataclass(frozen=True)
class _Request:
    """The arguments and options of the command, by their names."""

    model: str
    dataset: Path
    against: str | None
    batch_size: int | None
    skip_bad: bool
    validation: float | None
    per_landmark: bool
    reliability: bool
    flip_test: bool
    scales: tuple[float, ...]
    blur: float | None
    worst: int | None
    sheet: Path | None
    backend: str | None
    trust: bool
    device: str | None
    threads: int | None
    json_path: Path | None
    overwrite: bool


@click.command("evaluate")
@click.argument("model")
@click.argument("dataset", type=AnyPath())
@click.option("--against", metavar="MODEL", help="Evaluate this model too and show the paired difference to it.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Crops per batch; fewer if memory runs out.  [default: 16, 128 on a GPU]",
)
@click.option("--skip-bad", is_flag=True, help="Leave out photos and label files that cannot be read, and say which.")
@click.option(
    "--validation",
    "--held-back",  # its name in earlier versions
    "validation",
    type=FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Only the validation split that training with validation_fraction = SHARE makes.",
)
@click.option("--per-landmark", is_flag=True, help="Show the error of each landmark too; of bodies the correct share.")
@click.option(
    "--reliability", is_flag=True, help="Show which share of the landmarks is right by their scores, in ten ranges."
)
@click.option(
    "--flip-test", is_flag=True, help="Average the heatmaps of each crop and its mirror image: twice the work."
)
@click.option(
    "--scale",
    "scales",
    type=FloatRange(0.25, 4),
    multiple=True,
    metavar="FACTOR",
    help="Average the maps of each crop and of one with sides FACTOR times as long; give it several times for more.",
)
@click.option(
    "--blur",
    type=FloatRange(0, 8),
    metavar="CELLS",
    help="Blur the heatmaps of MODEL by this before decoding, instead of by its own [heatmap] blur.",
)
@click.option(
    "--worst", type=click.IntRange(1), metavar="N", help="Draw the N objects with the largest errors into -o."
)
@output_option("SHEET.png", "Picture for --worst: labels blue, found landmarks yellow.", name="sheet", folder=False)
@backend_options
@device_option(default=None)
@threads_option
@json_option
@overwrite_option
def command(**given: Any) -> None:
    """Measure how accurate MODEL is on DATASET, with 95 % intervals.

    MODEL is a checkpoint (.pt, float or quantized), a bundle folder, an .onnx or .engine file or the name of a released
    model; all run through the same code on the same photos. --backend and --blur apply to MODEL, not to the model of
    --against.

    DATASET is a folder of labelled photos in any layout of [data] layout: 300-W (NAME.jpg beside NAME.pts), Leeds
    Sports Pose, MPII, COCO, or your own points. FOLDER#test is the part that its splits.json calls test,
    FOLDER#test:clean the intersection of two parts. Each object is cropped around its tight landmark box by the model's
    own rule. A model that finds boxes runs on whole photos: with a faces.json of all boxes in them, or labelled
    landmarks with their tight boxes.

    \b
    Example:
      cunet-deploy evaluate face68-s 300w/helen/testset --against runs/s/float.pt --json report.json
      cunet-deploy evaluate pose14-s lspet#test:clean --flip-test --worst 24 -o sheet.png
      cunet-deploy evaluate pose14-s lspet#test --flip-test --scale 0.9 --scale 1.1
      cunet-deploy evaluate pose14-s lspet#val --blur 1 --against pose14-s
    """
    _evaluate_all(_Request(**given))


def _evaluate_all(asked: _Request) -> None:
    backend = asked.backend
    bad: list[str] | None = [] if asked.skip_bad else None
    photos, models = PhotoCache(1 << 30), [asked.model] if asked.against is None else [asked.model, asked.against]
    tta = TTA(asked.flip_test, asked.scales)
    with (
        json_report(asked.json_path, overwrite=asked.overwrite) as write,
        _sheet(asked.sheet, asked.worst, overwrite=asked.overwrite) as draw,
    ):
        if asked.device is not None and not any(name.endswith(".pt") for name in models):
            raise InputError("--device is for checkpoints (.pt); say --backend ort:cuda to run another model on a GPU")
        if not asked.model.endswith(".pt"):
            backend = resolve_backend(asked.model, backend, asked.threads)
        evaluations = [
            _evaluate(
                partial(
                    open_model,
                    name,
                    threads=asked.threads,
                    trust=asked.trust,
                    backend=on,
                    device=asked.device if name.endswith(".pt") else None,
                ),
                name,
                asked.dataset,
                photos,
                partial(evaluate, batch_size=asked.batch_size, tta=tta, blur=blurred, bad=bad),
                asked.validation,
                bad,
                of_landmarks=tta != ONCE or blurred is not None,
            )
            for name, on, blurred in zip(models, (backend, None), (asked.blur, None), strict=False)  # these are MODEL's
        ]
        skipped = list(dict.fromkeys(bad or []))
        say_skipped(skipped)
        differences = _compare(*evaluations) if asked.against is not None else []
        draw(evaluations[0], photos)
        report = _report(models, asked.dataset, evaluations, differences, skipped, asked.per_landmark)
        write(_with_reliability(report, evaluations) if asked.reliability else report)
    _print_measures(models, evaluations, len(skipped))
    if differences:
        results().print(_sentence(models, differences))
    if asked.per_landmark and isinstance(evaluations[0], Evaluation):
        _print_landmarks(evaluations[0])
    if asked.reliability and isinstance(evaluations[0], Evaluation):
        _print_reliability(evaluations[0])


def _compare(evaluation: AnyEvaluation, reference: AnyEvaluation) -> list[Measure]:
    if isinstance(evaluation, Evaluation) and isinstance(reference, Evaluation):
        return compare(evaluation, reference)
    if isinstance(evaluation, BoxEvaluation) and isinstance(reference, BoxEvaluation):
        return compare_boxes(evaluation, reference)
    raise InputError("one of the models finds landmarks and the other boxes; compare models of one kind")


def _evaluate(
    opened: Callable[[], Session],
    model: str,
    dataset: Path,
    photos: PhotoCache,
    measured: Callable[..., Evaluation],
    validation: float | None,
    bad: list[str] | None,
    *,
    of_landmarks: bool,
) -> AnyEvaluation:
    session = opened()
    try:
        if session.manifest.boxes is not None:
            if of_landmarks:
                raise InputError(
                    f"--flip-test, --scale and --blur are for landmarks, and {model} finds boxes; leave them out"
                )
            boxed = _validation_split(read_boxes(dataset, bad=bad), validation, dataset)
            with advancing(progress(), model, len(boxed)) as advance:
                return evaluate_boxes(session, boxed, photos, bad=bad, advance=advance)
        examples = _validation_split(read_examples(dataset, session.manifest.skeleton, bad=bad), validation, dataset)
        with advancing(progress(), model, len(examples)) as advance:
            return measured(session, examples, photos, advance=advance)
    finally:
        session.close()


@contextlib.contextmanager
def _sheet(
    path: Path | None, worst: int | None, *, overwrite: bool
) -> Iterator[Callable[[AnyEvaluation, PhotoCache], None]]:
    """Give a function that draws the ``worst`` objects into ``path``; it does nothing when there is none."""
    if path is not None:
        check_picture_name(path)
    if (worst is None) != (path is None):
        raise InputError("--worst N and -o SHEET.png go together: give both, or neither")
    if path is None or worst is None:
        yield lambda evaluation, photos: None
        return
    with atomic_path(path, overwrite=overwrite) as temporary:

        def draw(evaluation: AnyEvaluation, photos: PhotoCache) -> None:
            if not isinstance(evaluation, Evaluation):
                raise InputError("--worst draws landmarks, and this model finds boxes; leave it out")
            picture = worst_sheet(evaluation, photos, worst)
            temporary.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())

        yield draw


def _validation_split(items: Sequence[Labelled], share: float | None, dataset: Path) -> Sequence[Labelled]:
    """The validation split that training makes of a folder; all of it where no share is asked for."""
    if share is None:
        return items
    split = split_by_photo(items, share)[1]
    if not split:
        raise InputError(f"{dataset}: no photo of {len(items)} examples is in that split; ask for a larger share")
    return split


def _report(
    models: Sequence[str],
    dataset: Path,
    evaluations: Sequence[AnyEvaluation],
    differences: Sequence[Measure],
    skipped: Sequence[str],
    per_landmark: bool,
) -> dict[str, Any]:
    tables: list[dict[str, Any]] = []
    for model, evaluation in zip(models, evaluations, strict=True):
        tables.append({"model": model, **evaluation.to_dict()})
        if per_landmark and isinstance(evaluation, Evaluation):
            errors = evaluation.landmarks_percent()
            tables[-1][evaluation.landmark_key] = {
                name: None if error != error else round(error, 4) for name, error in errors.items()
            }
    report: dict[str, Any] = {"dataset": str(dataset), "skipped": list(skipped), **tables[0]}
    if differences:
        report["against"] = tables[1]
        report["difference"] = {measure.key: measure.estimate.to_dict() for measure in differences}
    return {**report, "machine": describe_machine(), "versions": describe_versions(*packages(), "torch")}


def _with_reliability(report: dict[str, Any], evaluations: Sequence[AnyEvaluation]) -> dict[str, Any]:
    """A report with the bins of its first model; those without a landmark are left out."""
    first = evaluations[0]
    if not isinstance(first, Evaluation):
        raise InputError("--reliability is for landmarks, and this model finds boxes; leave it out")
    bins = [
        {
            "scores": [own.low, own.high],
            "landmarks": own.landmarks,
            "score_mean": round(own.score, 4),
            "correct_percent": round(100 * own.correct, 2),
        }
        for own in first.reliability()
        if own.landmarks
    ]
    error = first.calibration_error()
    return {**report, error.key: error.estimate.to_dict(), "reliability": bins}


def _print_reliability(evaluation: Evaluation) -> None:
    unit = f"within {evaluation.limit:g} {evaluation.normalizer.replace('_', ' ')}"
    table = Table(title=f"landmarks by score, and how many lie {unit}", title_justify="left")
    table.add_column("score")
    for title in ("landmarks", "mean score, %", "right, %"):
        table.add_column(title, justify="right")
    for own in evaluation.reliability():
        if own.landmarks:
            numbers = str(own.landmarks), f"{100 * own.score:.1f}", f"{100 * own.correct:.1f}"
            table.add_row(f"{own.low:.1f} to {own.high:.1f}", *numbers)
    results().print(table)
    error = evaluation.calibration_error()
    results().print(f"{error.title}: {error.estimate.text()} %")


def _sentence(models: Sequence[str], differences: Sequence[Measure]) -> str:
    """Describe the difference: ``s.onnx costs 0.03 ± 0.02 points of NME against float.pt (+0.9 ± 0.6 %), paired``."""
    lost = differences[0].estimate
    if differences[0].title.startswith("PCK"):
        verb, name = "costs" if lost.value >= 0 else "gains", differences[0].title.removesuffix(" lost")
        much = f"{abs(lost.value):.2f} ± {lost.margin:.2f} points of {name}"
        return f"{models[0]} {verb} {much} against {models[1]}, paired over the same people"
    if len(differences) == 1:
        much = f"{lost.value:+.2f} ± {lost.margin:.2f} points"
        return f"{models[0]} misses {much} of the boxes against {models[1]}, paired over the same photos"
    points, relative = (measure.estimate for measure in differences)
    verb = "costs" if points.value >= 0 else "gains"
    return (
        f"{models[0]} {verb} {abs(points.value):.3f} ± {points.margin:.3f} points of NME against {models[1]} "
        f"({relative.value:+.2f} ± {relative.margin:.2f} %), paired over the same objects"
    )


def _print_measures(models: Sequence[str], evaluations: Sequence[AnyEvaluation], skipped: int) -> None:
    left_out = f", {skipped} left out" if skipped else ""
    things = "objects" if isinstance(evaluations[0], Evaluation) else "photos"
    title = f"{len(evaluations[0].examples)} {things}{left_out}; value and 95 % interval, %"
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for model, evaluation in zip(models, evaluations, strict=True):
        table.add_column(f"{model}\n{evaluation.manifest.weight_bits} bit, {evaluation.backend}", justify="right")
    for row in zip(*(evaluation.measures() for evaluation in evaluations), strict=True):
        table.add_row(row[0].title, *(measure.estimate.text() for measure in row))
    results().print(table)


def _print_landmarks(evaluation: Evaluation) -> None:
    close = evaluation.pck_threshold
    what = f"{close.title} of each joint, %" if close else f"mean error of each landmark, % of {evaluation.normalizer}"
    table = Table(title=what, title_justify="left")
    table.add_column("landmark")
    table.add_column("%", justify="right")
    for name, error in evaluation.landmarks_percent().items():
        table.add_row(name, f"{error:.2f}")
    results().print(table)
