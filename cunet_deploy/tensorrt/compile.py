"""Parses and builds a network, in a process of its own.

A parser that meets what it does not expect can take its process down: a scale that is computed rather than constant
does. So this module is a program: it reads a job as JSON from a file, reports progress as lines of JSON on stdout, and
leaves the engine and a result beside the spec. `cunet_deploy.tensorrt.build` runs it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.errors import ArtifactError, CunetError
from cunet_deploy.tensorrt.flavour import Flavour, load
from cunet_deploy.tensorrt.layers import LayerReport, layers_from_inspector, layers_from_log
from cunet_deploy.tensorrt.log import Record, capture, get_logger
from cunet_deploy.tensorrt.profile import BatchRange, Profile

__all__ = ["PROGRESS", "BuildSpec", "Compiled", "Progress", "compile_network", "main"]

PROGRESS = "cunet-progress "
"""Prefix of a line of progress; other lines on stdout are the library's."""

Progress = Callable[[str, int, int], None]
"""Called with the phase, the step that is done, and the number of steps."""


@dataclass(frozen=True)
class BuildSpec:
    """Specification of a build.

    Attributes:
        model: the ONNX file; before `cunet_deploy.tensorrt.build.plan_build` also a bundle folder.
        flavour: "tensorrt", "tensorrt_rtx", or before `plan_build` also "auto".
        sm: compute capabilities to build for; only for flavours that are portable.
        batch: that is asked for; ``None``: what the model has, or 1:1:16 where its batch is free.
        profile: shapes of the inputs with a free size, as `plan_build` makes them of ``batch``.
        workspace: limit of temporary GPU memory in bytes; ``None``: the library's.
        timing_cache: file of measured kernels, read and written; ``None``: none.
        dla: number of the DLA core; ``None``: build for the GPU.
        gpu_fallback: layers that the DLA cannot run go to the GPU.
        verbose: log what the library says to stderr.
    """

    model: Path
    flavour: str = "auto"
    sm: tuple[int, ...] = ()
    batch: BatchRange | None = None
    profile: Profile | None = None
    workspace: int | None = None
    timing_cache: Path | None = None
    dla: int | None = None
    gpu_fallback: bool = False
    verbose: bool = False

    def to_json(self) -> str:
        """All that the builder needs, for another process."""
        return json.dumps({**asdict(self), "batch": None}, default=str)

    @classmethod
    def from_json(cls, text: str) -> BuildSpec:
        """Read what `to_json` gave."""
        table = json.loads(text)
        cache = table["timing_cache"]
        paths = {"model": Path(table["model"]), "timing_cache": None if cache is None else Path(cache)}
        return cls(**{**table, **paths, "sm": tuple(table["sm"])})


@dataclass(frozen=True, eq=False)
class Compiled:
    """Result of a build.

    Attributes:
        engine: the serialized engine.
        flags: how it was built.
        layers: what it consists of; without rows where the library did not tell.
        warnings: of the library, each once.
    """

    engine: bytes
    flags: tuple[str, ...]
    layers: LayerReport
    warnings: tuple[str, ...]


def compile_network(spec: BuildSpec, progress: Progress | None = None) -> Compiled:
    """Parse and build in this process.

    Args:
        spec: what to build, as `plan_build` made it.
        progress: called with the phase, the step that is done, and the number of steps.

    Raises:
        ArtifactError: the model is rejected, or this flavour cannot build it.
        CunetError: the build failed.
    """
    flavour = load(spec.flavour)
    trt, logger = flavour.trt, get_logger(flavour.module)
    with capture() as records:
        builder = trt.Builder(logger)
        network, flags = _parse(flavour, builder, logger, spec)
        config = builder.create_builder_config()
        flags += _configure(flavour, builder, config, spec)
        if progress is not None and flavour.has_progress:
            config.progress_monitor = _progress_monitor(flavour, progress)
        cache = _timing_cache(flavour, config, spec)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise CunetError(
                f"{spec.model}: {flavour.name} {flavour.version} cannot build it: {_reason(records)}; "
                "see cunet-deploy inspect, or the whole log",
                option="verbose",
            )
        if cache is not None and spec.timing_cache is not None:
            write_bytes_atomic(spec.timing_cache, bytes(cache.serialize()), overwrite=True)
        blob = bytes(engine)
        layers = _layers(flavour, logger, blob, records)
    warnings = dict.fromkeys(record.message.strip() for record in records if record.severity == "WARNING")
    return Compiled(blob, tuple(flags), layers, tuple(warnings))


def _parse(flavour: Flavour, builder: Any, logger: Any, spec: BuildSpec) -> tuple[Any, list[str]]:
    trt = flavour.trt
    creation = trt.NetworkDefinitionCreationFlag
    if flavour.has_strong_types:
        bits, flags = 1 << int(creation.STRONGLY_TYPED), ["strongly_typed"]
        # 10.x still has the older flag, but there and later every network has an explicit batch.
    else:
        bits, flags = 1 << int(creation.EXPLICIT_BATCH), []
    network = builder.create_network(bits)
    parser = trt.OnnxParser(network, logger)
    try:
        data = spec.model.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{spec.model}: cannot be read ({error.strerror}); give an existing file") from error
    if not parser.parse(data, str(spec.model)):  # weights may lie in files beside it
        problems = [_problem(parser.get_error(index)) for index in range(parser.num_errors)]
        reason = "; ".join(problems[:3]) or "it gives no reason"
        raise ArtifactError(
            f"{spec.model}: {flavour.name} {flavour.version} does not accept it: {reason}; "
            "cunet-deploy inspect shows what to change"
        )
    return network, flags


def _problem(error: Any) -> str:
    # 8.6 has numbers of nodes only.
    where = error.node_name() if hasattr(error, "node_name") else f"node {error.node()}"
    return f"{where}: {' '.join(error.desc().split())[:200]}" if where else " ".join(error.desc().split())[:200]


def _configure(flavour: Flavour, builder: Any, config: Any, spec: BuildSpec) -> list[str]:
    trt, flags = flavour.trt, []
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not flavour.has_strong_types:
        for name in ("INT8", "FP16"):
            config.set_flag(getattr(trt.BuilderFlag, name))
            flags.append(name.lower())
    if spec.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec.workspace)
        flags.append(f"workspace={spec.workspace}")
    if spec.sm:
        config.num_compute_capabilities = len(spec.sm)
        for index, number in enumerate(spec.sm):
            config.set_compute_capability(flavour.compute_capability(number), index)
    if spec.dla is not None:
        flags += _use_dla(flavour, builder, config, spec)
    if spec.profile:
        profile = builder.create_optimization_profile()
        for name, shapes in spec.profile.items():
            profile.set_shape(name, shapes["min"], shapes["opt"], shapes["max"])
        config.add_optimization_profile(profile)
    return flags


def _use_dla(flavour: Flavour, builder: Any, config: Any, spec: BuildSpec) -> list[str]:
    trt = flavour.trt
    cores = int(getattr(builder, "num_DLA_cores", 0))
    if spec.dla is None or not 0 <= spec.dla < cores:
        raise ArtifactError(
            f"{flavour.name} {flavour.version} finds {cores} DLA cores on this machine, so there is no core "
            f"{spec.dla}; build without the DLA"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = spec.dla
    if spec.gpu_fallback:
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    return [f"dla={spec.dla}", *(["gpu_fallback"] if spec.gpu_fallback else [])]


def _timing_cache(flavour: Flavour, config: Any, spec: BuildSpec) -> Any:
    if spec.timing_cache is None or not flavour.has_timing_cache:
        return None
    path = spec.timing_cache
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise ArtifactError(f"{path}: is no timing cache of this TensorRT and GPU; delete it, or name another file")
    return cache


def _layers(flavour: Flavour, logger: Any, engine: bytes, records: list[Record]) -> LayerReport:
    if flavour.is_portable:
        return layers_from_log(record.message for record in records)
    trt = flavour.trt
    runtime = trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise CunetError(f"{flavour.name} cannot load the engine that it has just built: {_reason(records)}")
    inspector = loaded.create_engine_inspector()
    return layers_from_inspector(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _progress_monitor(flavour: Flavour, progress: Progress) -> Any:
    trt = flavour.trt
    totals: dict[str, int] = {}

    def init(self: Any) -> None:
        trt.IProgressMonitor.__init__(self)

    def phase_start(_: Any, phase: str, parent: str | None, steps: int) -> None:
        totals[phase] = steps

    def step_complete(_: Any, phase: str, step: int) -> bool:
        progress(phase, step + 1, totals.get(phase, 0))
        return True

    def phase_finish(_: Any, phase: str) -> None:
        totals.pop(phase, None)

    members = {
        "__init__": init,
        "phase_start": phase_start,
        "step_complete": step_complete,
        "phase_finish": phase_finish,
    }
    return type("_Progress", (trt.IProgressMonitor,), members)()


class _Reporter:
    """Writes progress to stdout, a few times a second: some phases have thousands of steps."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, phase: str, step: int, steps: int) -> None:
        now = time.monotonic()
        if now - self._last >= 0.1:
            self._last = now
            sys.stdout.write(f"{PROGRESS}{json.dumps({'phase': phase, 'step': step, 'steps': steps})}\n")
            sys.stdout.flush()


def _reason(records: list[Record]) -> str:
    errors = [record.message for record in records if record.is_error]
    return " ".join(errors[-1].split())[:300] if errors else "it gives no reason"


def main(folder: Path) -> int:
    """Do the job in ``folder/job.json``; leave ``engine`` and ``result.json`` there, which holds the error if any."""
    spec = BuildSpec.from_json((folder / "job.json").read_text(encoding="utf-8"))
    if spec.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(message)s")
    try:
        compiled = compile_network(spec, _Reporter())
    except CunetError as error:
        result: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        return error.exit_code
    (folder / "engine").write_bytes(compiled.engine)
    result = {key: value for key, value in asdict(compiled).items() if key in ("flags", "warnings")}
    result["layers"] = compiled.layers.to_dict()
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
