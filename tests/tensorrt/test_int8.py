"""Every convolution really becomes int8 in what TensorRT for RTX builds, and the count shows where one does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import changed, float_checkpoint, lowered, paper_checkpoint, quantized
from onnx import numpy_helper
from rtx import compile_all, need_rtx

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.targets.tensorrt import Lowering, write_tensorrt_model
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.tensorrt.lint import check_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("sm", [(), (86,), (89,), (120,), (86, 120)], ids=str)
def test_every_convolution_is_int8_on_every_gpu(sm: tuple[int, ...], tmp_path: Path) -> None:
    need_rtx()
    models = {
        f"{block} {carrier} {features} {batch}": lowered(block, Lowering(carrier, features, batch))  # type: ignore[arg-type]
        for block in ("pre", "post")
        for carrier, features, batch in (
            ("fp16", "carrier", None),
            ("fp16", "carrier", 1),
            ("fp32", "carrier", None),
            ("fp16", "int8", 1),
        )
    }
    for name, result in compile_all(models, tmp_path, sm, free_batch=True).items():
        expected = len(check_model(models[name]).convolutions)
        assert expected > 20
        assert result == {"int8": expected, "convolutions": expected}, name


@pytest.mark.slow
@pytest.mark.parametrize("sm", [(), (86,), (89,), (120,)], ids=str)
@pytest.mark.parametrize("block", ["pre", "post"])
def test_the_paper_s_network_is_int8_throughout(block: str, sm: tuple[int, ...], tmp_path: Path) -> None:
    need_rtx()
    forms = [Lowering(carrier, batch=batch) for carrier in ("fp16", "fp32") for batch in (None, 1)]
    models = {str(form): write_tensorrt_model(paper_checkpoint(block), form) for form in forms}
    for form, result in compile_all(models, tmp_path, sm, free_batch=True).items():
        assert len(check_model(models[form]).convolutions) == 65
        assert result == {"int8": 65, "convolutions": 65}, form


def test_few_bits_refinement_and_the_baselines_become_int8_throughout(tmp_path: Path) -> None:
    need_rtx()
    forms = {
        "binary": ("post", QuantConfig(weight_bits=1)),
        "ternary": ("pre", QuantConfig(weight_bits=2, ternary=True)),
        "few activation bits": ("post", QuantConfig(weight_bits=4, activation_bits=4)),
        "refined": ("refined post", QuantConfig(weight_bits=1)),
        "hourglass": ("hourglass", QuantConfig(weight_bits=4)),
        "dense": ("dense pre", QuantConfig(weight_bits=1)),
    }
    models = {
        name: write_tensorrt_model(quantized(network, quant), Lowering("fp16"))
        for name, (network, quant) in forms.items()
    }
    for name, result in compile_all(models, tmp_path, free_batch=True).items():
        report = check_model(models[name])
        assert (report.int8, report.errors) == (len(report.convolutions), ()), name
        assert result == {"int8": report.int8, "convolutions": report.int8}, name


def test_a_float_network_builds_without_int8(tmp_path: Path) -> None:
    need_rtx()
    model = write_tensorrt_model(float_checkpoint(), Lowering("fp16", batch=1))
    (result,) = compile_all({"float": model}, tmp_path).values()
    assert isinstance(result, dict)
    assert (result["int8"], result["convolutions"]) == (0, len(check_model(model).convolutions))


def with_weights_along_axis_1(graph: Any) -> None:
    sizes = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.name.endswith(".w"):
            channels = sizes[f"{node.name}.q"].dims[1]
            sizes[f"{node.name}.s"].CopyFrom(
                numpy_helper.from_array(np.full(channels, 0.01, np.float16), f"{node.name}.s")
            )
            zero = numpy_helper.from_array(np.zeros(channels, np.int8), f"{node.name}.z")
            graph.initializer.append(zero)
            node.input[2] = zero.name
            node.attribute[0].i = 1


def with_weights_only(graph: Any) -> None:
    sources = {node.name: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    kept = [node for node in graph.node if ".int8" not in node.name]
    for node in kept:
        for index, name in enumerate(node.input):
            if f"{name}.q" in sources:
                node.input[index] = sources[f"{name}.q"]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(kept)


def with_vector_scales(graph: Any) -> None:
    used = {node.input[1] for node in graph.node if ".int8" in node.name}
    for tensor in graph.initializer:
        if tensor.name in used:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).reshape(1), tensor.name))


@pytest.mark.parametrize(
    "change", [with_weights_along_axis_1, with_weights_only, with_vector_scales], ids=lambda change: change.__name__
)
def test_a_network_quantized_wrongly_builds_silently_with_fewer_int8_convolutions(
    change: Callable[[Any], None], tmp_path: Path
) -> None:
    need_rtx()
    model = changed(lowered(lowering=Lowering(batch=1)), change)
    (result,) = compile_all({"changed": model}, tmp_path).values()
    report = check_model(model)
    assert isinstance(result, dict)
    assert result["int8"] == report.int8 < len(report.convolutions)


def with_pairs_at_producers_only(graph: Any) -> None:
    """Every activation is quantized where it is made, by its own scale; nothing is behind a concatenation or Resize."""
    with_weights_only(graph)
    nodes = []
    for node in graph.node:
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
        if node.op_type == "Relu":
            made = node.output[0]
            scale = numpy_helper.from_array(np.array(0.02 + 0.001 * len(nodes), np.float16), f"{made}.own")
            zero = numpy_helper.from_array(np.array(0, np.int8), f"{made}.zero")
            graph.initializer.extend([scale, zero])
            nodes[-1].output[0] = f"{made}.float"
            nodes.append(
                onnx.helper.make_node(
                    "QuantizeLinear", [f"{made}.float", scale.name, zero.name], [f"{made}.q"], name=f"{made}.q"
                )
            )
            nodes.append(
                onnx.helper.make_node(
                    "DequantizeLinear", [f"{made}.q", scale.name, zero.name], [made], name=f"{made}.dq"
                )
            )
    del graph.node[:]
    graph.node.extend(nodes)


def test_quantizing_at_producers_only_leaves_convolutions_behind_concatenations_in_float(tmp_path: Path) -> None:
    need_rtx()
    whole = lowered("post", Lowering("fp16", batch=1))
    producers = changed(whole, with_pairs_at_producers_only)
    found = compile_all({"producers": producers, "inputs": whole}, tmp_path)
    report = check_model(producers)
    total = len(report.convolutions)
    assert report.errors == ()
    assert found["inputs"] == {"int8": total, "convolutions": total}
    assert found["producers"] == {"int8": report.int8, "convolutions": total}
    assert 0 < report.int8 < total
    assert any("joins different scales" in reason for reason in report.not_int8.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["face68-s", "face68-m"])
def test_the_released_checkpoint_is_int8_throughout(name: str, tmp_path: Path) -> None:
    path = ROOT / "models" / name / "checkpoint.pt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    need_rtx()
    checkpoint = load_checkpoint(path)
    models = {
        str(form): write_tensorrt_model(checkpoint, form) for form in (Lowering("fp16"), Lowering("fp32", batch=1))
    }
    for sm in ((), (86,), (89,), (120,)):
        for form, result in compile_all(models, tmp_path, sm, free_batch=True).items():
            report = check_model(models[form])
            assert Manifest.from_json(report.metadata[METADATA_KEY], path).name == name
            assert result == {"int8": len(report.convolutions), "convolutions": len(report.convolutions)}
        (tmp_path / "results").unlink()
