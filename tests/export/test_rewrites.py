"""Forms of the graph: the same integers as the plain convolution and the plain enlargement."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from networks import quantized_checkpoint
from onnx import TensorProto, helper

from cunet_deploy.export.onnx_builder import OnnxBuilder
from cunet_deploy.export.rewrites import (
    space_to_depth,
    space_to_depth_block,
    space_to_depth_weights,
    upsample_by_copies,
)
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.model.graph import Node


def run(parts: OnnxBuilder, output: str, feed: dict[str, np.ndarray], kinds: tuple[int, int]) -> np.ndarray:
    (name, value), (given, made) = *feed.items(), kinds
    graph = helper.make_graph(
        parts.nodes,
        "test",
        [helper.make_tensor_value_info(name, given, value.shape)],
        [helper.make_tensor_value_info(output, made, None)],
        parts.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], feed)[0])


@pytest.mark.parametrize(
    ("kernel", "stride", "block"), [(7, 2, 2), (7, 4, 4), (7, 4, 2), (3, 2, 2), (1, 2, 2), (5, 4, 4)]
)
def test_a_convolution_of_blocks_of_pixels_is_the_convolution_of_the_pixels(
    kernel: int, stride: int, block: int
) -> None:
    random = np.random.default_rng(kernel)
    image = random.integers(-128, 128, (2, 16, 16, 3)).astype(np.float32)
    weights = random.integers(-127, 128, (5, 3, kernel, kernel)).astype(np.float32)
    parts = OnnxBuilder()
    spread = run(parts, space_to_depth(parts, "image", 16, block), {"image": image}, (TensorProto.FLOAT,) * 2)
    assert spread.shape == (2, 3 * block**2, 16 // block, 16 // block)
    moved, (top, left, bottom, right) = space_to_depth_weights(weights, block)
    assert np.count_nonzero(moved) == np.count_nonzero(weights)
    padded = F.pad(torch.from_numpy(spread), (left, right, top, bottom))
    expected = F.conv2d(
        torch.from_numpy(image).permute(0, 3, 1, 2), torch.from_numpy(weights), None, stride, kernel // 2
    )
    np.testing.assert_array_equal(F.conv2d(padded, torch.from_numpy(moved), None, stride // block), expected)


def test_enlarging_repeats_every_cell_with_its_channels() -> None:
    values, parts = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4)).astype(np.float32), OnnxBuilder()
    params = [parts.constant(np.array(1, np.float32)), parts.constant(np.array(0, np.uint8))]
    made = run(parts, upsample_by_copies(parts, "x", "y", 4, params), {"x": values}, (TensorProto.FLOAT,) * 2)
    np.testing.assert_array_equal(made, values.repeat(2, axis=2).repeat(2, axis=3))


@pytest.mark.parametrize(("stem", "kernel", "channels"), [("conv7", 4, 12), ("s2d", 2, 48), ("conv3x2", 3, 3)])
def test_only_stems_of_7x7_read_blocks_of_pixels(stem: str, kernel: int, channels: int) -> None:
    checkpoint = quantized_checkpoint("post", stem)
    model = onnx.load_from_string(write_model(checkpoint))
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == "stem.conv.w.q")
    assert list(weights.dims)[1:] == [channels, kernel, kernel]
    assert not any(node.op_type == "Resize" for node in model.graph.node)
    (node,) = (node for node in checkpoint.graph.nodes if node.output == "stem.conv")
    assert space_to_depth_block(node) == {"conv7": 2, "s2d": 4, "conv3x2": 1}[stem]


def test_other_layers_read_no_blocks() -> None:
    assert space_to_depth_block(Node("conv", ("x",), "y", 8, 4, kernel=3)) == 1
