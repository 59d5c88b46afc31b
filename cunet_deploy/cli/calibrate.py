"""``cunet-deploy calibrate``."""

from __future__ import annotations

from pathlib import Path

import click

from cunet_deploy.cli._options import overwrite_option

__all__ = ["command"]


@click.command("calibrate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--images", required=True, type=click.Path(path_type=Path), help="Photos like those on the device.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The ranges file (JSON) to write.")
@click.option("--crops", default=256, show_default=True, type=click.IntRange(min=1), help="Crops to look at, at most.")
@overwrite_option
def command(checkpoint: Path, images: Path, out: Path, crops: int, overwrite: bool) -> None:
    """Record the activation ranges of a float CHECKPOINT over photos.

    The file makes `export --bits 8 --calibration FILE` repeatable without the photos.

    \b
    Example:
      cunet-deploy calibrate runs/s/float.pt --images data/300w/afw -o calibration/face68-s.json
    """
    from cunet_deploy._optional import require

    require("torch", extra="train")
    from cunet_deploy.checkpoint import load_checkpoint
    from cunet_deploy.errors import InputError
    from cunet_deploy.export.bundle import calibrate_checkpoint
    from cunet_deploy.export.ranges import write_ranges

    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; add --overwrite to replace it or choose another -o")
    source = load_checkpoint(checkpoint)
    ranges = calibrate_checkpoint(source, images, crops)
    write_ranges(ranges, source, out, crops=crops, overwrite=overwrite)
    click.echo(f"{out}: {len(ranges)} ranges")
