"""``cunet-deploy export``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cunet_deploy.cli._options import method_option, output_option, overwrite_option
from cunet_deploy.config import QuantConfig, load_bits
from cunet_deploy.errors import InputError

if TYPE_CHECKING:
    from cunet_deploy.checkpoint.storage import Checkpoint
    from cunet_deploy.export.bundle import Bundle

__all__ = ["command"]


@click.command("export")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--bits",
    metavar="1..8|32|FILE.toml",
    help="Bits of the weights; 32 is float, 1 binary, a file gives them by layer.  [default: those of the training; 8 "
    "for a float checkpoint]",
)
@click.option(
    "--reduce-range",
    is_flag=True,
    help="Weights of 7 bits in every layer: faster on x86 processors without VNNI, which need wider sums for 8 bits.",
)
@click.option(
    "--unets",
    metavar="N",
    type=click.IntRange(min=1),
    help="Only the first N U-Nets: smaller, faster, less accurate.  [default: all]",
)
@output_option("DIR", "Folder of the bundle.  [default: ./NAME, after the name of the model]")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Photos, or a file of cunet-deploy calibrate: ranges for a checkpoint that was not trained quantized.",
)
@method_option
@click.option(
    "--correct-bias",
    is_flag=True,
    help="With --calibration: shift biases so that the mean of each channel is that of the float checkpoint, on the "
    "photos of --calibration or else of --parity.",
)
@click.option(
    "--parity",
    "images",
    type=click.Path(path_type=Path),
    help="Photos on which the exported model is compared with the checkpoint.  [default: the photos of --calibration, "
    "else drawn faces]",
)
@click.option(
    "--target",
    type=click.Choice(["cpu", "tensorrt"]),
    default="cpu",
    show_default=True,
    help="tensorrt also writes model.tensorrt.onnx, from which cunet-deploy build makes an engine.",
)
@click.option(
    "--carrier",
    type=click.Choice(["fp16", "fp32"]),
    help="TensorRT: type between the convolutions; fp32 for TensorRT 8.6.  [default: fp16]",
)
@click.option(
    "--features",
    type=click.Choice(["carrier", "int8"]),
    help="TensorRT: type of the features that are concatenated.  [default: carrier]",
)
@click.option(
    "--batch", metavar="N", type=click.IntRange(min=1), help="TensorRT: fix the batch size; the DLA needs it."
)
@click.option(
    "--decode",
    is_flag=True,
    help="Let the graph find the landmarks, too: outputs landmarks and scores beside heatmaps.",
)
@overwrite_option
def command(
    checkpoint: Path,
    bits: str | None,
    reduce_range: bool,
    unets: int | None,
    out: Path | None,
    calibration: Path | None,
    method: Literal["min-max", "percentile", "entropy", "mse"] | None,
    correct_bias: bool,
    images: Path | None,
    target: str,
    carrier: Literal["fp16", "fp32"] | None,
    features: Literal["carrier", "int8"] | None,
    batch: int | None,
    decode: bool,
    overwrite: bool,
) -> None:
    """Write the bundle of CHECKPOINT: model.onnx, manifest.json and golden.npz.

    The exported model runs in ONNX Runtime at once and must find the same landmarks as the checkpoint does in torch,
    within 0.05 pixels of the network's input on average; else nothing is written and the exit code is 4. With
    --calibration that is the calibrated checkpoint; how far it is from the float one is printed and recorded.

    \b
    Example:
      cunet-deploy export runs/s/quantized.pt --bits 8
      cunet-deploy export runs/s/float.pt --bits 8 --calibration data/300w/afw -o face68-s
      cunet-deploy export runs/s/float.pt --bits 4 --calibration data/300w/afw --correct-bias -o face68-s
      cunet-deploy export runs/s/float.pt --reduce-range --calibration data/300w/afw -o face68-s
      cunet-deploy export runs/s/quantized.pt --target tensorrt -o face68-s
    """
    from cunet_deploy._optional import require

    require("torch", extra="train")
    require("onnx", extra="train")
    from cunet_deploy.checkpoint.storage import load_checkpoint
    from cunet_deploy.export.bundle import export_checkpoint, quantized_checkpoint
    from cunet_deploy.export.targets.tensorrt import Lowering
    from cunet_deploy.quantize.observers import RangeRule

    if target == "cpu" and (carrier or features or batch):
        raise InputError("--carrier, --features and --batch are for TensorRT; add --target tensorrt or leave them out")
    lowering = None if target == "cpu" else Lowering(carrier or "fp16", features or "carrier", batch)
    given = load_checkpoint(checkpoint)
    if unets is not None:
        given = given.first_unets(unets)
    quant = _wanted(bits, reduce_range)
    folder = _default_folder(given, checkpoint, overwrite) if out is None else out
    photos = _photos(calibration, images, method, correct_bias)
    rule = None if method is None else RangeRule(method)
    source = quantized_checkpoint(given, quant, calibration, rule=rule, correct_on=photos if correct_bias else None)
    if source is not given and isinstance(quant, QuantConfig) and quant != QuantConfig():
        click.echo(
            "warning: fewer than 8 bits without training cost accuracy; measure it, or train with them", err=True
        )
    images = images or photos
    parent = given if source is not given else None
    bundle = export_checkpoint(
        source, folder, images=images, parent=parent, lowering=lowering, decoded=decode, overwrite=overwrite
    )
    _print_bundle(bundle, float_activations=source.kind == "float")
    _print_next_command(bundle, finds_boxes=source.config.finds_boxes)


def _default_folder(checkpoint: Checkpoint, file: Path, overwrite: bool) -> Path:
    """The folder in the current one that is named after the model; refused where something is there already."""
    name = checkpoint.config.name
    plain = Path(name).name == name and name not in ("", "..")
    folder = Path(name if plain else file.stem)
    taken = not overwrite and any(folder.iterdir()) if folder.is_dir() else folder.exists()
    if taken:
        raise InputError(f"{folder} exists already; add --overwrite to replace the bundle in it, or choose another -o")
    return folder


def _photos(calibration: Path | None, images: Path | None, method: str | None, correct_bias: bool) -> Path | None:
    """What biases are corrected on: the photos of ``--calibration``, else those of ``--parity``."""
    if calibration is None and (method or correct_bias):
        raise InputError("--method and --correct-bias change what --calibration gives; add it or leave them out")
    from cunet_deploy.data.readers import is_data_set

    photos = calibration if calibration is not None and is_data_set(calibration) else images
    if correct_bias and photos is None:
        raise InputError("--correct-bias needs photos, and a ranges file holds none; add --parity DIR")
    return photos


def _wanted(bits: str | None, reduce_range: bool) -> QuantConfig | Literal["float"] | None:
    """What ``--bits`` or ``--reduce-range`` asks for; ``None`` where neither was given."""
    if reduce_range:
        if bits is not None:
            raise InputError("--reduce-range means 7 bits in every layer; leave --bits out")
        return QuantConfig(weight_bits=7, edge_bits=7)
    if bits is None:
        return None
    if bits == "32":
        return "float"
    if bits.isdigit() and 1 <= int(bits) <= 8:
        return QuantConfig(weight_bits=int(bits))
    if bits.endswith(".toml"):
        return load_bits(bits, QuantConfig())
    raise InputError(f"--bits {bits}: expected 1 to 8, 32 for float, or a .toml file of bits by layer")


def _print_next_command(bundle: Bundle, *, finds_boxes: bool) -> None:
    folder = shlex.quote(str(bundle.path if bundle.path.is_absolute() else Path(bundle.path)))
    click.echo(f"bundle: {folder}")
    if bundle.tensorrt is not None:
        click.echo(f"next, on the device: cunet-deploy build {folder}")
    elif finds_boxes:
        click.echo(f"next: cunet-deploy infer VIDEO --detector {folder}")
    else:
        click.echo(f"next: cunet-deploy infer VIDEO --model {folder}")


def _print_bundle(bundle: Bundle, *, float_activations: bool) -> None:
    click.echo(f"{bundle.path / 'model.onnx'}: {bundle.bytes / 1e6:.3f} MB, sha256 {bundle.sha256[:16]}")
    parity = bundle.parity
    click.echo(
        f"parity with the checkpoint on {parity.crops} {bundle.crops} crops: mean {parity.mean_px:.4f} px, "
        f"worst crop {parity.worst_crop_px:.4f} px"
    )
    if bundle.differing is not None:
        exact = "bit for bit equal to" if bundle.differing == 0 else f"{bundle.differing} heatmap values differ from"
        click.echo(f"{exact} exact integer arithmetic")
    if bundle.loss is not None:
        click.echo(
            f"calibration moved the landmarks of the float checkpoint by {bundle.loss.mean_px:.3f} px of the input on "
            f"average, in the worst crop by {bundle.loss.worst_crop_px:.3f} px"
        )
    if bundle.tensorrt is not None:
        file = bundle.tensorrt
        why = "float activations" if float_activations else "127 steps of activations instead of 255"
        click.echo(
            f"{bundle.path / 'model.tensorrt.onnx'}: {file.bytes / 1e6:.3f} MB, {file.lowering.carrier} carriers; "
            f"{why} move the landmarks by {file.parity.mean_px:.4f} px on average"
        )
