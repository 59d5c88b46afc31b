"""Export: the same bytes for the same weights, integer arithmetic throughout, equal to the checkpoint."""

from __future__ import annotations

import collections
import copy
import errno
import hashlib
import itertools
import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from drawn import write_faces
from hypothesis import given
from hypothesis import strategies as st
from networks import float_checkpoint, quantized_checkpoint

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import load_checkpoint, save_checkpoint
from cunet_deploy.cli.calibrate import command as calibrate_command
from cunet_deploy.cli.export import command as export_command
from cunet_deploy.errors import ArtifactError, CunetError, InputError, UntrustedError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.sessions import open_session

BLOCKS = [*itertools.product(("pre", "post"), ("conv7", "conv3x2", "s2d"))]


@pytest.fixture(scope="module")
def quantized_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "quantized.pt"
    save_checkpoint(quantized_checkpoint(), path)
    return path


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "float.pt"
    save_checkpoint(float_checkpoint(), path)
    return path


def export(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(export_command, [str(argument) for argument in arguments])
    if isinstance(result.exception, CunetError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def optimized_operators(model: bytes, tmp_path: Path) -> collections.Counter[str]:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return collections.Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


@pytest.mark.parametrize(("block", "stem"), BLOCKS)
def test_onnx_runtime_runs_every_convolution_on_integers(block: str, stem: str, tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint(block, stem)
    operators = optimized_operators(write_model(checkpoint), tmp_path)
    convolutions = sum(node.op in ("conv", "affine") for node in checkpoint.graph.nodes)
    assert operators["QLinearConv"] == convolutions
    assert set(operators) <= {
        "QLinearConv", "QLinearConcat", "MaxPool", "NhwcMaxPool", "Gather", "Resize", "Reshape", "Transpose",
        "DequantizeLinear",
    }  # fmt: skip
    assert operators["Transpose"] <= (2 if stem == "conv3x2" else 3)  # one more makes blocks of pixels
    assert operators["Reshape"] == (0 if stem == "conv3x2" else 2)
    enlarged = sum(node.op == "upsample" for node in checkpoint.graph.nodes)
    assert (operators["Gather"], operators["Resize"]) == ((0, enlarged) if block == "pre" else (2 * enlarged, 0))
    assert operators["DequantizeLinear"] == 1


@pytest.mark.parametrize(("block", "stem"), BLOCKS)
def test_the_exported_network_equals_exact_integer_arithmetic_in_every_bit(
    block: str, stem: str, tmp_path: Path
) -> None:
    checkpoint = quantized_checkpoint(block, stem)
    (tmp_path / "model.onnx").write_bytes(write_model(checkpoint))
    crops = np.concatenate(
        [drawn_crops(make_manifest(checkpoint), 6), np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)]
    )
    expected = TorchSession(checkpoint).run(crops)
    assert expected.any()
    np.testing.assert_array_equal(open_session(tmp_path / "model.onnx").run(crops), expected)


@pytest.mark.parametrize(("block", "stem"), BLOCKS)
def test_the_float_export_equals_torch(block: str, stem: str, tmp_path: Path) -> None:
    checkpoint = float_checkpoint(block, stem)
    (tmp_path / "model.onnx").write_bytes(write_model(checkpoint))
    crops = drawn_crops(make_manifest(checkpoint), 4)
    expected = TorchSession(checkpoint).run(crops)
    np.testing.assert_allclose(open_session(tmp_path / "model.onnx").run(crops), expected, atol=1e-4 * expected.max())


def test_the_bundle_is_the_same_in_another_process_and_folder(quantized_file: Path, tmp_path: Path) -> None:
    sums = []
    for name, seed in (("one", "1"), ("two", "2")):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "cunet_deploy",
                "export",
                str(quantized_file),
                "--bits",
                "8",
                "-o",
                str(tmp_path / name),
            ],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["golden.npz", "manifest.json", "model.onnx"]
        sums.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert sums[0] == sums[1]


def test_without_an_output_the_bundle_goes_to_a_folder_named_after_the_model(
    quantized_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = export(quantized_file, "--bits", "8")
    assert code == 0
    assert (tmp_path / "tiny" / "model.onnx").is_file()
    assert output.splitlines()[-2:] == ["bundle: tiny", "next: cunet-deploy infer VIDEO --model tiny"]
    code, output = export(quantized_file, "--bits", "8")
    assert (code, "tiny exists already; add --overwrite" in output) == (2, True)
    assert export(quantized_file, "--bits", "8", "--overwrite")[0] == 0


@pytest.mark.parametrize("name", ["a/b", ".."])
def test_a_model_whose_name_is_no_file_name_goes_to_one_named_after_the_checkpoint(
    quantized_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = load_checkpoint(quantized_file)
    save_checkpoint(replace(checkpoint, config=replace(checkpoint.config, name=name)), tmp_path / "mine.pt")
    assert export(tmp_path / "mine.pt")[0] == 0
    assert (tmp_path / "mine" / "model.onnx").is_file()


def test_the_manifest_says_what_the_model_is_and_what_was_measured(quantized_file: Path, tmp_path: Path) -> None:
    code, output = export(quantized_file, "-o", tmp_path / "bundle")
    assert code == 0
    assert "bit for bit equal" in output
    table = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    model = (tmp_path / "bundle" / "model.onnx").read_bytes()
    assert table["sha256"] == hashlib.sha256(model).hexdigest()
    assert table["parity"]["mean_px"] <= 0.05
    assert table["parity"]["values_differing_from_integer_arithmetic"] == 0
    (inside,) = [prop.value for prop in onnx.load_from_string(model).metadata_props if prop.key == METADATA_KEY]
    manifest = Manifest.from_json(inside, "model.onnx")
    assert (manifest.name, manifest.weight_bits, manifest.crop.size) == ("tiny", 8, 64)
    assert manifest.licence == "drawn by the tests"
    assert {name: table[name] for name in json.loads(inside)} == json.loads(inside)


def test_golden_inputs_reproduce_in_the_runtime(quantized_file: Path, tmp_path: Path) -> None:
    assert export(quantized_file, "-o", tmp_path)[0] == 0
    with np.load(tmp_path / "golden.npz", allow_pickle=False) as golden:
        np.testing.assert_array_equal(open_session(tmp_path).run(golden["images"]), golden["heatmaps"])
        assert golden["points"].shape == (2, 68, 2)


def test_only_the_last_head_is_exported(quantized_file: Path, tmp_path: Path) -> None:
    assert export(quantized_file, "-o", tmp_path)[0] == 0
    names = {node.name for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert any(name.startswith(("heads.1", "heatmaps")) for name in names)
    assert not any(name.startswith("heads.0") for name in names)


def test_a_float_checkpoint_needs_calibration_for_eight_bits(float_file: Path, tmp_path: Path) -> None:
    code, message = export(float_file, "--bits", "8", "-o", tmp_path / "bundle")
    assert (code, "--calibration DIR" in message) == (2, True)
    assert not (tmp_path / "bundle").exists()
    photos = write_faces(tmp_path / "photos", 6)
    code, output = export(float_file, "--bits", "8", "--calibration", photos, "--parity", photos, "-o", tmp_path / "b")
    assert (code, "6 real crops" in output) == (0, True)
    assert export(float_file, "--bits", "32", "-o", tmp_path / "f")[0] == 0


def test_recorded_ranges_give_the_same_model_as_the_photos(float_file: Path, tmp_path: Path) -> None:
    photos, ranges = write_faces(tmp_path / "photos", 6), tmp_path / "ranges.json"
    arguments = [str(float_file), "--images", str(photos), "-o", str(ranges)]
    assert CliRunner().invoke(calibrate_command, arguments).exit_code == 0
    assert export(float_file, "--calibration", ranges, "-o", tmp_path / "a")[0] == 0
    assert export(float_file, "--calibration", photos, "-o", tmp_path / "b")[0] == 0
    models = [
        open_session(tmp_path / name).run(drawn_crops(make_manifest(load_checkpoint(float_file)), 2)) for name in "ab"
    ]
    assert np.abs(models[0] - models[1]).mean() < 1e-3  # the file rounds the ranges to six places


def test_ranges_of_other_weights_are_refused(float_file: Path, tmp_path: Path) -> None:
    photos, ranges = write_faces(tmp_path / "photos", 4), tmp_path / "ranges.json"
    CliRunner().invoke(calibrate_command, [str(float_file), "--images", str(photos), "-o", str(ranges)])
    table = json.loads(ranges.read_text())
    ranges.write_text(json.dumps({**table, "checkpoint": "0" * 64}))
    assert "other weights" in export(float_file, "--calibration", ranges, "-o", tmp_path / "b")[1]
    ranges.write_text("{}")
    assert "not a ranges file" in export(float_file, "--calibration", ranges, "-o", tmp_path / "b")[1]


def test_a_disk_that_fills_up_leaves_the_bundle_that_was_there(
    quantized_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    assert CliRunner().invoke(export_command, [str(quantized_file), "-o", str(out)]).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.parent == out and path.name.startswith("model.onnx"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, content[::-1] if path.parent == out else content)

    monkeypatch.setattr(Path, "write_bytes", full)
    result = CliRunner().invoke(export_command, [str(quantized_file), "-o", str(out), "--overwrite"])
    assert isinstance(result.exception, CunetError)
    assert "the disk is full" in str(result.exception)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_bundle_is_replaced_only_with_overwrite(quantized_file: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"mine")
    code, message = export(quantized_file, "-o", tmp_path)
    assert (code, "--overwrite" in message, (tmp_path / "model.onnx").read_bytes()) == (2, True, b"mine")
    assert export(quantized_file, "-o", tmp_path, "--overwrite")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "manifest.json", "golden.npz"}


def test_a_quantized_checkpoint_does_not_become_float_again(quantized_file: Path, tmp_path: Path) -> None:
    code, message = export(quantized_file, "--bits", "32", "-o", tmp_path / "b")
    assert (code, "float parent" in message) == (2, True)


class Payload:
    """Content of a hostile checkpoint: unpickling it makes a file."""

    def __init__(self, path: Path, *, shell: bool) -> None:
        self.path = path
        self.shell = shell

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch '{self.path}'",)) if self.shell else (open, (str(self.path), "w"))


@pytest.mark.parametrize("shell", [True, False], ids=["os.system", "open"])
@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_a_hostile_checkpoint_is_refused_and_nothing_runs(container: str, shell: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    content = {"format": 1, "kind": "float", "config": {}, "state": Payload(trace, shell=shell)}
    if container == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UntrustedError, match="nothing was executed") as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == 6
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"plain text, no checkpoint", b"PK\x03\x04 cut off"], ids=["empty", "text", "zip"]
)
def test_what_is_not_a_checkpoint_is_an_input_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pt"):
        load_checkpoint(tmp_path / "x.pt")
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(tmp_path / "missing.pt")


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pt"
        path.write_bytes(content)
        with pytest.raises((InputError, UntrustedError)):
            load_checkpoint(path)


def test_a_truncated_checkpoint_is_an_input_error(quantized_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(quantized_file.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cut off"):
        load_checkpoint(tmp_path / "cut.pt")


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    checkpoint = copy.deepcopy(float_checkpoint())
    checkpoint.state["stem.conv.weight"][0, 0, 0, 0] = float("nan")
    save_checkpoint(checkpoint, tmp_path / "x.pt")
    with pytest.raises(ArtifactError, match="not finite"):
        load_checkpoint(tmp_path / "x.pt")


def test_calibration_that_ruins_the_model_shows(float_file: Path, tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    cv2.imwrite(str(tmp_path / "grey" / "grey.png"), np.full((64, 64, 3), 128, np.uint8))
    faces, moved = write_faces(tmp_path / "faces", 6), []
    for name in ("grey", "faces"):
        out = tmp_path / f"{name}-bundle"
        code, output = export(float_file, "--calibration", tmp_path / name, "--parity", faces, "-o", out)
        assert (code, "calibration moved the landmarks" in output) == (0, True)
        moved.append(json.loads((out / "manifest.json").read_text())["calibration_loss"]["mean_px"])
    assert moved[0] > 2 * moved[1] > 0


@pytest.mark.parametrize("bits", ["8", "32"])
def test_calibration_without_effect_is_refused(
    bits: str, float_file: Path, quantized_file: Path, tmp_path: Path
) -> None:
    checkpoint = quantized_file if bits == "8" else float_file
    code, message = export(checkpoint, "--bits", bits, "--calibration", tmp_path, "-o", tmp_path / "b")
    assert (code, "has no effect" in message) == (2, True)


def test_weights_that_do_not_fit_the_configuration_are_an_artifact_error(tmp_path: Path) -> None:
    checkpoint = copy.deepcopy(float_checkpoint())
    del checkpoint.state["stem.conv.weight"]
    save_checkpoint(checkpoint, tmp_path / "x.pt")
    with pytest.raises(ArtifactError, match="do not fit"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_checkpoint_survives_saving_and_loading(tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint("pre", "conv7")
    save_checkpoint(checkpoint, tmp_path / "x.pt")
    loaded = load_checkpoint(tmp_path / "x.pt")
    assert loaded.checksum == checkpoint.checksum
    assert loaded.zero_points == checkpoint.zero_points
    assert loaded.config == checkpoint.config
