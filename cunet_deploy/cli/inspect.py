"""``cunet-deploy inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cunet_deploy.cli._options import json_option, overwrite_option
from cunet_deploy.cli._report import json_report

if TYPE_CHECKING:
    from cunet_deploy.engine.conform import Finding

__all__ = ["command"]

_SHOWN = 5
"""Findings of one code that are printed: a mistake that was made once is found at every node."""


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target",
    metavar="NAME",
    help="Also check the rules of sm75, sm80, sm86, sm87, sm89, sm90, sm110, sm120 or dla.",
)
@click.option(
    "--flavour",
    type=click.Choice(["tensorrt", "tensorrt_rtx"]),
    help="Also check what holds for one of the two only.",
)
@json_option
@overwrite_option
def command(model: Path, target: str | None, flavour: str | None, json_path: Path | None, overwrite: bool) -> None:
    """Say what TensorRT will make of MODEL, a bundle or any ONNX file, and what to change.

    A model can build without a warning and still run in float. This tells which convolutions will run in int8, and why
    the others do not. Neither TensorRT nor a GPU is needed. Exit code 4 when the model would be rejected, or when its
    numbers would change silently.

    \b
    Example:
      cunet-deploy inspect face68-s --target sm87
      cunet-deploy inspect someone_elses_qdq.onnx --json findings.json
    """
    from cunet_deploy.engine.build import bundled_model
    from cunet_deploy.engine.conform import check_model
    from cunet_deploy.errors import VerificationError

    path = bundled_model(model)
    with json_report(json_path, overwrite=overwrite) as write:
        report = check_model(path, target=target, flavour=flavour or "")
        write({"model": str(path), **report.to_dict()})
    click.echo(f"{path}: {report.int8} of {len(report.convolutions)} convolutions int8, {report.carrier} between them")
    _print_findings(report.findings)
    if report.errors:
        count = len(report.errors)
        raise VerificationError(f"{path}: {count} {'error' if count == 1 else 'errors'} for TensorRT, listed above")


def _print_findings(findings: Sequence[Finding]) -> None:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.code] += 1
        if seen[finding.code] <= _SHOWN:
            click.echo(f"  {'error' if finding.is_error else 'warning'} {finding}")
    for code, count in seen.items():
        if count > _SHOWN:
            click.echo(f"  {count - _SHOWN} more {code}; --json FILE has all")
