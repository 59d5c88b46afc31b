"""``cunet-deploy export``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from cunet_deploy.cli._options import AnyPath, method_option, output_option, overwrite_option, progress
from cunet_deploy.cli._report import advancing
from cunet_deploy.config import QuantConfig, load_bits
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.export.targets import TARGETS, Target, get_target

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from cunet_deploy.checkpoint.storage import Checkpoint
    from cunet_deploy.export.bundle import Bundle

__all__ = ["command", "target_options"]


def target_options(function: F) -> F:
    """``--target NAME`` and the options of each target: ``target`` is a name or ``None``; others ``None`` or given."""
    for target in reversed(TARGETS.values()):
        for option in reversed(target.options):
            kind: click.ParamType[Any] = click.Choice(option.choices) if option.choices else click.IntRange(min=1)
            if option.is_file:
                kind = AnyPath(exists=True, dir_okay=False)
            default = f"  [default: {option.choices[0]}]" if option.choices else ""
            text = f"With --target {target.name}: {option.help}{default}"
            metavar = None if option.choices else "FILE" if option.is_file else "N"
            function = click.option(f"--{option.name}", metavar=metavar, type=kind, help=text)(function)
    text = ". ".join(f"{target.name} {target.help}" for target in TARGETS.values())
    return click.option(
        "--target", type=click.Choice(list(TARGETS)), help=f"{text}.  [default: {next(iter(TARGETS))}]"
    )(function)


@click.command("export")
@click.argument("checkpoint", type=AnyPath())
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
    type=AnyPath(),
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
    type=AnyPath(),
    help="Photos on which the exported model is compared with the checkpoint.  [default: the photos of --calibration, "
    "else drawn faces]",
)
@click.option(
    "--calibrate-scores",
    "scored",
    metavar="DATASET",
    type=AnyPath(),
    help="Labelled photos that the model was not trained on, as evaluate takes them: scores become the share of "
    "landmarks with such a peak that are right.",
)
@target_options
@click.option(
    "--engine",
    is_flag=True,
    help="Also build the engine, with the TensorRT that is installed; the target is tensorrt where none is named.",
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
    scored: Path | None,
    target: str | None,
    engine: bool,
    decode: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Write the bundle of CHECKPOINT: model.onnx, manifest.json and golden.npz.

    The exported model is run in ONNX Runtime and must find the same landmarks as the checkpoint does in PyTorch, within
    0.05 pixels of the network's input on average; otherwise nothing is written and the exit code is 4. With
    --calibration the reference is the calibrated checkpoint; its distance from the float one is printed and recorded.

    \b
    Example:
      cunet-deploy export runs/s/quantized.pt --bits 8
      cunet-deploy export runs/s/float.pt --bits 8 --calibration data/300w/afw -o face68-s
      cunet-deploy export runs/s/float.pt --bits 4 --calibration data/300w/afw --correct-bias -o face68-s
      cunet-deploy export runs/s/float.pt --reduce-range --calibration data/300w/afw -o face68-s
      cunet-deploy export runs/s/quantized.pt --target tensorrt -o face68-s
      cunet-deploy export runs/s/quantized.pt --engine
      cunet-deploy export runs/pose/quantized.pt --calibrate-scores lspet#val
    """
    from cunet_deploy._optional import require

    require("torch", extra="train")
    require("onnx", extra="train")
    from cunet_deploy.checkpoint.storage import load_checkpoint
    from cunet_deploy.export.bundle import export_checkpoint

    chosen, settings = _target(target, engine, options)
    loaded = load_checkpoint(checkpoint)
    given = loaded if unets is None else loaded.first_unets(unets)
    folder = _folder(given, checkpoint, out, overwrite=overwrite)
    photos = _photos(calibration, images, method, correct_bias)
    source = _in_precision(given, _wanted(bits, reduce_range), calibration, method, photos if correct_bias else None)
    bundle = export_checkpoint(
        source if scored is None else _with_score_curve(source, scored),
        folder,
        images=images or photos,
        parent=given if source is not given else None,
        target=chosen.name,
        options=settings,
        decoded=decode,
        overwrite=overwrite,
    )
    _print_bundle(bundle)
    if engine:
        folder = _build_engine(folder, overwrite=overwrite)
    _print_next_command(folder, "" if engine else chosen.command, finds_boxes=source.config.finds_boxes)


def _in_precision(
    given: Checkpoint,
    quant: QuantConfig | Literal["float"] | None,
    calibration: Path | None,
    method: Literal["min-max", "percentile", "entropy", "mse"] | None,
    correct_on: Path | None,
) -> Checkpoint:
    """The checkpoint as it is exported; a warning where few bits were not trained."""
    from cunet_deploy.export.bundle import quantized_checkpoint
    from cunet_deploy.quantize.observers import RangeRule

    if given.kind == "float" and quant != "float" and calibration is None:
        raise InputError(
            "a float checkpoint needs --calibration DIR (photos like those on the device) to be quantized; or export "
            "the quantized checkpoint of the same run (quantized.pt), or use --bits 32"
        )
    rule = None if method is None else RangeRule(method)
    source = quantized_checkpoint(given, quant, calibration, rule=rule, correct_on=correct_on)
    if source is not given and isinstance(quant, QuantConfig) and quant != QuantConfig():
        click.echo(
            "warning: fewer than 8 bits without training cost accuracy; measure it, or train with them", err=True
        )
    return source


def _with_score_curve(source: Checkpoint, dataset: Path) -> Checkpoint:
    """The checkpoint with what its peaks say on labelled photos."""
    from cunet_deploy.checkpoint.session import TorchSession
    from cunet_deploy.data.examples import PhotoCache
    from cunet_deploy.data.readers import read_examples
    from cunet_deploy.evaluation import evaluate
    from cunet_deploy.metrics import fit_score_curve

    if source.config.finds_boxes:
        raise InputError("--calibrate-scores is for landmarks, and this model finds boxes; leave it out")
    session = TorchSession(source, exact=False)
    examples = read_examples(dataset, session.manifest.skeleton)
    with advancing(progress(), "scores", len(examples)) as advance:
        found = evaluate(session, examples, PhotoCache(1 << 30), advance=advance)
    curve = fit_score_curve(found.scores, found.correct(), found.normalizer, found.limit)
    click.echo(f"scores calibrated on {curve.landmarks} landmarks of {len(found.examples)} objects in {dataset}")
    return replace(source, scores=replace(source.scores, score_curve=curve))


def _target(name: str | None, engine: bool, given: Mapping[str, Any]) -> tuple[Target, dict[str, Any]]:
    """The target, and those of its own options that were given."""
    default = next(target for target in TARGETS.values() if target.has_engine or not engine)
    target = default if name is None else get_target(name)
    if engine and not target.has_engine:
        raise InputError(f"--engine builds from what --target {default.name} writes; leave --target {name} out")
    settings = {key: value for key, value in given.items() if value is not None}
    for key in settings.keys() - {option.name for option in target.options}:
        owner = next(item.name for item in TARGETS.values() if key in {option.name for option in item.options})
        raise InputError(f"--{key} is for {owner}; add --target {owner} or leave it out")
    return target, settings


def _build_engine(bundle: Path, *, overwrite: bool) -> Path:
    """Build the engine of a bundle into its folder; where that fails, say that the bundle is there."""
    from cunet_deploy.cli.build import build_and_print
    from cunet_deploy.tensorrt.build import BuildSpec

    try:
        return build_and_print(BuildSpec(bundle), bundle, overwrite=overwrite)
    except CunetError as error:
        bundle_text = shlex.quote(str(bundle))
        raise type(error)(
            f"the bundle is in {bundle_text}, but no engine was built: {error}. Then: cunet-deploy build {bundle_text}"
        ) from error


def _folder(checkpoint: Checkpoint, file: Path, out: Path | None, *, overwrite: bool) -> Path:
    """``-o``, or the folder in the current one that is named after the model; refused where a bundle is there already.

    A folder that nobody named is refused where it holds anything at all.
    """
    from cunet_deploy.export.bundle import bundle_files

    name = checkpoint.config.name
    plain = Path(name).name == name and name not in ("", "..")
    folder = out or Path(name if plain else file.stem)
    taken = bundle_files(folder)[:1]
    if out is None and (any(folder.iterdir()) if folder.is_dir() else folder.exists()):
        taken = [folder]
    if taken and not overwrite:
        raise InputError(f"{taken[0]} exists already; add --overwrite to replace the bundle, or choose another -o")
    return folder


def _photos(calibration: Path | None, images: Path | None, method: str | None, correct_bias: bool) -> Path | None:
    """Photos on which biases are corrected: those of ``--calibration``, else those of ``--parity``."""
    if calibration is None and (method or correct_bias):
        raise InputError("--method and --correct-bias change what --calibration gives; add it or leave them out")
    from cunet_deploy.data.readers import is_data_set

    photos = calibration if calibration is not None and is_data_set(calibration) else images
    if correct_bias and photos is None:
        raise InputError("--correct-bias needs photos, and a ranges file holds none; add --parity DIR")
    return photos


def _wanted(bits: str | None, reduce_range: bool) -> QuantConfig | Literal["float"] | None:
    """Weight format that ``--bits`` or ``--reduce-range`` asks for; ``None`` if neither was given."""
    if reduce_range:
        if bits is not None:
            raise InputError("--reduce-range means 7 bits in every layer; leave --bits out")
        return QuantConfig(weight_bits=7, edge_bits=7)
    if bits is None:
        return None
    if bits == "32":
        return "float"
    if bits.isdecimal() and 1 <= int(bits) <= 8:
        return QuantConfig(weight_bits=int(bits))
    if bits.endswith(".toml"):
        return load_bits(bits, QuantConfig())
    raise InputError(f"--bits {bits}: expected 1 to 8, 32 for float, or a .toml file of bits by layer")


def _print_next_command(model: Path, command: str, *, finds_boxes: bool) -> None:
    text = shlex.quote(str(model))
    click.echo(f"{'bundle' if model.is_dir() else 'engine'}: {text}")
    running = f"cunet-deploy infer VIDEO {'--detector' if finds_boxes else '--model'} {text}"
    click.echo(f"next{', ' if command else ': '}{command.format(bundle=text) or running}")


def _print_bundle(bundle: Bundle) -> None:
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
    for name, summary in bundle.addition.summary.items():
        size = len(bundle.addition.files[name]) / 1e6
        click.echo(f"{bundle.path / name}: {size:.3f} MB, {summary}")
