"""``cunet-deploy sensitivity``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cunet_deploy.cli._interrupts import saying_what_is_kept
from cunet_deploy.cli._options import (
    AnyPath,
    FilePath,
    device_option,
    json_option,
    output_option,
    overwrite_option,
    parse_bytes,
    progress,
    threads_option,
)
from cunet_deploy.config import WEIGHT_FORMATS
from cunet_deploy.errors import InputError

if TYPE_CHECKING:
    from cunet_deploy.export.progress import ResumeFile
    from cunet_deploy.export.sensitivity import Measurement, Plan, Prober

__all__ = ["command"]


@dataclass(frozen=True)
class _Request:
    """The arguments and options of the command, by their names."""

    checkpoint: Path
    data: Path
    out: Path
    budget: str | None
    formats: str
    images: int
    calibration: Path | None
    keep: Path | None
    device: str
    threads: int | None
    json_path: Path | None
    overwrite: bool


@click.command("sensitivity")
@click.argument("checkpoint", type=AnyPath())
@click.option(
    "--data",
    required=True,
    type=AnyPath(),
    help="Labelled photos, as evaluate takes them. None that shall judge the model later.",
)
@output_option("FILE.toml", "The file of bits to write.", folder=False, required=True)
@click.option(
    "--budget",
    metavar="BYTES|0.40MB",
    help="Size of model.onnx, at most.  [default: halfway between 8 bits and the smallest formats]",
)
@click.option(
    "--formats",
    default="4,ternary,1",
    show_default=True,
    help=f"Weight formats to try beside 8: {', '.join(WEIGHT_FORMATS)}.",
)
@click.option("--images", default=100, show_default=True, type=click.IntRange(min=2), help="Maximum number of objects.")
@click.option(
    "--calibration",
    type=AnyPath(),
    help="Photos, or a file of cunet-deploy calibrate: ranges of the activations.  [default: the photos of --data]",
)
@click.option(
    "--keep",
    metavar="FILE",
    type=FilePath(),
    help="Keep the measurements in this file and reuse them: another --budget then takes a minute.",
)
@device_option()
@threads_option
@json_option
@overwrite_option
def command(**given: Any) -> None:
    """Measure what fewer bits cost in each layer of a float CHECKPOINT, and choose bits by layer for a file size.

    The weights of one convolution at a time are rounded to each format while all others keep 8 bits. The table shows
    how far that moves the landmarks and how much it adds to their error, and is also written above the chosen bits.
    Nothing is trained; the time is that of layers x formats x objects runs of half the network. Progress is kept in
    FILE.partial: after an interruption the same command continues from there.

    \b
    Example:
      cunet-deploy sensitivity runs/s/float.pt --data data/300w/afw -o bits.toml --budget 0.40MB
      cunet-deploy train config.toml --from runs/s/float.pt --bits bits.toml --data data/300w -o runs/mixed
    """
    _sensitivity(_Request(**given))


def _sensitivity(asked: _Request) -> None:
    from cunet_deploy._optional import require

    torch = require("torch", extra="train")
    require("onnx", extra="train")
    from cunet_deploy._files import write_text_atomic
    from cunet_deploy.checkpoint.manifest import make_manifest
    from cunet_deploy.checkpoint.storage import load_checkpoint
    from cunet_deploy.cli._report import json_report
    from cunet_deploy.export.bundle import ranges_of
    from cunet_deploy.export.crops import list_photos
    from cunet_deploy.export.progress import ResumeFile
    from cunet_deploy.export.sensitivity import Prober, bits_toml
    from cunet_deploy.model.device import choose_device, describe_device

    if asked.out.exists() and not asked.overwrite:
        raise InputError(f"{asked.out} exists already; add --overwrite to replace it or choose another -o")
    names, limit = _formats(asked.formats), None if asked.budget is None else parse_bytes("--budget", asked.budget)
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    source, chosen = load_checkpoint(asked.checkpoint), choose_device(asked.device)
    click.echo(f"measuring on {describe_device(chosen)}", err=True)
    photos = list_photos(asked.data, make_manifest(source), asked.images)
    _ = photos.examples  # notices a lack of labels before the calibration
    prober = Prober(source, ranges := ranges_of(source, asked.calibration or asked.data, device=chosen), photos, chosen)
    prober.check_budget(names, limit)
    identity = {"weights": source.checksum, "photos": photos.checksum, "formats": ",".join(names)}
    beside = ResumeFile.beside(asked.out, **identity, ranges=repr(sorted(ranges.items())))
    resume = replace(beside, path=asked.keep or beside.path)
    with json_report(asked.json_path, overwrite=asked.overwrite) as write:
        measurement = _measure(prober, names, resume)
        plan = prober.plan(measurement, limit)
        write(_report(measurement, plan))
        line = f"cunet-deploy sensitivity {asked.checkpoint} --data {asked.data} -o {asked.out}"
        line += f" --formats {asked.formats} --images {asked.images}"
        for option, value in (("budget", asked.budget), ("calibration", asked.calibration)):
            line += "" if value is None else f" --{option} {value}"
        write_text_atomic(asked.out, bits_toml(measurement, plan, line), overwrite=asked.overwrite)
    if asked.keep is None:
        resume.remove()
    _print_plan(measurement, plan, asked.out)


def _measure(prober: Prober, formats: list[str], resume: ResumeFile) -> Measurement:
    """Measure with a progress bar; say on Ctrl-C where the progress is kept."""
    from cunet_deploy.cli._report import advancing

    def kept() -> str:
        there = resume.path.exists()
        return f"{resume.path} holds the progress, the same command goes on from there" if there else ""

    steps = len(prober.layers) * len(formats) * len(prober.photos)
    with saying_what_is_kept(kept), advancing(progress(), "measuring", steps) as advance:
        return prober.measure(formats, resume=resume, advance=advance)


def _formats(text: str) -> list[str]:
    """The formats to try, each once, without 8 bits, which every layer has anyway."""
    names = [name for name in dict.fromkeys(part.strip() for part in text.split(",")) if name != "8"]
    for name in names:
        if name not in WEIGHT_FORMATS:
            raise InputError(f"--formats: {name!r} is unknown; expected some of {', '.join(WEIGHT_FORMATS)}, by commas")
    if not names:
        raise InputError("--formats names none beside 8; add smaller ones, such as 4,ternary,1")
    return names


def _report(measurement: Measurement, plan: Plan) -> dict[str, Any]:
    from cunet_deploy.machine.describe import describe_machine, describe_versions
    from cunet_deploy.sessions.registry import packages

    choices = measurement.choices()
    layers = [
        {
            "layer": layer,
            "weights": measurement.counts[measurement.layers.index(layer)],
            "chosen": plan.formats[layer],
            "formats": {
                choice.format: {
                    "bytes": choice.bytes,
                    "nme_difference_percent_points": measurement.points(layer, choice.format).to_dict(),
                    "moved_rms_percent": round(measurement.moved_percent(layer, choice.format), 4),
                }
                for choice in choices[layer]
                if choice.format in measurement.formats
            },
        }
        for layer in measurement.by_sensitivity()
    ]
    return {
        "objects": len(measurement.baseline),
        "nme_8_bit_percent": measurement.nme_percent,
        "file_bytes": plan.bytes,
        "expected_nme_difference_percent_points": round(plan.expected, 6),
        "nme_difference_percent_points": plan.measured.to_dict(),
        "layers": layers,
        "machine": describe_machine(),
        "versions": describe_versions(*packages(), "torch"),
    }


def _print_plan(measurement: Measurement, plan: Plan, out: Path) -> None:
    from rich.table import Table

    from cunet_deploy.cli._report import results

    title = (
        f"{len(measurement.baseline)} objects; by how many % of the normalizer landmarks move, and points of NME with "
        "their 95 % interval, against 8 bit"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    for column in ("weights", *measurement.formats, "chosen"):
        table.add_column(column, justify="right")
    counts = dict(zip(measurement.layers, measurement.counts, strict=True))
    for layer in measurement.by_sensitivity():
        cells = []
        for name in measurement.formats:
            points = measurement.points(layer, name)
            cells.append(f"{measurement.moved_percent(layer, name):.2f}  {points.value:+.3f} ± {points.margin:.3f}")
        table.add_row(layer, str(counts[layer]), *cells, plan.formats[layer])
    results().print(table)
    results().print(
        f"{out}: model.onnx of {plan.bytes / 1e6:.3f} MB; its bits add {plan.measured.value:+.3f} ± "
        f"{plan.measured.margin:.3f} points of NME to the {measurement.nme_percent:.3f} % of 8 bits, without training "
        f"(expected {plan.expected:+.3f})",
        markup=False,
    )
