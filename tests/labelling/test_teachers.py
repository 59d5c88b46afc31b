"""Teachers of others: their descriptions, the forms of their outputs, and what runs them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from dots import DOTS, box, manifest, scene, write_model

from cunet_deploy.errors import ArtifactError, ConfigError, InputError, MissingDependencyError
from cunet_deploy.geometry import CropRule
from cunet_deploy.labelling.description import Description, InputSpec, OutputSpec, read_description
from cunet_deploy.labelling.outputs import read_outputs
from cunet_deploy.labelling.run import TeacherEnsemble
from cunet_deploy.labelling.teachers import RUNNERS, DescribedTeacher, open_teacher
from cunet_deploy.labelling.views import VIEWS, View, look

DESCRIPTION = """
model = "dots.onnx"
landmarks = ["a", "b", "c", "d", "e"]

[input]
width = 64
height = 64
padding = 1.4
layout = "NHWC"
type = "uint8"
colour = "BGR"
scale = [1]

[output]
form = "heatmap"
"""


def described(**output: Any) -> Description:
    spec = OutputSpec(**output)
    return Description("x", Path("x.onnx"), replace(DOTS, flip_pairs=()), InputSpec(width=48, height=64), spec)


@pytest.fixture
def description(tmp_path: Path) -> Path:
    write_model(tmp_path / "dots.onnx")
    path = tmp_path / "dots.toml"
    path.write_text(DESCRIPTION)
    return path


def test_every_view_of_ours_and_of_a_described_network_finds_the_dots(description: Path) -> None:
    image, points = scene()
    own = write_model(description.parent / "own.onnx", manifest(skeleton=replace(DOTS, flip_pairs=())))
    for spec in (own, description):
        teacher = open_teacher(str(spec), threads=1)
        found, scores = look(teacher, image, box()[0])
        teacher.close()
        assert found.shape == (len(VIEWS), 5, 2)
        assert np.abs(found - points).max() < 3, spec
        assert scores.min() > 0.5


def test_left_and_right_are_named_as_in_the_photo_also_in_its_mirror_image(tmp_path: Path) -> None:
    # a colour stays the same in a mirror image, where a left hand becomes a right one: so here the names trade places
    image, points = scene()
    teacher = open_teacher(str(write_model(tmp_path / "dots.onnx")), threads=1)
    found, _ = look(teacher, image, box()[0], [View(), View(flip=True)])
    teacher.close()
    np.testing.assert_allclose(found[0], points, atol=3)
    np.testing.assert_allclose(found[1][DOTS.flip_order], points, atol=3)


def test_a_narrow_input_sees_all_of_a_wide_box() -> None:
    crop = View().crop(described(form="heatmap").rule, (0, 0, 90, 60), shares=(0.75, 1.0))
    assert crop.side == pytest.approx(90 / 0.75 * 1.25, abs=2)
    assert View().crop(described(form="heatmap").rule, (0, 0, 30, 60), shares=(0.75, 1.0)).side == 75


class _Centroid:
    """A teacher that sees all landmarks in the middle of what is bright."""

    name, file, library, skeleton, rule, shares = "centroid", Path("x"), "", DOTS, CropRule(64, 1.4), (1.0, 1.0)

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = images[..., 0].astype(float)
        rows, columns = np.indices(weights.shape[1:])
        places = [(weights * axis).sum(axis=(1, 2)) / weights.sum(axis=(1, 2)) for axis in (columns, rows)]
        return np.repeat(np.stack(places, axis=1)[:, None], 5, axis=1), np.ones((len(images), 5))

    def close(self) -> None: ...


def test_what_is_seen_in_every_view_lies_at_the_same_place_of_the_photo() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    cv2.circle(image, (150, 110), 6, (255, 255, 255), -1, cv2.LINE_AA)
    found, _ = look(_Centroid(), image, box()[0])
    np.testing.assert_allclose(found, np.broadcast_to([150, 110], found.shape), atol=0.3)  # a pixel of a crop is 1.75


class _Runner:
    """Keeps what it is given, and says that each landmark is at the brightest place of the first channel."""

    library = "fake"

    def __init__(self, path: Path, threads: int | None) -> None:
        self.given: list[np.ndarray] = []

    def run(self, tensor: np.ndarray, names: Any) -> list[np.ndarray]:
        self.given.append(tensor)
        channel = tensor[0, 0] if tensor.shape[1] == 3 else tensor[0, ..., 0]
        row, column = np.unravel_index(int(channel.argmax()), channel.shape)
        return [np.tile(np.array([column, row], np.float32), (1, 5, 1))]


def fed(monkeypatch: pytest.MonkeyPatch, image: np.ndarray, **spec: Any) -> tuple[np.ndarray, np.ndarray]:
    """Show a square to a described network of 48 x 64 pixels: its input, and the landmarks that it finds."""
    monkeypatch.setitem(RUNNERS, ".onnx", _Runner)
    given = replace(described(form="coordinates"), input=InputSpec(width=48, height=64, **spec))
    teacher = DescribedTeacher(given, None)
    points, _ = teacher.read(image[None])
    return teacher._runner.given[0], points[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("layout", "axis"), [("NCHW", 1), ("NHWC", 3)])
@pytest.mark.parametrize(("colour", "order"), [("RGB", [2, 1, 0]), ("BGR", [0, 1, 2])])
def test_a_described_network_is_given_the_colours_and_range_that_it_asks_for(
    monkeypatch: pytest.MonkeyPatch, layout: str, axis: int, colour: str, order: list[int]
) -> None:
    image = np.full((64, 64, 3), (10, 20, 30), np.uint8)
    mean, scale = (1.0, 2.0, 3.0), (2.0, 4.0, 8.0)
    tensor, _ = fed(monkeypatch, image, layout=layout, colour=colour, mean=mean, scale=scale)
    assert tensor.dtype == np.float32
    assert tensor.shape == ((1, 3, 64, 48) if layout == "NCHW" else (1, 64, 48, 3))
    expected = (np.array([10, 20, 30])[order] - mean) / scale
    np.testing.assert_allclose(np.moveaxis(tensor, axis, 3)[0, 5, 5], expected)
    halves, _ = fed(monkeypatch, image, type="uint8", colour="BGR", scale=(4.0,))  # 2.5 and 7.5
    assert halves.dtype == np.uint8
    assert halves[0, :, 5, 5].tolist() == [2, 5, 8]


def test_landmarks_of_a_narrow_input_are_placed_in_the_square_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[40, 20] = 255
    _, points = fed(monkeypatch, image)
    np.testing.assert_array_equal(points, [[20, 40]] * 5)


def test_simcc_is_read_from_its_two_rows() -> None:
    x, y = np.zeros((1, 5, 96), np.float32), np.zeros((1, 5, 128), np.float32)
    x[0, :, 40], y[0, :, 90] = 0.9, 0.7
    points, scores = read_outputs([x, y], described(form="simcc"))
    np.testing.assert_allclose(points, [[20, 45]] * 5)
    np.testing.assert_allclose(scores, 0.7)


def test_coordinates_are_read_by_column_and_unit() -> None:
    rows = np.tile(np.array([0.25, 0.5, 0.0], np.float32), (5, 1))
    spec = {"form": "coordinates", "columns": ("y", "x", "score"), "unit": "share", "activation": "sigmoid"}
    points, scores = read_outputs([rows.reshape(1, 1, 5, 3)], described(**spec))
    np.testing.assert_allclose(points, [[23.5, 15.5]] * 5)
    np.testing.assert_allclose(scores, 0.5)
    points, scores = read_outputs([rows[:, :2]], described(form="coordinates"))
    np.testing.assert_allclose(points, [[0.25, 0.5]] * 5)
    np.testing.assert_allclose(scores, 1)


def test_heatmaps_may_have_the_landmarks_last() -> None:
    maps = np.zeros((1, 5, 16, 12), np.float32)
    maps[0, :, 8, 3] = 1
    expected = read_outputs([maps], described(form="heatmap"))
    found = read_outputs([maps.transpose(0, 2, 3, 1)], described(form="heatmap", layout="NHWC"))
    np.testing.assert_allclose(expected[0], [[13.5, 33.5]] * 5)
    np.testing.assert_allclose(found[0], expected[0])


@pytest.mark.parametrize(
    ("outputs", "output"),
    [
        ([np.zeros((1, 4, 16, 12))], {"form": "heatmap"}),
        ([np.zeros((1, 5, 96))], {"form": "simcc"}),
        ([np.zeros((1, 5, 96)), np.zeros((1, 5, 100))], {"form": "simcc"}),
        ([np.zeros((1, 5, 3))], {"form": "coordinates"}),
        ([np.full((1, 5, 2), np.nan)], {"form": "coordinates"}),
    ],
)
def test_outputs_that_contradict_the_description_are_refused(outputs: list[np.ndarray], output: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"x\.onnx"):
        read_outputs([np.asarray(own, np.float32) for own in outputs], described(**output))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model =", "modle =", "did you mean 'model'"),
        ('"dots.onnx"', '"other.onnx"', "there is no file"),
        ('"a", "b"', '"a", "a"', "stands twice"),
        ("landmarks = [", 'skeleton = "ibug68"\nlandmarks = [', "give landmarks"),
        ("width = 64", "width = 8", "from 32 to 4096"),
        ("scale = [1]", "scale = [1, 2]", "one or three"),
        ("scale = [1]", "scale = [0]", "positive"),
        ('"heatmap"', '"maps"', "one of 'heatmap', 'simcc', 'coordinates'"),
        ('"heatmap"', '"heatmap"\ncolumns = ["x", "x"]', "one 'x'"),
        ('"heatmap"', '"simcc"\nnames = ["x"]', "names must be 2"),
    ],
)
def test_a_wrong_description_is_one_line(description: Path, old: str, new: str, message: str) -> None:
    description.write_text(DESCRIPTION.replace(old, new))
    with pytest.raises((ConfigError, InputError), match=message) as caught:
        read_description(description)
    assert "dots.toml" in str(caught.value)


def test_a_network_that_does_not_take_what_its_description_says_is_named(description: Path) -> None:
    description.write_text(DESCRIPTION.replace('"uint8"', '"float32"'))
    teacher = open_teacher(str(description), threads=1)
    with pytest.raises(ArtifactError, match="correct \\[input\\]"):
        teacher.read(np.zeros((1, 64, 64, 3), np.uint8))
    teacher.close()


def test_other_files_are_refused(description: Path) -> None:
    (description.parent / "dots.pb").write_bytes(b"x")
    description.write_text(DESCRIPTION.replace("dots.onnx", "dots.pb"))
    with pytest.raises(InputError, match=r"expected \.onnx, \.tflite"):
        open_teacher(str(description))


class _Interpreter:
    """LiteRT's, of a network that says in bytes that all landmarks are in the middle."""

    def __init__(self, model_path: str, num_threads: int | None) -> None:
        self.given: list[np.ndarray] = []

    def allocate_tensors(self) -> None: ...

    def invoke(self) -> None: ...

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"name": "out", "index": 7, "quantization": (0.01, 10)}]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert value.shape == (1, 64, 64, 3)
        assert value.dtype == np.uint8

    def get_tensor(self, index: int) -> np.ndarray:
        return np.full((1, 10), 60, np.uint8)


def test_tflite_runs_in_litert_and_its_bytes_are_scaled(description: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (description.parent / "dots.tflite").write_bytes(b"x")
    table = DESCRIPTION.replace("dots.onnx", "dots.tflite").replace('"heatmap"', '"coordinates"\nunit = "share"')
    description.write_text(table)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cunet-deploy\[label\]'"):
        open_teacher(str(description))
    fake: Any = ModuleType("ai_edge_litert.interpreter")
    fake.Interpreter = _Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert", SimpleNamespace(interpreter=fake))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", fake)
    teacher = open_teacher(str(description))
    points, scores = teacher.read(np.zeros((2, 64, 64, 3), np.uint8))
    teacher.close()
    np.testing.assert_allclose(points, np.full((2, 5, 2), 31.5))
    np.testing.assert_allclose(scores, 1)


@pytest.mark.parametrize("by_variable", [False, True])
def test_teachers_for_research_only_are_refused_where_an_open_licence_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    if by_variable:
        monkeypatch.setenv("CUNET_LICENCE", "open")
    with pytest.raises(InputError, match="face68-xs: refused: an open licence was asked for"):
        TeacherEnsemble(["face68-xs"], licence=None if by_variable else "open")
    with TeacherEnsemble(["face68-s-open"], licence="open") as ensemble:
        assert ensemble.teachers[0].name == "face68-s-open"
