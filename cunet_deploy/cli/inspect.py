"""``cunet-deploy inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cunet_deploy.cli._options import AnyPath, json_option, overwrite_option
from cunet_deploy.cli._report import json_report
from cunet_deploy.tensorrt.flavour import FLAVOURS
from cunet_deploy.tensorrt.targets import TARGETS

if TYPE_CHECKING:
    from cunet_deploy.onnx_graph.storage import Storage
    from cunet_deploy.tensorrt.lint import Finding

__all__ = ["command"]

_SHOWN = 5
"""Findings of one code that are printed: a mistake that was made once is found at every node."""


@click.command("inspect")
@click.argument("model", type=AnyPath())
@click.option(
    "--target",
    metavar="NAME",
    help=f"Also check the rules of {', '.join(TARGETS)}.",
)
@click.option(
    "--flavour",
    type=click.Choice(FLAVOURS),
    help="Also check what holds for one of the two only.",
)
@click.option("--layers", is_flag=True, help="Print bits, bytes and share of every layer.")
@json_option
@overwrite_option
def command(
    model: Path, target: str | None, flavour: str | None, layers: bool, json_path: Path | None, overwrite: bool
) -> None:
    """Analyse MODEL, a released model, a bundle or any ONNX file: bytes and bits of its layers, and int8 in TensorRT.

    A model can build without a warning and still run in float. This lists which convolutions will run in int8, and why
    the others will not. Neither TensorRT nor a GPU is needed. Exit code 4 when the model would be rejected, or when its
    numbers would change silently; a bundle without a file for TensorRT is checked only with --target or --flavour.

    \b
    Example:
      cunet-deploy inspect face68-s --target sm87
      cunet-deploy inspect someone_elses_qdq.onnx --json findings.json
    """
    from cunet_deploy.errors import VerificationError
    from cunet_deploy.onnx_graph.storage import read_storage
    from cunet_deploy.tensorrt.build import bundled_model
    from cunet_deploy.tensorrt.lint import check_model
    from cunet_deploy.zoo import bundle_folder

    model = bundle_folder(model)
    path = bundled_model(model)
    stored = model / "model.onnx" if model.is_dir() else path
    with json_report(json_path, overwrite=overwrite) as write:
        storage = read_storage(stored)
        report = check_model(path, target=target, flavour=flavour or "")
        write({"model": str(path), **report.to_dict(), "storage": {"file": str(stored), **storage.to_dict()}})
    _print_storage(stored, storage, layers=layers)
    made_for_cpus = model.is_dir() and path == stored
    if made_for_cpus and not (target or flavour):
        click.echo(
            f"{path}: made for CPUs; export --target tensorrt adds a file for TensorRT, and --target NAME here says "
            "what TensorRT would make of this one"
        )
        return
    click.echo(f"{path}: {report.int8} of {len(report.convolutions)} convolutions int8, {report.carrier} between them")
    _print_findings(report.findings)
    if report.errors:
        count = len(report.errors)
        advice = "; it was made for CPUs: export its checkpoint with --target tensorrt" if made_for_cpus else ""
        raise VerificationError(
            f"{path}: {count} {'error' if count == 1 else 'errors'} for TensorRT, listed above{advice}"
        )


def _print_storage(path: Path, storage: Storage, *, layers: bool) -> None:
    if layers:
        for layer in storage.layers:
            share = layer.bytes / storage.total
            click.echo(f"{layer.name:32} {layer.bits:4g} bits {layer.bytes:9} bytes {share:6.1%}")
    if storage.external:
        click.echo(f"{path}: weights of it lie in {', '.join(storage.external)}, which counts too")
    weights = ", ".join(f"{size / 1e6:.3f} MB at {bits} bits" for bits, size in storage.by_bits().items())
    click.echo(
        f"{path}: {storage.total / 1e6:.3f} MB: weights {weights}; biases, scales and tables "
        f"{storage.constants / 1e6:.3f} MB; graph and manifest {storage.rest / 1e6:.3f} MB"
    )


def _print_findings(findings: Sequence[Finding]) -> None:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.code] += 1
        if seen[finding.code] <= _SHOWN:
            click.echo(f"  {'error' if finding.is_error else 'warning'} {finding}")
    for code, count in seen.items():
        if count > _SHOWN:
            click.echo(f"  {count - _SHOWN} more {code}; --json FILE has all")
