"""A face of five coloured dots, and a network that finds them: what the runtime is tested with, without training.

The network is real ONNX with a manifest: each landmark is one colour, and its heatmap is how much of that colour is
around each cell. So a score falls when the dots are much smaller than the crop rule expects, as a trained network's
does.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder
from cunet_deploy.manifest import METADATA_KEY, Manifest
from cunet_deploy.skeletons import Skeleton

COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]], np.float32)  # BGR
TEMPLATE = np.array([[-1, -1], [1, -1], [0, 0], [-0.9, 1], [0.9, 1]], np.float64)
"""(5, 2) landmarks in half box sides around the middle."""
RADIUS = 0.17
"""Of a dot, in half box sides."""

DOTS = Skeleton(
    name="dots",
    landmarks=("left_top", "right_top", "middle", "left_bottom", "right_bottom"),
    flip_pairs=((0, 1), (3, 4)),
    edges=((0, 1), (3, 4), (0, 2)),
    normalizers={"top": ((0,), (1,))},
)


def manifest(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "name": "dots",
        "skeleton": DOTS,
        "crop": CropRule(64, 1.4),
        "stride": 4,
        "decoder": Decoder(1),
        "weight_bits": 32,
        "activation_bits": 32,
        "min_score": 0.5,
        "licence": "drawn by the tests",
        "trained_on": (),
        "opset": 17,
        "producer": "tests",
        "checkpoint": "",
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]


def draw(points: np.ndarray, half: float, size: tuple[int, int]) -> np.ndarray:
    """A grey (height, width, 3) picture with dots at (N, 5, 2) points of objects with half box sides ``half``."""
    image = np.full((*size, 3), 128, np.uint8)
    for face in points.reshape(-1, 5, 2):
        for (x, y), colour in zip(face, COLOURS, strict=True):
            place = (round(x * 16), round(y * 16))
            cv2.circle(image, place, round(RADIUS * half * 16), colour.tolist(), -1, cv2.LINE_AA, 4)
    return image


def scene(
    center: tuple[float, float] = (160, 120), half: float = 40, size: tuple[int, int] = (240, 320)
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of (height, width) with one object, and its (5, 2) landmarks."""
    points = TEMPLATE * half + np.array(center)
    return draw(points[None], half, size), points


def box(center: tuple[float, float] = (160, 120), half: float = 40) -> np.ndarray:
    """(1, 4) tight box of `scene`'s object."""
    x, y = center
    return np.array([[x - half, y - half, x + half, y + half]], np.float64)


def write_model(path: Path, said: Manifest | None = None, *, metadata: bool = True) -> Path:
    """The network as an ONNX file."""
    said = manifest() if said is None else said
    count, size = len(COLOURS), said.crop.size
    reach = np.arange(12) - 5.5
    bell = np.exp(-(reach[:, None] ** 2 + reach[None, :] ** 2) / (2 * 3.0**2))
    dot = np.pi * (RADIUS * size / said.crop.padding / 2) ** 2  # pixels of a dot in a fitting crop
    kernel = np.repeat(bell[None, None] / (0.6 * dot), count, axis=0).astype(np.float32)
    constants = {
        "colours": (-2 * COLOURS)[:, :, None, None],
        "squares": (COLOURS**2).sum(axis=1),
        "width": np.array(-1 / (2 * 70.0**2), np.float32),
        "kernel": kernel,
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "planes"], ["squared"]),
        helper.make_node("ReduceSum", ["squared", "axis"], ["length"], keepdims=1),
        helper.make_node("Conv", ["planes", "colours", "squares"], ["product"]),
        helper.make_node("Add", ["length", "product"], ["distance"]),
        helper.make_node("Mul", ["distance", "width"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["likeness"]),
        helper.make_node("Conv", ["likeness", "kernel"], ["raw"], strides=[4, 4], pads=[4] * 4, group=count),
        helper.make_node("Clip", ["raw", "zero", "one"], ["heatmaps"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    tensors.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", size, size, 3])
    cells = size // 4
    maps = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", count, cells, cells])
    graph = helper.make_graph(nodes, "dots", [image], [maps], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, {METADATA_KEY: said.to_json()})
    onnx.save(model, path)
    return path
