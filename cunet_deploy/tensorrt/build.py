"""From a bundle to an engine and its description.

The model is checked before TensorRT sees it, built in a process of its own, and the engine is written unchanged: what
it is and what it was built with stands beside it, see `cunet_deploy.tensorrt.sidecar`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cunet_deploy import errors
from cunet_deploy._files import file_sha256, write_bytes_atomic
from cunet_deploy.errors import ArtifactError, CunetError, InputError, VerificationError
from cunet_deploy.machine.gpu import local_gpu
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.tensorrt.compile import PROGRESS, BuildSpec, Progress
from cunet_deploy.tensorrt.flavour import Flavour, load
from cunet_deploy.tensorrt.layers import LayerReport
from cunet_deploy.tensorrt.lint import ModelReport, check_model
from cunet_deploy.tensorrt.profile import Profile, make_profile
from cunet_deploy.tensorrt.sidecar import PORTABLE, EngineManifest, sidecar_path

__all__ = [
    "BuildPlan",
    "BuildSpec",
    "Built",
    "build_engine",
    "bundled_model",
    "compile_in_child",
    "find_model_file",
    "plan_build",
]

RTX_OLDEST = 80
"""Without a choice, TensorRT for RTX builds for this compute capability and all later ones."""


@dataclass(frozen=True, eq=False)
class BuildPlan:
    """Plan of a build.

    Attributes:
        spec: for the builder.
        flavour: that builds it.
        manifest: of the model.
        report: what the check of the model found.
        compute_capabilities: GPUs that it will run on; empty: that of this machine, which has none.
        portable: it runs on later GPUs too.
    """

    spec: BuildSpec
    flavour: Flavour
    manifest: Manifest
    report: ModelReport
    compute_capabilities: tuple[int, ...]
    portable: bool

    @property
    def profile(self) -> Profile:
        """Shapes of the inputs with a free size."""
        return self.spec.profile or {}

    @property
    def file_name(self) -> str:
        """``NAME.int8.trt10.3-sm87.engine`` or ``NAME.int8.rtx1.7-sm80+.engine``."""
        kind = "rtx" if self.flavour.name == "tensorrt_rtx" else "trt"
        numbers = "-".join(f"sm{number}" for number in self.compute_capabilities) or "sm0"
        later, dla = "+" if self.portable else "", "" if self.spec.dla is None else f"-dla{self.spec.dla}"
        precision = self.report.precision
        return f"{self.manifest.name}.{precision}.{kind}{self.flavour.short_version}-{numbers}{later}{dla}.engine"

    @property
    def trtexec(self) -> str:
        """The line of NVIDIA's own program that builds the same."""
        spec, trt = self.spec, self.flavour.trt
        # Sizes are in MiB where no unit stands, in every version; units are known to 10 and later only.
        words = ["tensorrt_rtx" if self.flavour.is_portable else "trtexec", f"--onnx={spec.model}"]
        words.append(f"--saveEngine={self.file_name}")
        for option, kind in (("minShapes", "min"), ("optShapes", "opt"), ("maxShapes", "max")):
            shapes = [f"{name}:{'x'.join(map(str, sizes[kind]))}" for name, sizes in self.profile.items()]
            words += [f"--{option}={','.join(shapes)}"] if shapes else []
        if not self.flavour.has_strong_types:
            words += ["--int8", "--fp16"]
        elif hasattr(trt.BuilderFlag, "FP16"):
            words.append("--stronglyTyped")
        words += [f"--memPoolSize=workspace:{spec.workspace / 2**20:g}"] if spec.workspace is not None else []
        words += [f"--timingCacheFile={spec.timing_cache}"] if spec.timing_cache is not None else []
        words += [f"--useDLACore={spec.dla}"] if spec.dla is not None else []
        words += ["--allowGPUFallback"] if spec.gpu_fallback else []
        words += [f"--computeCapabilities={','.join(map(str, spec.sm))}"] if spec.sm else []
        return shlex.join([*words, "--profilingVerbosity=detailed", "--skipInference"])


@dataclass(frozen=True, eq=False)
class Built:
    """An engine on the disk.

    Attributes:
        path: of the engine.
        manifest: its description, which is written beside it.
        layers: what it consists of.
        missing: ONNX convolutions that no int8 layer computes.
        warnings: of the library.
    """

    path: Path
    manifest: EngineManifest
    layers: LayerReport
    missing: tuple[str, ...]
    warnings: tuple[str, ...]


def bundled_model(model: Path) -> Path:
    """The ONNX file to look at: the given one, or of a bundle that for TensorRT, else that for CPUs.

    Raises:
        InputError: there is none.
    """
    if not model.is_dir():
        return model
    for name in ("model.tensorrt.onnx", "model.onnx"):
        if (model / name).is_file():
            return model / name
    raise InputError(f"{model}: is a folder without a model; make a bundle: cunet-deploy export CKPT -o DIR")


def find_model_file(model: Path) -> Path:
    """The ONNX file to build from: of a bundle, ``model.tensorrt.onnx``.

    Its ``model.onnx`` is for CPUs: TensorRT does not transpose the uint8 image that it begins with.

    Raises:
        InputError: there is none.
    """
    if model.is_file():
        return model
    command = f"cunet-deploy export CKPT --target tensorrt -o {model}"
    if not model.is_dir():
        raise InputError(f"{model}: does not exist; give a bundle folder or an .onnx file, or make a bundle: {command}")
    lowered = model / "model.tensorrt.onnx"
    if lowered.is_file():
        return lowered
    raise InputError(f"{model}: holds no model.tensorrt.onnx; write the bundle again: {command} --overwrite")


def plan_build(spec: BuildSpec) -> BuildPlan:
    """Check everything that can be checked before the builder starts.

    Raises:
        InputError: options that do not go together, or a batch that the model does not take.
        ArtifactError: the model is not of this package, would be rejected or would change its numbers, or the library
            cannot build what is asked for.
        MissingDependencyError: the library is not installed.
    """
    path = find_model_file(spec.model)
    flavour = load(spec.flavour)
    if spec.sm:
        for number in spec.sm:
            flavour.compute_capability(number)
    if spec.timing_cache is not None:
        _check_timing_cache(spec.timing_cache, flavour)
    gpu = local_gpu()
    capabilities = spec.sm or ((RTX_OLDEST,) if flavour.is_portable else (gpu.compute_capability,) if gpu else ())
    target = "dla" if spec.dla is not None else f"sm{min(capabilities)}" if capabilities else None
    if spec.dla is not None and flavour.is_portable:
        raise ArtifactError(f"{flavour.name} does not know the DLA; take the flavour tensorrt on a Jetson")
    report = check_model(path, target=target, flavour=flavour.name)
    manifest = _manifest(report, path)
    if report.errors:
        first = report.errors[0]
        more = f" (and {len(report.errors) - 1} more)" if len(report.errors) > 1 else ""
        raise ArtifactError(f"{path}: {first}{more}; see: cunet-deploy inspect {path}")
    profile = make_profile(report.inputs, spec.batch)
    _check_dla(spec, profile)
    resolved = replace(spec, model=path, flavour=flavour.name, profile=profile or None)
    return BuildPlan(resolved, flavour, manifest, report, capabilities, flavour.is_portable and not spec.sm)


def _manifest(report: ModelReport, path: Path) -> Manifest:
    text = report.metadata.get(METADATA_KEY)
    if text is None:
        raise ArtifactError(
            f"{path}: has no manifest of cunet-deploy, so its engine could not be used; cunet-deploy inspect works on "
            "any model, build on bundles of cunet-deploy export"
        )
    return Manifest.from_json(text, path)


def _check_timing_cache(path: Path, flavour: Flavour) -> None:
    if not flavour.has_timing_cache:
        raise InputError(f"{path}: {flavour.name} measures no kernels, so it takes no timing cache; leave it out")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the timing cache is one file, in a folder that exists; it is made when missing")


def _check_dla(spec: BuildSpec, profile: Profile) -> None:
    if spec.dla is None:
        if spec.gpu_fallback:
            raise InputError("a fallback to the GPU is for engines on the DLA; name its core, dla 0, or leave it out")
        return
    if any(sizes["min"] != sizes["max"] for sizes in profile.values()):
        raise InputError("the DLA runs one batch size only; name one, such as batch 1")


def build_engine(
    plan: BuildPlan,
    out: Path,
    *,
    overwrite: bool = False,
    require_int8: bool = False,
    progress: Progress | None = None,
) -> Built:
    """Build, and write the engine and its description into a folder.

    Args:
        plan: from `plan_build`.
        out: the folder; made when missing.
        overwrite: replace an engine of the same name.
        require_int8: write nothing unless every convolution runs on 8-bit integers.
        progress: told how far the builder is.

    Raises:
        InputError: the engine exists.
        ArtifactError: there is no GPU to build for, or the model is rejected.
        VerificationError: ``require_int8`` and a convolution is not int8.
        CunetError: the build failed or crashed.
    """
    path = out / plan.file_name
    for file in (path, sidecar_path(path)):
        if file.exists() and not overwrite:
            raise InputError(f"{file}: exists already; choose another folder, or overwrite it", option="overwrite")
    if not plan.flavour.is_portable and not plan.compute_capabilities:
        raise ArtifactError(
            f"{plan.flavour.name} builds for the GPU of this machine, which has none or no driver; build on the "
            "device, or take the flavour tensorrt_rtx"
        )
    engine, result = compile_in_child(plan.spec, progress)
    layers = LayerReport.from_dict(result["layers"])
    missing = _not_computed_in_int8(plan.report, layers)
    if require_int8 and (missing or layers.not_int8 or not layers.convolutions):
        names = missing or tuple(layer.name for layer in layers.not_int8)
        raise VerificationError(
            f"{plan.spec.model}: {len(names)} of {len(plan.report.convolutions)} convolutions do not run in int8 "
            f"({', '.join(names[:3])}); nothing was written. cunet-deploy inspect shows why"
        )
    manifest = _describe(plan, engine, tuple(result["flags"]), layers)
    write_bytes_atomic(path, engine, overwrite=overwrite)
    manifest.write(path, overwrite=True)
    return Built(path, manifest, layers, missing, tuple(result["warnings"]))


def _not_computed_in_int8(report: ModelReport, layers: LayerReport) -> tuple[str, ...]:
    if not any(layer.onnx for layer in layers.layers):
        return ()  # old inspectors do not name ONNX nodes
    computed = {name for layer in layers.convolutions if layer.is_int8 for name in layer.onnx}
    return tuple(name for name in report.convolutions if name not in computed)


def _describe(plan: BuildPlan, engine: bytes, flags: tuple[str, ...], layers: LayerReport) -> EngineManifest:
    gpu = local_gpu()
    return EngineManifest(
        manifest=plan.manifest.to_dict(),
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        onnx_sha256=file_sha256(plan.spec.model),
        flavour=plan.flavour.name,
        version=plan.flavour.version,
        compute_capabilities=plan.compute_capabilities,
        driver=gpu.driver if gpu else None,
        cuda=gpu.cuda if gpu else None,
        profiles=(plan.profile,) if plan.profile else (),
        flags=(*flags, *((PORTABLE,) if plan.portable else ())),
        layers=layers.to_dict(),
    )


def compile_in_child(spec: BuildSpec, progress: Progress | None = None) -> tuple[bytes, dict[str, Any]]:
    """Run `cunet_deploy.tensorrt.compile` in a process of its own.

    Returns:
        The engine, and what the builder says of it.

    Raises:
        ArtifactError: the model is rejected, or reading it crashed the library.
        CunetError: the build failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(spec.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "cunet_deploy.tensorrt.compile", str(folder)]
        errors_to = None if spec.verbose else subprocess.DEVNULL
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors_to, text=True, errors="replace") as child:
            try:
                for line in child.stdout or ():
                    if progress is not None and line.startswith(PROGRESS):
                        step = json.loads(line[len(PROGRESS) :])
                        progress(step["phase"], step["step"], step["steps"])
                code = child.wait()
            except BaseException:
                child.kill()
                raise
        result_file = folder / "result.json"
        if not result_file.is_file():
            raise _crash(spec, code)
        result = json.loads(result_file.read_text(encoding="utf-8"))
        if "error" in result:
            raise getattr(errors, result["error"], CunetError)(result["message"])
        return (folder / "engine").read_bytes(), result


def _crash(spec: BuildSpec, code: int) -> CunetError:
    if code < 0:
        try:
            how = signal.Signals(-code).name
        except ValueError:
            how = f"signal {-code}"
        if -code == signal.SIGKILL:
            return CunetError(
                f"{spec.model}: the builder was killed, most likely for memory; lower the workspace or the batch"
            )
        return ArtifactError(
            f"{spec.model}: {spec.flavour} crashed on it ({how}); this process is unharmed. A scale that is computed "
            f"instead of constant does that; see: cunet-deploy inspect {spec.model}"
        )
    return CunetError(f"{spec.model}: the builder stopped with code {code}; its whole log says why", option="verbose")
