"""Detectors that are networks: any ONNX file, and YuNet where its file is at hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cunet_deploy.detection.onnx import letterbox
from cunet_deploy.detection.open import open_detector
from cunet_deploy.detection.yunet import tight_boxes
from cunet_deploy.errors import ArtifactError, CunetError
from cunet_deploy.geometry import box_iou
from cunet_deploy.media import read_image


def _write(path: Path, rows: np.ndarray, shape: list[int], kind: int) -> Path:
    """A network that answers with the rows, whatever it sees."""
    nodes = [helper.make_node("Identity", ["constant"], ["rows"])]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, list(rows.shape))],
        [numpy_helper.from_array(rows.astype(np.float32), "constant")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


ROWS = np.array([[10, 20, 30, 40, 0.5, 0], [50, 60, 90, 100, 0.9, 1], [0, 0, 9, 9, 0.1, 0], [9, 9, 5, 5, 0.8, 0]])


@pytest.mark.parametrize(
    ("shape", "kind"), [([1, 3, 128, 128], TensorProto.FLOAT), ([1, 128, 128, 3], TensorProto.UINT8)]
)
@pytest.mark.parametrize("lead", [(), (1,)], ids=["rows", "batch of rows"])
def test_rows_become_boxes_of_the_image_best_first(
    tmp_path: Path, shape: list[int], kind: int, lead: tuple[int, ...]
) -> None:
    path = _write(tmp_path / "d.onnx", ROWS.reshape(*lead, 4, 6), shape, kind)
    # 256 x 128 shrinks by 2 into 128 x 64, with 32 rows of grey above and below
    boxes, scores = open_detector(f"onnx:{path}").detect(np.zeros((128, 256, 3), np.uint8))
    np.testing.assert_allclose(scores, [0.9, 0.5], rtol=1e-6)
    np.testing.assert_allclose(boxes[0], (np.array([50, 60, 90, 100]) + 0.5 - [0, 32, 0, 32]) * 2 - 0.5)


@pytest.mark.parametrize(
    ("rows", "shape", "kind", "message"),
    [
        (ROWS[:, :4], [1, 3, 64, 64], TensorProto.FLOAT, "expected rows of x0"),
        (ROWS, [1, 4, 64, 64], TensorProto.FLOAT, "a detector takes"),
        (ROWS, [3, 64, 64], TensorProto.FLOAT, "a detector takes"),
        (ROWS, [1, 3, 64, 64], TensorProto.UINT8, "tensor\\(float\\) expected"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, rows: np.ndarray, shape: list[int], kind: int, message: str) -> None:
    path = _write(tmp_path / "d.onnx", rows, shape, kind)
    with pytest.raises(ArtifactError, match=message):
        open_detector(f"onnx:{path}").detect(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("kind", ["onnx", "yunet"])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "d.onnx").write_bytes(b"no network" * 100)
    with pytest.raises(ArtifactError, match=r"d\.onnx"):
        open_detector(f"{kind}:{tmp_path / 'd.onnx'}")


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_letterboxed_image_fits_and_is_centred(width: int, height: int) -> None:
    canvas, scale, offset = letterbox(np.zeros((height, width, 3), np.uint8), 160, 96)
    assert canvas.shape == (96, 160, 3)
    size = np.array([width, height]) * scale
    assert (size <= np.array([160, 96]) + 1e-9).all()
    assert np.abs(offset * 2 + size - [160, 96]).max() <= 1 + 1e-9
    assert (np.abs(size - [160, 96]) < 1 + 1e-9).any()


def test_the_rule_for_yunets_boxes_keeps_the_middle_and_cuts_the_forehead() -> None:
    x0, y0, x1, y1 = tight_boxes(np.array([[100.0, 50.0, 200.0, 250.0]]))[0]
    assert (x0 + x1) / 2 == pytest.approx(200)
    assert y0 > 50
    assert y1 == pytest.approx(50 + 250 * (0.5 + 0.12 + 0.762 / 2))


def test_yunet_finds_the_face_at_any_resolution(media_dir: Path, astronaut: Path) -> None:
    detector = open_detector(f"yunet:{media_dir / 'yunet_2026may.onnx'}")
    image = read_image(astronaut)
    boxes, scores = detector.detect(image)
    assert len(boxes) == 1
    assert 0.6 < scores[0] <= 1
    for factor in (0.5, 4.0):
        scaled = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        again, _ = detector.detect(np.asarray(scaled, np.uint8))
        assert box_iou(again / factor, boxes)[0, 0] > 0.8
    assert len(detector.detect(np.zeros((50, 40, 3), np.uint8))[0]) == 0


def test_a_closed_detector_says_so(tmp_path: Path) -> None:
    path = _write(tmp_path / "d.onnx", ROWS, [1, 128, 128, 3], TensorProto.UINT8)
    detector = open_detector(f"onnx:{path}")
    detector.close()
    with pytest.raises(CunetError, match="is closed; open it again"):
        detector.detect(np.zeros((64, 64, 3), np.uint8))
