"""Findings of the static check, and their messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from networks import BLOCKS, float_checkpoint, quantized_checkpoint
from patterns import PATTERNS
from qdq_net import Net

from cunet_deploy.cli import cli
from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.export.targets.tensorrt import Lowering, write_tensorrt_model
from cunet_deploy.tensorrt.lint import check_model

EXPECTED = {
    "QLinearConv": "Q001",
    "ConvInteger": "Q001",
    "scale computed from constants": "Q002",
    "scale computed from the input": "Q002",
    "activation scale zero": "Q003",
    "activation scale negative": "Q003",
    "activation scale not a number": "Q003",
    "weights with scale zero": "Q003",
    "scale without digits in float16": "Q004",
    "zero point computed by Cast": "Q005",
    "activation in uint8 from 0": "Q006",
    "weights in uint8 around 128": "Q006",
    "activation with a zero point": "Q007",
    "weights with a zero point": "Q007",
    "bias dequantized from int32": "Q008",
    "activation in int16": "Q009",
    "FP8 E5M2": "Q009",
    "activation without zero point": "Q010",
    "pair of two scales": "Q011",
    "float16 carriers, operator set 17": "Q012",
    "uint8 input, transposed": "Q013",
    "weights along axis 1": "P001",
    "weights only": "P001",
    "weights in float": "P001",
    "activation scale per channel": "P001",
    "activation scale with an axis of length 1": "P001",
    "Resize nearest behind the pair": "P001",
    "pair between convolution and ReLU": "P002",
    "Concat quantized in part, quantized": "P003",
    "Concat of different scales between pairs": "P004",
    "residual in float": "P005",
    "float32 carriers, operator set 19": "P006",
    "odd channels": "P007",
    "ConvTranspose along axis 1": "P008",
}


def codes(model: bytes, target: str | None = None, flavour: str = "") -> set[str]:
    return {finding.code for finding in check_model(model, target=target, flavour=flavour).findings}


@pytest.mark.parametrize(("name", "code"), EXPECTED.items())
def test_a_pattern_is_found_by_its_code(name: str, code: str) -> None:
    assert code in codes(PATTERNS[name]())


@pytest.mark.parametrize("name", ["float16 carriers, operator set 19", "bias in float", "residual quantized"])
def test_a_good_pattern_has_no_error(name: str) -> None:
    report = check_model(PATTERNS[name]())
    assert report.errors == ()
    assert report.int8 == len(report.convolutions)
    assert codes(PATTERNS[name]()) <= {"P006"}


@pytest.mark.parametrize("lowering", [Lowering("fp16"), Lowering("fp32"), Lowering("fp16", "int8")], ids=str)
@pytest.mark.parametrize(("block", "stem"), BLOCKS)
def test_our_own_graphs_are_clean_and_int8_throughout(block: str, stem: str, lowering: Lowering) -> None:
    report = check_model(write_tensorrt_model(quantized_checkpoint(block, stem), lowering), target="sm87")
    assert report.errors == ()
    assert report.int8 == len(report.convolutions) > 20
    # The image has three channels; a float32 carrier was asked for.
    assert {finding.code for finding in report.warnings} <= (
        {"P006", "P007"} if lowering.carrier == "fp32" else {"P007"}
    )
    assert report.carrier == lowering.carrier


def test_the_file_for_cpus_is_not_for_tensorrt() -> None:
    report = check_model(write_model(quantized_checkpoint()))
    assert {finding.code for finding in report.errors} == {"Q006", "Q007", "Q008", "Q013"}
    assert report.int8 == 0


def test_a_float_model_has_nothing_to_change() -> None:
    report = check_model(write_tensorrt_model(float_checkpoint(), Lowering("fp16")))
    assert (report.findings, report.int8, report.quantizers) == ((), 0, 0)


def test_a_float_file_for_cpus_is_not_for_tensorrt_either() -> None:
    report = check_model(write_model(float_checkpoint()))
    assert [finding.code for finding in report.findings] == ["Q013"]


def test_targets_have_rules_of_their_own() -> None:
    free, fixed = PATTERNS["free batch"](), PATTERNS["float16 carriers, operator set 19"]()
    assert {"T002", "T003"} <= codes(free, "dla")
    assert "T002" not in codes(fixed, "dla")
    assert "T006" in codes(PATTERNS["Transpose between two pairs"](), "dla")
    assert "T001" in codes(fixed, "sm75")
    assert "T001" not in codes(fixed, "sm75", "tensorrt")
    assert "T004" in codes(PATTERNS["FP8 E4M3"](), "sm86")
    assert "T004" not in codes(PATTERNS["FP8 E4M3"](), "sm89")
    assert "T005" in codes(fixed, "sm87", "tensorrt_rtx")
    for target in ("sm80", "8.6", "SM87", "89", "sm90", "sm110", "12.0"):
        assert not {code for code in codes(fixed, target) if code.startswith("T")}
    with pytest.raises(InputError, match="sm120"):
        check_model(fixed, target="sm42")


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x09 cut"], ids=["empty", "text", "cut"])
def test_what_is_no_model_is_an_artifact_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.onnx: is not an ONNX model"):
        check_model(tmp_path / "x.onnx")
    with pytest.raises(InputError, match="cannot be read"):
        check_model(tmp_path / "none.onnx")


def test_nodes_without_names_are_named_by_what_they_make() -> None:
    model = onnx.load_from_string(PATTERNS["weights only"]())
    for node in model.graph.node:
        node.name = ""
    report = check_model(model.SerializeToString())
    assert report.convolutions[0].startswith("Conv")


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


def test_inspect_counts_says_what_to_change_and_exits_with_4(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(PATTERNS["bias dequantized from int32"]())
    result = inspect(tmp_path / "bad.onnx", "--target", "sm87", "--json", tmp_path / "found.json")
    assert result.exit_code == 4
    assert "1 of 1 convolutions int8" in result.stdout
    assert "error Q008" in result.stdout
    assert "QuantizeBias=False" in result.stdout
    table = json.loads((tmp_path / "found.json").read_text())
    assert [finding["code"] for finding in table["errors"]] == ["Q008"]
    assert (table["convolutions"], table["int8_convolutions"], table["target"]) == (1, 1, "sm87")


def test_inspect_shows_a_few_findings_of_each_kind_and_counts_the_rest(tmp_path: Path) -> None:
    (tmp_path / "cpu.onnx").write_bytes(write_model(quantized_checkpoint()))
    result = inspect(tmp_path / "cpu.onnx", "--json", tmp_path / "found.json")
    codes = [finding["code"] for finding in json.loads((tmp_path / "found.json").read_text())["errors"]]
    assert result.stdout.count("error Q006") == 5
    assert f"{codes.count('Q006') - 5} more Q006" in result.stdout
    assert "more Q013" not in result.stdout


def test_inspect_of_a_good_model_exits_with_0(tmp_path: Path) -> None:
    (tmp_path / "good.onnx").write_bytes(PATTERNS["float16 carriers, operator set 19"]())
    result = inspect(tmp_path / "good.onnx", "--target", "sm87")
    assert (result.exit_code, result.stdout.count("2 of 2 convolutions int8")) == (0, 1)
    assert inspect(tmp_path / "good.onnx", "--target", "sm1").exit_code == 2
    assert inspect(tmp_path / "none.onnx").exit_code == 2
    assert inspect(tmp_path).exit_code == 2


def three_float_convolutions() -> bytes:
    net = Net(17)
    x = "x"
    for _ in range(3):
        x = net.op("Relu", net.conv(x, net.weights(16, 16, form="float"), net.const(np.ones(16), np.float32)))
    return net.model(x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("symmetric", [True, False])
def test_files_of_onnx_runtimes_quantizer(symmetric: bool, tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    (tmp_path / "float.onnx").write_bytes(three_float_convolutions())

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.left = 4

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            if self.left < 0:
                return None
            random = np.random.default_rng(self.left)
            return {"x": random.normal(size=(1, 16, 16, 16)).astype(np.float32)}

    extra = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False} if symmetric else {}
    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv"],
        extra_options=extra,
    )
    report = check_model(tmp_path / "int8.onnx")
    assert len(report.convolutions) == 3
    if symmetric:
        assert (report.errors, report.int8) == ((), 3)
    else:
        assert {"Q006", "Q008"} <= {finding.code for finding in report.errors}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("carrier", "findings"), [("fp32", {"P006"}), ("fp16", set())])
def test_files_of_nvidia_modelopt(carrier: str, findings: set[str], tmp_path: Path) -> None:
    quantization = pytest.importorskip("modelopt.onnx.quantization", reason="nvidia-modelopt is not installed")
    (tmp_path / "float.onnx").write_bytes(three_float_convolutions())
    quantization.quantize(
        str(tmp_path / "float.onnx"),
        quantize_mode="int8",
        calibration_data={"x": np.random.default_rng(0).normal(size=(4, 16, 16, 16)).astype(np.float32)},
        calibration_eps=["cpu"],
        output_path=str(tmp_path / "int8.onnx"),
        high_precision_dtype=carrier,
    )
    result = inspect(tmp_path / "int8.onnx", "--target", "sm87", "--json", tmp_path / "found.json")
    assert (result.exit_code, f"3 of 3 convolutions int8, {carrier} between them" in result.stdout) == (0, True)
    table = json.loads((tmp_path / "found.json").read_text())
    assert table["errors"] == []
    assert {finding["code"] for finding in table["warnings"]} == findings
