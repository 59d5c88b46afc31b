"""One structure from a build log and from inspectors of several versions."""

from __future__ import annotations

import json

import pytest

from cunet_deploy.errors import CunetError
from cunet_deploy.tensorrt.layers import Layer, LayerReport, layers_from_inspector, layers_from_log

ROW = (
    "Name: conv_U1_myl0_3, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [-1,48,8,8], Strides: "
    "[3072,1,384,48], StrideOrder: [3,0,2,1], Datatype: %s, Format: (NHWC) Channel major format }], Constants: "
    "[ { Name: w, Dimensions: [32,48,1,1], Strides: [48,1,48,48], StrideOrder: [3,0,2,1], Datatype: %s, "
    "Format: (NHWC) Channel major format }, { Name: s, "
    "Dimensions: [1,32,1,1], Strides: [32,1,32,32], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) "
    "Channel major format }], Outputs: [ { Name: o, Dimensions: [-1,32,8,8], Strides: [2048,1,256,32], StrideOrder: "
    "[3,0,2,1], Datatype: Float, Format: (NHWC) Channel major format }], TacticName: __myelin_CASK_STUB, StreamId: 0, "
    "Metadata: [ONNX Layer: conv][ONNX Layer: conv.w]"
)
CONV = {
    "Name": "conv + relu",
    "ParameterType": "Convolution",
    "Weights": {"Type": "Int8", "Count": 576},
    "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32",
    "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
}
INSPECTED = {
    "10.3": {
        "Layers": [
            {
                **CONV,
                "LayerType": "CaskConvolution",
                "Inputs": [
                    {"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}
                ],
                "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
            }
        ],
        "Bindings": ["x", "y"],
    },
    "11.4": {
        "Layers": [
            {
                **CONV,
                "LayerType": "correlation",
                "ParameterType": "",
                "Weights": None,
                "Constants": [
                    {"Name": "w", "Dimensions": [32, 48, 1, 1], "Datatype": "Int8"},
                    {"Name": "s", "Dimensions": [1, 32, 1, 1], "Datatype": "Float"},
                ],
                "Inputs": [{"Name": "x", "Datatype": "Int8", "Format": "Channel major"}],
                "Outputs": [{"Name": "y", "Datatype": "Half"}],
            }
        ],
        "I/O Tensors": [{"Name": "x"}, {"Name": "y"}],
    },
}


def test_a_row_of_the_build_log_is_a_layer() -> None:
    report = layers_from_log(["something else", ROW % ("Int8", "Int8")])
    assert report.layers == (
        Layer("conv_U1_myl0_3", "convolution", ("int8",), "int8", ("fp32",), ("conv", "conv.w"), "__myelin_CASK_STUB"),
    )
    assert (report.int8, report.not_int8) == (1, ())


@pytest.mark.parametrize(("x", "w"), [("Half", "Half"), ("Int8", "Half"), ("Half", "Int8"), ("UInt8", "Int8")])
def test_int8_means_inputs_and_weights(x: str, w: str) -> None:
    report = layers_from_log([ROW % (x, w)])
    assert (report.int8, len(report.not_int8)) == (0, 1)


def test_a_log_without_rows_is_an_error_and_no_proof() -> None:
    with pytest.raises(CunetError, match="no layer table"):
        layers_from_log(["Name: x, LayerKind: conv"])


@pytest.mark.parametrize("version", INSPECTED)
def test_inspectors_give_the_same_structure(version: str) -> None:
    (layer,) = layers_from_inspector(json.dumps(INSPECTED[version])).layers
    assert layer.is_int8
    assert (layer.kind, layer.outputs, layer.onnx) == ("convolution", ("fp16",), ("conv", "relu"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": ["conv", "relu"]}'])
def test_an_inspector_without_details_is_an_error(text: str) -> None:
    with pytest.raises(CunetError):
        layers_from_inspector(text)


def test_a_report_survives_json() -> None:
    report = layers_from_log([ROW % ("Int8", "Int8")])
    table = json.loads(json.dumps(report.to_dict()))
    assert (table["convolutions"], table["int8_convolutions"]) == (1, 1)
    assert LayerReport.from_dict(table) == report
