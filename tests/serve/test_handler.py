"""One request: the landmarks of `Localizer`, and an error that the client can be told for everything else."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from cunet_deploy import Localizer
from cunet_deploy.errors import InputError
from cunet_deploy.serve import handler as handler_module
from cunet_deploy.serve.handler import Handler
from cunet_deploy.serve.triton import TritonPythonModel

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture(scope="module")
def handler() -> Iterator[Handler]:
    opened = Handler("face68-xs")
    yield opened
    opened.close()


def test_a_picture_gives_what_the_localizer_gives(handler: Handler, astronaut: Path) -> None:
    frame = np.asarray(cv2.imread(str(astronaut)), np.uint8)
    expected = Localizer("face68-xs").predict(frame)
    for found in (handler.answer(image=astronaut.read_bytes()), handler.answer(frame=frame)):
        assert found["landmarks"].shape == (1, 68, 2)
        np.testing.assert_array_equal(found["landmarks"], expected.points)
        np.testing.assert_array_equal(found["scores"], expected.scores)
        np.testing.assert_array_equal(found["boxes"], expected.boxes)
    given = handler.answer(frame=frame, boxes=np.array([[10, 10, 90, 90], [200, 60, 300, 160]], np.float32))
    assert given["landmarks"].shape == (2, 68, 2)
    assert given["ids"].tolist() == [0, 1]


def test_a_picture_is_decoded_where_no_file_can_be_written(
    handler: Handler, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(astronaut))  # as in a container whose disk is read-only
    assert len(handler.answer(image=astronaut.read_bytes())["landmarks"]) == 1


def test_nobody_there_is_an_answer(handler: Handler) -> None:
    found = handler.answer(frame=np.zeros((50, 60, 3), np.uint8))
    assert {name: values.shape for name, values in found.items()} == {
        "boxes": (0, 4),
        "landmarks": (0, 68, 2),
        "scores": (0, 68),
        "ids": (0,),
    }


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({}, "send one of image"),
        ({"image": b"x", "frame": np.zeros((4, 4, 3), np.uint8)}, "send one of image"),
        ({"image": b""}, "image: is empty"),
        ({"image": b"garbage"}, "image: is damaged or not an image"),
        (
            {"image": cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()[:300]},
            "image: the image is cut",
        ),
        ({"frame": np.zeros((0, 5, 3), np.uint8)}, "image has shape"),
        ({"frame": np.zeros((8, 8, 3), np.uint8), "boxes": np.full((1, 4), np.nan, np.float32)}, "box 0 is"),
    ],
    ids=["nothing", "two", "empty", "garbage", "cut off", "no pixels", "no box"],
)
def test_what_cannot_be_answered_says_why(handler: Handler, sent: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        handler.answer(**sent)


def test_a_picture_of_too_many_pixels_is_refused(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_module, "MAX_PIXELS", 1_000_000)
    with pytest.raises(InputError, match="more than 1 megapixels; send a smaller one"):
        handler.answer(frame=np.zeros((1001, 1000, 3), np.uint8))
    with pytest.raises(InputError, match=r"states 4 megapixels, at most 1 are read; scale it down$"):  # not decoded
        handler.answer(image=cv2.imencode(".png", np.zeros((2000, 2000, 3), np.uint8))[1].tobytes())


class FakeTensor:
    def __init__(self, name: str, values: Any) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> Any:
        return self.values


class FakeError:
    INTERNAL, INVALID_ARG = 1, 3

    def __init__(self, message: str, code: int) -> None:
        self.message, self.code = message, code


class FakeResponse:
    def __init__(self, tensors: Any = (), error: FakeError | None = None) -> None:
        self.tensors, self.error = {tensor.name: tensor.values for tensor in tensors}, error


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-in for Triton's Python backend as models see it; a real server is in `tools.experiments.triton`."""
    module: Any = ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse, module.TritonError = FakeTensor, FakeResponse, FakeError
    module.get_input_tensor_by_name = lambda request, name: request.get(name)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def open_triton(tmp_path: Path, **parameters: str) -> TritonPythonModel:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes((MODELS / "face68-xs" / "model.onnx").read_bytes())
    model = TritonPythonModel()
    values = {name: {"string_value": value} for name, value in {"threads": "1", **parameters}.items()}
    config = json.dumps({"parameters": values})
    model.initialize({"model_repository": str(tmp_path), "model_version": "1", "model_config": config})
    return model


@pytest.mark.usefixtures("triton")
def test_triton_gets_a_response_for_each_request_and_errors_touch_no_other(tmp_path: Path, astronaut: Path) -> None:
    model = open_triton(tmp_path)
    picture = FakeTensor("image", np.array([astronaut.read_bytes()], object))
    good, bad, empty = model.execute([{"image": picture}, {"image": FakeTensor("image", np.array([b"?"], object))}, {}])
    assert good.error is None
    assert {name: values.dtype for name, values in good.tensors.items()} == {
        "boxes": np.float32,
        "landmarks": np.float32,
        "scores": np.float32,
        "ids": np.int64,
    }
    assert good.tensors["landmarks"].shape == (1, 68, 2)
    assert (bad.error.code, empty.error.code) == (3, 3)
    assert "not an image" in bad.error.message
    model.finalize()


@pytest.mark.usefixtures("triton")
def test_triton_gets_an_internal_error_for_the_request_that_failed(
    tmp_path: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = open_triton(tmp_path)
    answer = model._handler.answer

    def fail(**sent: Any) -> Any:
        if sent["frame"] is not None:
            raise RuntimeError("the device is gone")
        return answer(**sent)

    monkeypatch.setattr(model._handler, "answer", fail)
    frame = FakeTensor("frame", np.zeros((8, 8, 3), np.uint8))
    picture = FakeTensor("image", np.array([astronaut.read_bytes()], object))
    empty = FakeTensor("image", np.array([], object))
    bad, good, short = model.execute([{"frame": frame}, {"image": picture}, {"image": empty}])
    assert good.error is None
    assert [response.error.code for response in (bad, short)] == [FakeError.INTERNAL] * 2
    assert "internal error" in bad.error.message
    assert "the device is gone" not in bad.error.message
    assert "RuntimeError: the device is gone" in caplog.text
    model.finalize()


@pytest.mark.usefixtures("triton")
def test_triton_refuses_weights_of_another_licence_than_its_configuration_asks_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an open licence was asked for"):
        open_triton(tmp_path, licence="open")
