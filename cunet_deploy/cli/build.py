"""``cunet-deploy build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import Progress

from cunet_deploy.cli._options import AnyPath, console, output_option, overwrite_option, parse_bytes, progress
from cunet_deploy.errors import InputError
from cunet_deploy.tensorrt.flavour import FLAVOURS

if TYPE_CHECKING:
    from cunet_deploy.tensorrt.build import BuildPlan, BuildSpec, Built

__all__ = ["build_and_print", "command"]


@click.command("build")
@click.argument("bundle", type=AnyPath())
@click.option(
    "--flavour",
    type=click.Choice(["auto", *FLAVOURS]),
    default="auto",
    show_default=True,
    help="TensorRT builds for the GPU that is here; TensorRT for RTX for others too, without any.",
)
@click.option("--sm", metavar="N,N", help="Compute capabilities to build for, 86,120; TensorRT for RTX only.")
@click.option("--batch", metavar="MIN:OPT:MAX", help="Batch sizes, 1:4:8, or one.  [default: the model's, or 1:1:16]")
@click.option("--workspace", metavar="SIZE", help="Limit of temporary GPU memory: 2GiB, 2GB.  [default: no limit]")
@click.option("--timing-cache", type=AnyPath(), help="File of measured kernels; makes the next build faster.")
@click.option("--dla", metavar="N", type=click.IntRange(min=0), help="Build for this DLA core of a Jetson.")
@click.option("--gpu-fallback", is_flag=True, help="With --dla: what the DLA cannot run goes to the GPU.")
@click.option("--require-int8", is_flag=True, help="Exit code 4, and no engine, unless every convolution is int8.")
@click.option("--dry-run", is_flag=True, help="Show what would be built, and the equivalent trtexec line.")
@click.option("--verbose", is_flag=True, help="Show everything that TensorRT logs.")
@output_option("DIR", "Folder of the engine.  [default: the bundle's]")
@overwrite_option
def command(
    bundle: Path,
    flavour: str,
    sm: str | None,
    batch: str | None,
    workspace: str | None,
    timing_cache: Path | None,
    dla: int | None,
    gpu_fallback: bool,
    require_int8: bool,
    dry_run: bool,
    verbose: bool,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Build a TensorRT engine from BUNDLE.

    The engine is NAME.int8.trt10.3-sm87.engine, with its description beside it in NAME.(...).engine.json; copy both.
    The bundle must hold model.tensorrt.onnx, see cunet-deploy export --target tensorrt.

    \b
    Example:
      cunet-deploy build face68-s --batch 1:4:8 --require-int8
      cunet-deploy build face68-s --flavour tensorrt_rtx --sm 86,120 -o engines
    """
    from cunet_deploy.tensorrt.build import BuildSpec
    from cunet_deploy.tensorrt.profile import parse_batch

    spec = BuildSpec(
        model=bundle,
        flavour=flavour,
        sm=() if sm is None else _capabilities(sm),
        batch=None if batch is None else parse_batch(batch),
        workspace=None if workspace is None else _workspace(workspace),
        timing_cache=timing_cache,
        dla=dla,
        gpu_fallback=gpu_fallback,
        verbose=verbose,
    )
    folder = out or (bundle if bundle.is_dir() else bundle.parent)
    build_and_print(spec, folder, overwrite=overwrite, require_int8=require_int8, dry_run=dry_run)


def build_and_print(
    spec: BuildSpec, folder: Path, *, overwrite: bool, require_int8: bool = False, dry_run: bool = False
) -> Path:
    """Build an engine into a folder with a progress bar, and say what it is; returns its path."""
    from cunet_deploy.tensorrt.build import build_engine, plan_build

    plan = plan_build(spec)
    for finding in plan.report.warnings:
        console().print(f"cunet-deploy: note: {finding}")
    if dry_run:
        _print_plan(plan, folder)
        return folder / plan.file_name
    with progress() as bar:
        built = build_engine(
            plan, folder, overwrite=overwrite, require_int8=require_int8, progress=_Bar(bar, plan.file_name)
        )
    _print_built(built)
    return built.path


class _Bar:
    """Shows the phase that the builder is in: there are dozens, and some are inside others."""

    def __init__(self, bar: Progress, title: str) -> None:
        self._bar = bar
        self._task = bar.add_task(title, total=None)

    def __call__(self, phase: str, step: int, steps: int) -> None:
        self._bar.update(self._task, description=phase, completed=step, total=steps or None)


def _capabilities(text: str) -> tuple[int, ...]:
    """``"86,120"`` or ``"8.6,12.0"``."""
    numbers = [part.strip().lower().removeprefix("sm").replace(".", "") for part in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise click.BadParameter(f"compute capabilities such as 86,120 are expected; got {text!r}", param_hint="--sm")
    return tuple(sorted({int(number) for number in numbers}))


def _workspace(text: str) -> int:
    size = parse_bytes("--workspace", text)
    if not size:
        raise InputError("--workspace is 0; give a size such as 2GiB, or leave it out for no limit")
    return size


def _print_plan(plan: BuildPlan, folder: Path) -> None:
    report = plan.report
    click.echo(f"would build {folder / plan.file_name}")
    click.echo(f"  from {plan.spec.model}, {report.int8} of {len(report.convolutions)} convolutions int8")
    click.echo(f"  with {plan.flavour.name} {plan.flavour.version}")
    for name, shapes in plan.profile.items():
        click.echo(f"  {name}: " + ", ".join(f"{kind} {'x'.join(map(str, shapes[kind]))}" for kind in shapes))
    click.echo(plan.trtexec)


def _print_built(built: Built) -> None:
    layers = built.layers
    size = built.path.stat().st_size / 1e6
    click.echo(f"{built.path}: {size:.2f} MB, sha256 {built.manifest.engine_sha256[:16]}")
    click.echo(f"{layers.int8} of {len(layers.convolutions)} convolutions int8, {len(layers.layers)} layers")
    for layer in layers.not_int8[:10]:
        click.echo(f"  {layer.name}: {', '.join(layer.inputs)} x {layer.weights} -> {', '.join(layer.outputs)}")
