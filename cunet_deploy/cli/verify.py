"""``cunet-deploy verify``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from cunet_deploy.cli._options import (
    AnyPath,
    FloatRange,
    backend_options,
    json_option,
    overwrite_option,
    resolve_backend,
    threads_option,
)
from cunet_deploy.cli._report import json_report, results
from cunet_deploy.errors import ArtifactError, InputError, VerificationError
from cunet_deploy.evaluation import open_model
from cunet_deploy.golden import Golden, read_golden
from cunet_deploy.manifest import Manifest
from cunet_deploy.parity import Parity, locate_in_crops, measure
from cunet_deploy.sessions import Session, model_file, open_session
from cunet_deploy.sessions.auto import MAX_MEAN_PX
from cunet_deploy.sessions.checks import matches_manifest
from cunet_deploy.sessions.registry import Backend, default_backend, find_backend
from cunet_deploy.zoo import bundle_folder

__all__ = ["command"]

_EXACT_BACKEND = "The same bits as at export come from ONNX Runtime on a CPU (--backend ort:cpu)"


@dataclass(frozen=True)
class _Request:
    """The arguments and options of the command, by their names."""

    bundle: Path
    engine: Path | None
    checkpoint: Path | None
    max_mean_px: float
    exact: bool
    backend: str | None
    trust: bool
    threads: int | None
    json_path: Path | None
    overwrite: bool


@click.command("verify")
@click.argument("bundle", type=AnyPath())
@click.option("--engine", type=AnyPath(), help="Check this .engine in place of BUNDLE's model.")
@click.option("--checkpoint", type=AnyPath(), help="Run this checkpoint (.pt) too; needs torch.")
@click.option(
    "--max-mean-px",
    type=FloatRange(0),
    default=MAX_MEAN_PX,
    show_default=True,
    help="Largest mean landmark distance allowed, in pixels of the network's input.",
)
@click.option("--exact", is_flag=True, help="Allow no heatmap value to differ by a single bit.")
@backend_options
@threads_option
@json_option
@overwrite_option
def command(**given: Any) -> None:
    """Check that the model in BUNDLE computes, on this machine, what the trained network does.

    The golden inputs of the bundle go through the runtime; its heatmaps and landmarks are compared with those that the
    trained network gave at export, and with --checkpoint also with those of a checkpoint now. Each row of the table is
    one stage: it shows which one differs, and in how many heatmap values. Exit code 4 when landmarks differ by more
    than allowed, or with --exact when any value differs: ONNX Runtime gives the same bits on every processor.

    --engine and --backend ort:tensorrt run model.tensorrt.onnx, which rounds differently: manifest.json records the
    distance that this causes ("tensorrt", "mean_px"); allow a little more. OpenVINO rounds some ties the other way; in
    a crop where that happens landmarks move by about 0.05 pixels on average.

    \b
    Example:
      cunet-deploy verify exported/face68-s --checkpoint runs/s/quantized.pt
      cunet-deploy verify models/face68-s --backend ort:cpu --exact
      cunet-deploy verify face68-s --engine face68-s/face68-s.int8.trt10.3-sm87.engine --max-mean-px 0.3
    """
    _verify(_Request(**given))


def _verify(asked: _Request) -> None:
    asked = replace(asked, bundle=bundle_folder(asked.bundle))
    backend = asked.backend
    if asked.engine is not None and asked.engine.suffix != ".engine":
        raise InputError(f"{asked.engine}: is not an .engine file; build one: cunet-deploy build {asked.bundle}")
    if not asked.bundle.is_dir():
        raise InputError(
            f"{asked.bundle}: is not a folder; verify needs the name of a released model or a bundle, made by "
            "cunet-deploy export CKPT -o DIR"
        )
    golden = read_golden(asked.bundle / "golden.npz")
    _check_described(asked.bundle)
    with json_report(asked.json_path, overwrite=asked.overwrite) as write:
        model = asked.bundle if asked.engine is None else asked.engine
        backend = resolve_backend(model, backend, asked.threads)
        outputs = {
            "runtime": _run(
                open_session(model, threads=asked.threads, backend=backend, trust=asked.trust), model, golden
            )
        }
        if asked.checkpoint is not None:
            outputs["checkpoint"] = _run(
                open_model(str(asked.checkpoint), threads=asked.threads), asked.checkpoint, golden
            )
        stages = _stages(golden, outputs)
        failed = [name for name, stage in stages.items() if not stage.passes(asked.max_mean_px, exact=asked.exact)]
        table = {name: stage.to_dict() for name, stage in stages.items()}
        write(
            {
                "bundle": str(asked.bundle),
                "model": str(model),
                "backend": outputs["runtime"].backend,
                "max_mean_px": asked.max_mean_px,
                "exact": asked.exact,
                "passed": not failed,
                "stages": table,
            }
        )
    _print_stages(stages, failed)
    if not failed:
        return
    inexact = [name for name in failed if stages[name].passes(asked.max_mean_px, exact=False)]
    if inexact == failed:
        stage = stages[failed[0]]
        raise VerificationError(
            f"{model}: {stage.differing} of {stage.values} heatmap values differ in {failed[0]}, the first of them "
            f"{stage.first}; landmarks are as close as asked without --exact. {_EXACT_BACKEND}"
        )
    lowered = model_file(model, backend).name != "model.onnx"
    row = default_backend(model_file(model).suffix) if backend is None else find_backend(backend)
    raise VerificationError(
        f"{model}: differs by more than {asked.max_mean_px:g} px in: {', '.join(failed)}; "
        + _advice(failed, row, lowered=lowered)
    )


@dataclass(frozen=True)
class _Stage:
    """Two things that should compute the same, compared.

    Attributes:
        parity: how far apart their landmarks are.
        values: how many heatmap values were compared.
        differing: how many of them differ in any bit.
        first: where the first of these is and what it is; empty if there is none.
    """

    parity: Parity
    values: int
    differing: int
    first: str

    def passes(self, max_mean_px: float, *, exact: bool) -> bool:
        """Return whether it is close enough; a distance that is no number is not."""
        return self.parity.mean_px <= max_mean_px and not (exact and self.differing)

    def to_dict(self) -> dict[str, float]:
        """Plain values, as the report holds them."""
        return {**self.parity.to_dict(), "values": self.values, "values_differing": self.differing}


@dataclass(frozen=True, eq=False)
class _Outputs:
    """Landmarks (N, K, 2) in input coordinates and heatmaps (N, K, H, W) of the golden inputs, and what gave them."""

    points: NDArray[np.floating]
    heatmaps: NDArray[np.floating]
    backend: str


def _check_described(bundle: Path) -> None:
    """Refuse a bundle whose model is not the file that its manifest describes."""
    sidecar, model = bundle / "manifest.json", bundle / "model.onnx"
    try:
        Manifest.from_json(sidecar.read_text(encoding="utf-8"), sidecar)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); export the bundle again") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{sidecar}: is damaged ({error}); export the bundle again") from error
    if not matches_manifest(model):
        raise VerificationError(f"{model}: is not the file that {sidecar} describes; copy or export the bundle again")


def _run(session: Session, model: Path, golden: Golden) -> _Outputs:
    try:
        manifest = session.manifest
        size, cells = manifest.crop.size, manifest.map_size
        expected = {"images": (size, size, 3), "heatmaps": (len(manifest.skeleton), cells, cells)}
        for name, shape in expected.items():
            if getattr(golden, name).shape[1:] != shape:
                raise ArtifactError(
                    f"{model}: takes and gives other shapes than the golden inputs ({name}: {shape}); "
                    "is it the model of this bundle?"
                )
        return _Outputs(*locate_in_crops(session, golden.images), session.backend)
    finally:
        session.close()


def _stages(golden: Golden, outputs: dict[str, _Outputs]) -> dict[str, _Stage]:
    """Every pair that can be compared, by what stands between the two."""
    runtime, checkpoint = outputs["runtime"], outputs.get("checkpoint")
    pairs: dict[str, tuple[Golden | _Outputs, _Outputs]] = {"runtime / export": (golden, runtime)}
    if checkpoint is not None:
        pairs["checkpoint / export"] = (golden, checkpoint)
        pairs["runtime / checkpoint"] = (checkpoint, runtime)
    return {stage: _compare(expected, found) for stage, (expected, found) in pairs.items()}


def _compare(expected: Golden | _Outputs, found: _Outputs) -> _Stage:
    parity = measure(expected.points, expected.heatmaps, found.points, found.heatmaps)
    differing = expected.heatmaps != found.heatmaps
    first = ""
    if differing.any():
        place = np.unravel_index(int(differing.argmax()), differing.shape)
        where = "input {}, map {}, row {}, column {}".format(*map(int, place))
        first = f"{found.heatmaps[place]:.9g} in place of {expected.heatmaps[place]:.9g} ({where})"
    return _Stage(parity, differing.size, int(np.count_nonzero(differing)), first)


def _advice(failed: list[str], backend: Backend, *, lowered: bool) -> str:
    if "checkpoint / export" not in failed and lowered:
        return "if that is little more than the mean_px that manifest.json tells of TensorRT, allow it: --max-mean-px"
    if "checkpoint / export" not in failed and backend.rounding_px:
        return (
            f"{backend.library} rounds some ties to the other side, which moves landmarks a little; allow it: "
            f"--max-mean-px {backend.rounding_px:g}"
        )
    if failed == ["runtime / export"]:
        return "the runtime on this machine computes something else; report it with the output of this command"
    if "runtime / export" not in failed:
        return "the bundle is sound but was made from another checkpoint; export the checkpoint again"
    return "export the bundle again and compare"


def _print_stages(stages: dict[str, _Stage], failed: list[str]) -> None:
    table = Table(title="distance of landmarks on golden inputs, pixels of the network's input", title_justify="left")
    table.add_column("stage")
    for column in ("inputs", "mean px", "worst input px", "max px", "mean |heatmap|", "values that differ", ""):
        table.add_column(column, justify="right")
    for name, stage in stages.items():
        parity = stage.parity
        numbers = (parity.mean_px, parity.worst_crop_px, parity.max_px, parity.heatmap_mean)
        verdict = "[red]differs" if name in failed else "ok"
        counts = f"{stage.differing} of {stage.values}"
        table.add_row(name, str(parity.crops), *(f"{number:.5f}" for number in numbers), counts, verdict)
    results().print(table)
