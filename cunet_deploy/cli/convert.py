"""``cunet-deploy convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cunet_deploy.cli._options import AnyPath, FloatRange, output_option, overwrite_option

if TYPE_CHECKING:
    from cunet_deploy.checkpoint.storage import Checkpoint

__all__ = ["command"]


@click.command("convert")
@click.argument("legacy", type=AnyPath())
@output_option("FILE.pt", "The checkpoint to write.", folder=False, required=True)
@click.option("--name", default="", help="Name of the model.  [default: that of the file]")
@click.option(
    "--padding",
    default=1.25,
    show_default=True,
    type=FloatRange(min=0, min_open=True),
    help="Side of the crop divided by the longer side of the tight box. The authors cut 1.25 times a person's height, "
    "and 1.1 times a face detector's box that they did not publish: try some on labelled photos with evaluate.",
)
@click.option(
    "--losses",
    metavar="L",
    type=click.IntRange(min=1),
    help="Number of supervised U-Nets.  [default: as many as have trained heads]",
)
@click.option("--licence", default="unknown", show_default=True, help="Licence of the weights and their data.")
@overwrite_option
def command(
    legacy: Path, out: Path, name: str, padding: float, losses: int | None, licence: str, overwrite: bool
) -> None:
    """Convert LEGACY, a .pth.tar of the CU-Net authors' PyTorch code, to a checkpoint.

    Number of U-Nets, order, widths and landmarks are read from the tensors: 68 landmarks make a face model, 16 a body
    model. Only tensors and plain containers are read; a file that asks for anything else is refused (exit code 6).

    The weights of the first layer are adapted from the authors' input, RGB in [0, 1], to this package's. One difference
    remains: outside the image their network sees black and the converted one grey, which changes the outermost ring of
    its 64 x 64 first features and, a little, the heatmaps. Measure the accuracy of a converted model before you rely on
    it.

    \b
    Example:
      cunet-deploy convert lr-0.0000125-180.pth.tar -o runs/body16/float.pt --name body16
      cunet-deploy export runs/body16/float.pt --bits 32 -o body16
    """
    from cunet_deploy._optional import require

    require("torch", extra="train")
    from cunet_deploy.checkpoint.legacy.convert import convert_checkpoint
    from cunet_deploy.checkpoint.storage import save_checkpoint
    from cunet_deploy.errors import InputError

    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; add --overwrite to replace it or choose another -o")
    checkpoint = convert_checkpoint(legacy, name=name, padding=padding, losses=losses or 0, licence=licence)
    save_checkpoint(checkpoint, out, overwrite=overwrite)
    _print_checkpoint(out, checkpoint)


def _print_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    from cunet_deploy.checkpoint.storage import float_model

    model, network = checkpoint.config.model, float_model(checkpoint)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    click.echo(
        f"{path}: {checkpoint.config.name}, CU-Net of {model.num_unets} U-Nets, order {model.order}, "
        f"{model.channels} channels, {parameters:,} parameters"
    )
    click.echo(f"landmarks: {network.num_landmarks} ({checkpoint.config.skeleton})")
    unused = ", ".join(str(i + 1) for i in range(model.num_unets) if i not in model.anchors)
    click.echo(f"heads left out, because they were not trained: {f'those of U-Nets {unused}' if unused else 'none'}")
