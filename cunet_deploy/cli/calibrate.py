"""``cunet-deploy calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from cunet_deploy.cli._options import (
    AnyPath,
    FloatRange,
    device_option,
    method_option,
    output_option,
    overwrite_option,
    progress,
)
from cunet_deploy.errors import InputError

__all__ = ["command"]


@click.command("calibrate")
@click.argument("checkpoint", type=AnyPath())
@click.option("--images", required=True, type=AnyPath(), help="Photos like those on the device.")
@output_option("FILE.json", "The ranges file to write.", folder=False, required=True)
@method_option
@click.option(
    "--percentile",
    type=FloatRange(50, 100),
    help="Share of the values that --method percentile covers, in percent.  [default: 99.99]",
)
@click.option("--crops", default=256, show_default=True, type=click.IntRange(min=1), help="Maximum number of crops.")
@device_option()
@overwrite_option
def command(
    checkpoint: Path,
    images: Path,
    out: Path,
    method: Literal["min-max", "percentile", "entropy", "mse"] | None,
    percentile: float | None,
    crops: int,
    device: str,
    overwrite: bool,
) -> None:
    """Record the activation ranges of a float CHECKPOINT over photos.

    With the file, `export --bits 8 --calibration FILE` can be repeated without the photos.

    \b
    Example:
      cunet-deploy calibrate runs/s/float.pt --images data/300w/afw -o calibration/face68-s.json
      cunet-deploy calibrate runs/s/float.pt --images data/300w/afw -o ranges.json --method mse
    """
    from cunet_deploy._optional import require

    require("torch", extra="train")
    from cunet_deploy.checkpoint.manifest import make_manifest
    from cunet_deploy.checkpoint.storage import load_checkpoint
    from cunet_deploy.cli._report import advancing
    from cunet_deploy.export.calibration import calibrate_checkpoint
    from cunet_deploy.export.crops import list_photos
    from cunet_deploy.export.ranges import write_ranges
    from cunet_deploy.model.device import choose_device, describe_device
    from cunet_deploy.quantize.observers import RangeRule

    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; add --overwrite to replace it or choose another -o")
    if percentile is not None and method != "percentile":
        raise InputError("--percentile is for --method percentile; add that or leave it out")
    rule = RangeRule(method or "min-max", 99.99 if percentile is None else percentile)
    source, chosen = load_checkpoint(checkpoint), choose_device(device)
    click.echo(f"calibrating on {describe_device(chosen)}", err=True)
    photos = list_photos(images, make_manifest(source), crops)
    with advancing(progress(), "calibrating", len(photos)) as advance:
        ranges = calibrate_checkpoint(source, photos, rule, advance=advance, device=chosen)
    write_ranges(ranges, source, out, crops=len(photos), rule=rule, overwrite=overwrite)
    click.echo(f"{out}: {len(ranges)} ranges of {len(photos)} crops, {rule.method}")
