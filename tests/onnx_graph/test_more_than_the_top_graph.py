"""ONNX files that are more than one graph in one file: weights beside it, functions of their own, If and Loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from dots import scene, write_model
from onnx import TensorProto, helper, numpy_helper
from openvino_here import needs_openvino

from cunet_deploy import Localizer
from cunet_deploy.cli import cli
from cunet_deploy.detection.onnx import OnnxDetector
from cunet_deploy.detection.yunet import YuNet
from cunet_deploy.errors import ArtifactError
from cunet_deploy.onnx_graph.costs import read_costs
from cunet_deploy.onnx_graph.external import external_files, missing_weights
from cunet_deploy.onnx_graph.storage import read_storage
from cunet_deploy.sessions import open_session, optimized
from cunet_deploy.tensorrt.lint import check_model

RNG = np.random.default_rng(0)
WEIGHT_BYTES = 4 * 4 * 9 * 4


def weights(name: str) -> Any:
    return numpy_helper.from_array(RNG.normal(0, 0.2, (4, 4, 3, 3)).astype(np.float32), name)


def conv(given: str, kernel: str, made: str) -> Any:
    return helper.make_node("Conv", [given, kernel], [made], name=f"conv_{made}", pads=[1, 1, 1, 1])


def save(path: Path, nodes: list[Any], tensors: list[Any], functions: list[Any] | None = None) -> Path:
    """A model from ``x`` to ``y``, both (1, 4, 8, 8)."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions or [])
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def with_function(path: Path) -> Path:
    """One convolution in the graph, and one in a function that is called twice, whose weights are a constant in it."""
    body = [
        helper.make_node("Constant", [], ["k"], value=weights("k")),
        conv("a", "k", "b"),
        helper.make_node("Relu", ["b"], ["c"]),
    ]
    function = helper.make_function("local", "Block", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    calls = [helper.make_node("Block", [a], [b], domain="local") for a, b in (("x", "u"), ("u", "v"))]
    return save(path, [*calls, conv("v", "w", "y")], [weights("w")], [function])


def with_if(path: Path) -> Path:
    """One convolution in the graph and one in each branch, one of them with weights of the graph."""
    info = [helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 4, 8, 8])]
    then = helper.make_graph([conv("u", "inner", "r")], "then", [], info, [weights("inner")])
    other = helper.make_graph([conv("u", "w", "r")], "else", [], info)
    nodes = [
        conv("x", "w", "u"),
        helper.make_node("ReduceMax", ["u"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["some"]),
        helper.make_node("If", ["some"], ["y"], name="choice", then_branch=then, else_branch=other),
    ]
    return save(path, nodes, [weights("w"), numpy_helper.from_array(np.array(0, np.float32), "zero")])


def with_loop(path: Path) -> Path:
    """A convolution that runs three times, with weights of its own inside an If in the loop."""
    made = helper.make_tensor_value_info
    kept = [made("q", TensorProto.FLOAT, [1, 4, 8, 8])]
    branches = [
        helper.make_graph([conv("s", "inner", "q")], "then", [], kept, [weights("inner")]),
        helper.make_graph([helper.make_node("Identity", ["s"], ["q"])], "else", [], kept),
    ]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("If", ["go"], ["t"], name="maybe", then_branch=branches[0], else_branch=branches[1]),
        ],
        "body",
        [
            made("i", TensorProto.INT64, []),
            made("go", TensorProto.BOOL, []),
            made("s", TensorProto.FLOAT, [1, 4, 8, 8]),
        ],
        [made("goes", TensorProto.BOOL, []), made("t", TensorProto.FLOAT, [1, 4, 8, 8])],
    )
    tensors = [
        numpy_helper.from_array(np.array(3, np.int64), "times"),
        numpy_helper.from_array(np.array(True), "always"),
    ]
    return save(path, [helper.make_node("Loop", ["times", "always", "x"], ["y"], name="again", body=body)], tensors)


def with_external_data(model: Path) -> Path:
    """The same model, all its weights in ``weights.bin`` beside it."""
    options: dict[str, Any] = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 100}
    onnx.save(onnx.load(model), model, convert_attribute=True, **options)
    return model


def test_convolutions_in_functions_are_counted_and_their_weights_once(tmp_path: Path) -> None:
    path = with_function(tmp_path / "f.onnx")
    assert len(check_model(path).convolutions) == 3
    storage = read_storage(path)
    assert [layer.bytes for layer in storage.layers] == [WEIGHT_BYTES, 0, WEIGHT_BYTES]
    assert {layer.bits for layer in storage.layers} == {32}
    assert storage.total == path.stat().st_size
    assert read_costs(path).macs == 3 * 64 * 4 * 4 * 9


@pytest.mark.parametrize(
    ("write", "main", "inside", "stored"),
    [(with_if, 1, 2, [WEIGHT_BYTES, 0, WEIGHT_BYTES]), (with_loop, 0, 1, [WEIGHT_BYTES])],
)
def test_weights_in_branches_and_bodies_are_counted_and_what_is_not_is_said(
    write: Callable[[Path], Path], main: int, inside: int, stored: list[int], tmp_path: Path
) -> None:
    path = write(tmp_path / "m.onnx")
    storage = read_storage(path)
    assert [layer.bytes for layer in storage.layers] == stored
    assert storage.total == path.stat().st_size
    costs = read_costs(path)
    assert (costs.unknown, costs.macs) == (inside, main * 64 * 4 * 4 * 9)
    report = check_model(path)
    assert len(report.convolutions) == main
    (finding,) = (finding for finding in report.findings if finding.code == "P009")
    assert finding.message.startswith(f"{inside} convolutions inside ")
    result = CliRunner().invoke(cli, ["inspect", str(path)])
    assert result.exit_code == 0, result.output
    assert "are not checked" in result.stdout


def test_external_data_counts_as_part_of_the_file(tmp_path: Path) -> None:
    whole = read_storage(with_if(tmp_path / "whole.onnx"))
    path = with_external_data(with_if(tmp_path / "m.onnx"))
    assert list(external_files(path)) == ["weights.bin"]
    storage = read_storage(path)
    assert [layer.bytes for layer in storage.layers] == [layer.bytes for layer in whole.layers]
    assert storage.total == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    assert "weights.bin, which counts too" in CliRunner().invoke(cli, ["inspect", str(path)]).stdout


@pytest.mark.parametrize("write", [with_function, with_if, with_loop, write_model])
def test_external_data_that_is_missing_or_cut_off_is_named(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = with_external_data(write(tmp_path / "m.onnx"))
    assert missing_weights(path) == ""
    file = tmp_path / "weights.bin"
    file.write_bytes(file.read_bytes()[:-1])
    assert "weights.bin, which is cut off" in missing_weights(path)
    file.unlink()
    assert "weights.bin, which is not beside it; copy that file" in missing_weights(path)
    result = CliRunner().invoke(cli, ["inspect", str(path)])
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "weights.bin, which is not beside it" in result.stderr


def test_a_session_runs_with_external_data_and_names_what_is_missing(
    tmp_path: Path, dots_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUNET_CACHE", str(tmp_path / "cache"))
    path = with_external_data(write_model(tmp_path / "dots.onnx"))
    assert optimized.find_graph(path, {}) is None  # the weights may change without the file
    crops = scene(size=(64, 64), center=(32, 32), half=20)[0][None]
    expected = open_session(dots_model, threads=1).run(crops)
    np.testing.assert_array_equal(open_session(path, threads=1).run(crops), expected)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"dots\.onnx: its weights lie in weights\.bin, which is not beside it"):
        open_session(path, threads=1)


@needs_openvino
def test_openvino_names_what_is_missing_too(tmp_path: Path) -> None:
    path = with_external_data(write_model(tmp_path / "dots.onnx"))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"weights\.bin, which is not beside it"):
        open_session(path, threads=1, backend="openvino")


@pytest.mark.parametrize("detector", [OnnxDetector, YuNet])
def test_a_detector_names_what_is_missing(detector: Callable[[Path], object], tmp_path: Path) -> None:
    path = with_external_data(with_function(tmp_path / "detector.onnx"))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"detector\.onnx: its weights lie in weights\.bin"):
        detector(path)


def test_a_session_runs_a_graph_whose_nodes_are_in_a_function(tmp_path: Path) -> None:
    path = write_model(tmp_path / "dots.onnx")
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == "Exp")
    body = [helper.make_node("Exp", ["a"], ["b"])]
    model.functions.append(helper.make_function("local", "E", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("local", 1))
    node.op_type, node.domain = "E", "local"
    onnx.save(model, path)
    image, points = scene()
    found = Localizer(path, threads=1, detector="full").predict(image)
    np.testing.assert_allclose(found.points[0], points, atol=1.5)
    assert read_costs(path).unknown == 0
