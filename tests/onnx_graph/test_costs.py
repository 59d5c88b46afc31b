"""Multiplications and bytes of products, counted by hand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cunet_deploy.onnx_graph.costs import read_costs


def network() -> bytes:
    """A convolution of two groups, one that doubles the sides, and a matrix product, of any number of 8 x 8 images."""
    random = np.random.default_rng(0)
    shapes = {"grouped.w": (6, 2, 3, 3), "wider.w": (6, 3, 2, 2), "last.w": (3 * 16 * 16, 5)}
    weights = [numpy_helper.from_array(random.normal(size=shape).astype(np.float32), n) for n, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "grouped.w"], ["a"], name="grouped", group=2, pads=[1] * 4),
        helper.make_node("ConvTranspose", ["a", "wider.w"], ["b"], name="wider", strides=[2, 2]),
        helper.make_node("Flatten", ["b"], ["c"], name="flat"),
        helper.make_node("MatMul", ["c", "last.w"], ["y"], name="last"),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "products", [given], [made], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_each_kind_of_product_is_counted_by_its_own_rule() -> None:
    costs = read_costs(network())
    macs = {product.name: product.macs for product in costs.products}
    assert macs == {"grouped": 64 * 6 * 2 * 9, "wider": 64 * 6 * 3 * 4, "last": 768 * 5}
    assert (costs.macs, costs.integer_macs, costs.unknown) == (6912 + 4608 + 3840, 0, 0)


def test_what_products_read_and_write_takes_bytes_by_its_bits() -> None:
    found = read_costs(network()).to_dict()
    values = (4 + 6) * 64 + 6 * 64 + 3 * 256 + 768 + 5
    assert found["activation_bytes_per_crop_by_bits"] == {"32": 4 * values}
    assert found["weight_bytes_by_bits"] == {"32": 4 * (6 * 2 * 9 + 6 * 3 * 4 + 768 * 5)}
    assert found["macs_by_weight_x_activation_bits"] == {"32x32": found["macs_per_crop"]}


def test_of_images_of_unknown_size_nothing_is_guessed() -> None:
    model = onnx.load_from_string(network())
    del model.graph.node[2:]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    costs = read_costs(model.SerializeToString())
    assert (costs.macs, costs.unknown) == (0, 2)
