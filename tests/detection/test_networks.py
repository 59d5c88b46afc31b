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
from cunet_deploy.detection.yunet import YuNet, tight_boxes
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


def _write_colours(path: Path, shape: list[int], kind: int) -> Path:
    """A network whose box ends at 10 + 10 green, 10 + 10 blue with red as its score, of mean colours from 0 to 1."""
    planar = shape[1] == 3
    columns = np.array([[0, 0, 0, 0, 1], [0, 0, 10, 0, 0], [0, 0, 0, 10, 0]], np.float32)  # of red, green and blue
    constants = {"rows.w": columns if planar else columns[::-1] / 255, "rows.b": np.array([[0, 0, 10, 10, 0]])}
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=[2, 3] if planar else [1, 2], keepdims=0),
        helper.make_node("Gemm", ["mean", *constants], ["rows"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("shape", "kind"), [([1, 3, 64, 64], TensorProto.FLOAT), ([1, 64, 64, 3], TensorProto.UINT8)], ids=["RGB", "BGR"]
)
def test_a_network_is_given_colours_in_the_order_and_range_of_its_form(
    tmp_path: Path, shape: list[int], kind: int
) -> None:
    image = np.full((64, 64, 3), (51, 102, 204), np.uint8)  # a fifth of blue, two of green, four of red
    boxes, scores = open_detector(f"onnx:{_write_colours(tmp_path / 'd.onnx', shape, kind)}").detect(image)
    np.testing.assert_allclose(boxes, [[0, 0, 14, 12]], atol=1e-4)
    np.testing.assert_allclose(scores, [0.8], atol=1e-5)


def test_a_letterboxed_image_lies_on_grey() -> None:
    canvas, scale, offset = letterbox(np.full((10, 20, 3), 255, np.uint8), 40, 48)
    assert (scale.tolist(), offset.tolist()) == ([2, 2], [0, 14])
    assert (canvas[14:34] == 255).all()
    assert (np.delete(canvas, np.s_[14:34], axis=0) == 114).all()


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


class _FakeYuNet:
    """OpenCV's detector: finds the same box in every picture of at least so many pixels across."""

    def __init__(self, least: int) -> None:
        self.least, self.sides = least, list[int]()

    def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802  (OpenCV's name)
        self.sides.append(size[0])

    def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
        rows = [[*box, *[0] * 10, score] for box, score in (([8, 6, 10, 20], 0.7), ([40, 30, 20, 20], 0.9))]
        return 1, np.array(rows, np.float32) if image.shape[1] >= self.least else None


def yunet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, least: int) -> tuple[YuNet, _FakeYuNet]:
    fake = _FakeYuNet(least)
    monkeypatch.setattr(cv2, "FaceDetectorYN_create", lambda *given: fake, raising=False)
    detector = YuNet(tmp_path / "yunet.onnx")
    fake.sides.clear()
    return detector, fake


def test_yunets_boxes_come_back_from_the_shrunk_frame_best_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    detector, fake = yunet(monkeypatch, tmp_path, 100)
    boxes, scores = detector.detect(np.zeros((960, 1920, 3), np.uint8))
    assert fake.sides == [640]  # a third
    np.testing.assert_allclose(scores, [0.9, 0.7], rtol=1e-6)
    expected = tight_boxes(np.array([[40.0, 30, 20, 20], [8, 6, 10, 20]]))
    np.testing.assert_allclose(boxes, (expected + 0.5) * 3 - 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("known", "least", "sides"),
    [(None, 100, [640]), (0, 100, [320]), (0, 400, [320, 640]), (1, 400, [320])],
    ids=["a photo", "video", "video, found by the full look", "video, somebody is followed"],
)
def test_yunet_looks_fully_at_photos_and_in_video_where_nobody_is_seen_or_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: int | None, least: int, sides: list[int]
) -> None:
    detector, fake = yunet(monkeypatch, tmp_path, least)
    followed = None if known is None else np.tile([10.0, 10, 90, 90], (known, 1))
    boxes, _ = detector.detect(np.zeros((960, 1280, 3), np.uint8), known=followed)
    assert len(boxes) == (2 if sides[-1] >= least else 0)
    assert fake.sides == sides


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
