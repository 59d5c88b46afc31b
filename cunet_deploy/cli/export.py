"""``cunet-deploy export``."""

from __future__ import annotations

from pathlib import Path

import click

from cunet_deploy.cli._options import overwrite_option

__all__ = ["command"]


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--bits",
    type=click.Choice(["8", "32"]),
    default="8",
    show_default=True,
    help="Bits of weights and activations; 32 is float.",
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Photos, or a file of cunet-deploy calibrate: ranges for a checkpoint that was not trained quantized.",
)
@click.option(
    "--parity",
    "images",
    type=click.Path(path_type=Path),
    help="Photos on which the exported model is compared with the checkpoint; drawn faces otherwise.",
)
@overwrite_option
def command(
    checkpoint: Path, bits: str, out: Path, calibration: Path | None, images: Path | None, overwrite: bool
) -> None:
    """Write the bundle of CHECKPOINT: model.onnx, manifest.json and golden.npz.

    The exported model runs in ONNX Runtime at once and must find the same landmarks as the checkpoint does in torch,
    within 0.05 pixels of the network's input on average; else nothing is written and the exit code is 4.

    \b
    Example:
      cunet-deploy export runs/s/quantized.pt --bits 8 -o face68-s
      cunet-deploy export runs/s/float.pt --bits 8 --calibration data/300w/afw -o face68-s
    """
    from cunet_deploy._optional import require

    require("torch", extra="train")
    require("onnx", extra="train")
    from cunet_deploy.checkpoint import load_checkpoint
    from cunet_deploy.export.bundle import export_checkpoint, quantized_checkpoint

    source = quantized_checkpoint(load_checkpoint(checkpoint), int(bits), calibration)
    bundle = export_checkpoint(source, out, images=images, overwrite=overwrite)
    click.echo(f"{out / 'model.onnx'}: {bundle.bytes / 1e6:.3f} MB, sha256 {bundle.sha256[:16]}")
    parity = bundle.parity
    click.echo(
        f"parity with the checkpoint on {parity.crops} {bundle.crops} crops: mean {parity.mean_px:.4f} px, "
        f"worst crop {parity.worst_crop_px:.4f} px"
    )
    if bundle.differing is not None:
        exact = "bit for bit equal to" if bundle.differing == 0 else f"{bundle.differing} heatmap values differ from"
        click.echo(f"{exact} exact integer arithmetic")
