"""Engines from bundles, by TensorRT for RTX: nothing here needs a GPU, and nothing here runs an engine."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result
from networks import changed, float_checkpoint, lowered, quantized_checkpoint
from patterns import PATTERNS
from rtx import need_rtx

from cunet_deploy._files import file_sha256
from cunet_deploy.cli import cli
from cunet_deploy.errors import ArtifactError, MissingDependencyError, UntrustedError
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.export.targets.tensorrt import Lowering
from cunet_deploy.manifest import METADATA_KEY
from cunet_deploy.tensorrt.build import compile_in_child, plan_build
from cunet_deploy.tensorrt.compile import BuildSpec
from cunet_deploy.tensorrt.flavour import Flavour
from cunet_deploy.tensorrt.sidecar import PORTABLE, EngineManifest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "model.onnx").write_bytes(write_model(quantized_checkpoint(channels=16)))
    (folder / "model.tensorrt.onnx").write_bytes(lowered())
    return folder


@pytest.fixture(scope="module")
def engine(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_rtx()
    out = tmp_path_factory.mktemp("engine")
    result = run("build", bundle, "--flavour", "tensorrt_rtx", "--batch", "1:4:8", "--require-int8", "-o", out)
    assert result.exit_code == 0, result.output
    (path,) = out.glob("*.engine")
    return path


def test_sm75_has_no_int8_and_require_int8_refuses_it(bundle: Path, tmp_path: Path) -> None:
    need_rtx()
    result = run("build", bundle, "--flavour", "tensorrt_rtx", "--sm", "75", "--require-int8", "-o", tmp_path)
    assert result.exit_code == 4
    assert "do not run in int8" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_engine_stands_beside_its_description(engine: Path, bundle: Path) -> None:
    import tensorrt_rtx

    version = ".".join(tensorrt_rtx.__version__.split(".")[:2])
    assert engine.name == f"tiny.int8.rtx{version}-sm80+.engine"
    assert engine.read_bytes()[:4] == b"vtrt" or engine.read_bytes()[:4] == b"trtv"
    manifest = EngineManifest.read(engine)
    manifest.check_checksum(engine)
    assert manifest.onnx_sha256 == file_sha256(bundle / "model.tensorrt.onnx")
    assert (manifest.flavour, manifest.version) == ("tensorrt_rtx", tensorrt_rtx.__version__)
    assert (manifest.compute_capabilities, PORTABLE in manifest.flags) == ((80,), True)
    assert "strongly_typed" in manifest.flags
    assert manifest.profiles == ({"image": {"min": [1, 64, 64, 3], "opt": [4, 64, 64, 3], "max": [8, 64, 64, 3]}},)
    assert manifest.model.name == "tiny"
    assert manifest.layers["int8_convolutions"] == manifest.layers["convolutions"] > 20


def test_two_builds_of_a_free_batch_give_the_same_layers(engine: Path, bundle: Path, tmp_path: Path) -> None:
    # Not the same bytes: TensorRT for RTX then numbers its temporary tensors in the order of their addresses.
    assert run("build", bundle, "--flavour", "tensorrt_rtx", "--batch", "1:4:8", "-o", tmp_path).exit_code == 0
    one, two = (EngineManifest.read(path) for path in (engine, tmp_path / engine.name))
    assert one.layers == two.layers
    assert one.onnx_sha256 == two.onnx_sha256


def test_two_builds_of_a_fixed_batch_give_the_same_bytes(tmp_path: Path) -> None:
    need_rtx()
    path = tmp_path / "fixed.onnx"
    path.write_bytes(lowered(lowering=Lowering(batch=1)))
    one, two = (compile_in_child(BuildSpec(path, "tensorrt_rtx"))[0] for _ in range(2))
    assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest()


def test_without_a_file_for_tensorrt_the_command_that_writes_it_is_told(tmp_path: Path) -> None:
    folder, command = tmp_path / "bundle", "cunet-deploy export CKPT --target tensorrt -o"
    missing = run("build", folder)
    folder.mkdir()
    for_cpus = run("build", folder)
    assert (missing.exit_code, for_cpus.exit_code) == (2, 2)
    assert missing.stderr.endswith(f"or make a bundle: {command} {folder}\n")
    assert for_cpus.stderr.endswith(f"write the bundle again: {command} {folder} --overwrite\n")


def test_an_engine_is_replaced_only_with_overwrite(engine: Path, bundle: Path) -> None:
    arguments = ["build", bundle, "--flavour", "tensorrt_rtx", "--batch", "1:4:8", "-o", engine.parent]
    before = engine.read_bytes()
    result = run(*arguments)
    assert (result.exit_code, "--overwrite" in result.stderr) == (2, True)
    assert engine.read_bytes() == before
    assert run(*arguments, "--overwrite").exit_code == 0


def test_a_tampered_truncated_or_undescribed_engine_is_refused(engine: Path, tmp_path: Path) -> None:
    manifest, content = EngineManifest.read(engine), engine.read_bytes()
    for name, changed_content in (("cut", content[:-100]), ("changed", b"x" + content[1:])):
        path = tmp_path / f"{name}.engine"
        path.write_bytes(changed_content)
        with pytest.raises(UntrustedError, match="checksum"):
            manifest.check_checksum(path)
        with pytest.raises(UntrustedError, match="is not beside it"):
            EngineManifest.read(path)


def test_a_dry_run_writes_nothing_and_names_the_same_engine(engine: Path, bundle: Path, tmp_path: Path) -> None:
    result = run("build", bundle, "--flavour", "tensorrt_rtx", "--batch", "1:4:8", "--dry-run", "-o", tmp_path / "none")
    assert result.exit_code == 0
    assert f"would build {tmp_path / 'none' / engine.name}" in result.stdout
    assert "--optShapes=image:4x64x64x3" in result.stdout
    assert not (tmp_path / "none").exists()


def test_the_trtexec_line_has_the_options_of_the_build(bundle: Path, tmp_path: Path) -> None:
    need_rtx()
    shutil.copytree(bundle, tmp_path / "my bundle")
    plan = plan_build(BuildSpec(tmp_path / "my bundle", "tensorrt_rtx", sm=(86, 120), workspace=3 << 29))
    words = shlex.split(plan.trtexec)
    assert words[0] == "tensorrt_rtx"
    assert words[1] == f"--onnx={tmp_path / 'my bundle' / 'model.tensorrt.onnx'}"
    assert {
        f"--saveEngine={plan.file_name}",
        "--minShapes=image:1x64x64x3",
        "--optShapes=image:1x64x64x3",
        "--maxShapes=image:16x64x64x3",
        "--memPoolSize=workspace:1536",
        "--computeCapabilities=86,120",
        "--skipInference",
    } < set(words)
    assert not {"--int8", "--fp16", "--stronglyTyped"} & set(words)


@pytest.mark.parametrize(
    ("creation", "builder", "types"),
    [
        (["EXPLICIT_BATCH"], ["INT8", "FP16"], {"--int8", "--fp16"}),
        (["EXPLICIT_BATCH", "STRONGLY_TYPED"], ["INT8", "FP16"], {"--stronglyTyped"}),
        (["STRONGLY_TYPED"], [], set()),
    ],
    ids=["8.6", "10", "11"],
)
def test_the_trtexec_line_of_each_version(
    creation: list[str], builder: list[str], types: set[str], bundle: Path
) -> None:
    need_rtx()
    trt: Any = ModuleType("tensorrt")
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(**dict.fromkeys(creation, 0))
    trt.BuilderFlag = SimpleNamespace(**dict.fromkeys(builder, 0))
    trt.IBuilderConfig = SimpleNamespace()
    plan = plan_build(BuildSpec(bundle, "tensorrt_rtx"))
    spec = replace(plan.spec, dla=1, gpu_fallback=True, timing_cache=Path("t.cache"))
    words = shlex.split(replace(plan, flavour=Flavour("tensorrt", trt), spec=spec).trtexec)
    assert words[0] == "trtexec"
    assert {"--int8", "--fp16", "--stronglyTyped"} & set(words) == types
    assert {"--useDLACore=1", "--allowGPUFallback", "--timingCacheFile=t.cache"} < set(words)


def test_compute_capabilities_stand_in_the_name(bundle: Path) -> None:
    need_rtx()
    plan = plan_build(BuildSpec(bundle, "tensorrt_rtx", sm=(86, 120)))
    assert plan.file_name.endswith("-sm86-sm120.engine")
    assert not plan.portable


def test_a_computed_scale_crashes_the_child_and_only_the_child(tmp_path: Path) -> None:
    need_rtx()
    path = tmp_path / "computed.onnx"
    path.write_bytes(PATTERNS["scale computed from the input"]())
    with pytest.raises(ArtifactError, match=r"crashed on it \(SIGSEGV\)"):
        compile_in_child(BuildSpec(path, "tensorrt_rtx"))


def test_a_rejected_model_says_where(tmp_path: Path) -> None:
    need_rtx()
    path = tmp_path / "int32.onnx"
    path.write_bytes(PATTERNS["bias dequantized from int32"]())
    with pytest.raises(ArtifactError, match=r"DequantizeLinear.*Int32"):
        compile_in_child(BuildSpec(path, "tensorrt_rtx"))


def test_a_model_with_errors_is_not_even_tried(bundle: Path, tmp_path: Path) -> None:
    need_rtx()

    def change(graph: Any) -> None:
        (image,) = [node for node in graph.node if node.name == "image.x.int8.q"]
        graph.node.insert(0, onnx.helper.make_node("Identity", [image.input[1]], ["copy"]))
        graph.node.insert(1, onnx.helper.make_node("Mul", ["copy", "copy"], ["computed"]))
        for node in graph.node:
            if node.name.startswith("image.x.int8"):
                node.input[1] = "computed"

    (tmp_path / "model.tensorrt.onnx").write_bytes(changed(lowered(), change))
    result = run("build", tmp_path, "--flavour", "tensorrt_rtx")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert "Q002" in result.stderr


def test_a_model_of_someone_else_is_inspected_but_not_built(tmp_path: Path) -> None:
    need_rtx()
    path = tmp_path / "other.onnx"
    path.write_bytes(PATTERNS["float16 carriers, operator set 19"]())
    result = run("build", path, "--flavour", "tensorrt_rtx")
    assert (result.exit_code, "has no manifest" in result.stderr) == (3, True)
    assert run("inspect", path).exit_code == 0


def test_a_bundle_for_cpus_names_the_export(tmp_path: Path) -> None:
    need_rtx()
    for checkpoint in (quantized_checkpoint(), float_checkpoint()):
        (tmp_path / "model.onnx").write_bytes(write_model(checkpoint))
        result = run("build", tmp_path, "--flavour", "tensorrt_rtx")
        assert (result.exit_code, "--target tensorrt" in result.stderr) == (2, True)
        result = run("build", tmp_path / "model.onnx", "--flavour", "tensorrt_rtx")
        assert (result.exit_code, result.stderr.count("\n")) == (3, 1)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--sm", "87"], 3, "a Jetson builds its own"),
        (["--sm", "x"], 2, "compute capabilities"),
        (["--batch", "8:1"], 2, "1:4:8"),
        (["--workspace", "lots"], 2, "2GiB"),
        (["--timing-cache", "t.cache"], 2, "measures no kernels"),
        (["--dla", "0"], 3, "does not know the DLA"),
        (["--gpu-fallback"], 2, "for engines on the DLA"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options: list[str], code: int, text: str, bundle: Path) -> None:
    need_rtx()
    result = run("build", bundle, "--flavour", "tensorrt_rtx", "--dry-run", *options)
    assert (result.exit_code, text in result.stderr) == (code, True), result.stderr


def test_a_missing_flavour_is_an_install_line(bundle: Path) -> None:
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        result = run("build", bundle, "--flavour", "tensorrt")
        assert (result.exit_code, "cunet-deploy[tensorrt]" in result.stderr) == (5, True)
        with pytest.raises(MissingDependencyError):
            plan_build(BuildSpec(bundle, "tensorrt"))
    else:
        pytest.skip("tensorrt is installed")


def test_a_damaged_manifest_is_not_built(tmp_path: Path) -> None:
    need_rtx()
    model = onnx.load_from_string(lowered())
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({"format": 1})})
    (tmp_path / "model.tensorrt.onnx").write_bytes(model.SerializeToString())
    assert run("build", tmp_path, "--flavour", "tensorrt_rtx").exit_code == 3


def test_weights_in_a_file_beside_the_model_are_built_in(bundle: Path, tmp_path: Path) -> None:
    need_rtx()
    import onnx

    path = tmp_path / "model.tensorrt.onnx"
    model = onnx.load(bundle / "model.tensorrt.onnx")
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=100)
    engine, _ = compile_in_child(plan_build(BuildSpec(path, "tensorrt_rtx")).spec)
    whole, _ = compile_in_child(plan_build(BuildSpec(bundle, "tensorrt_rtx")).spec)
    assert len(engine) == pytest.approx(len(whole), rel=0.05)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"weights\.bin, which is not beside it"):
        plan_build(BuildSpec(tmp_path, "tensorrt_rtx"))
