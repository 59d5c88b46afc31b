"""Every released model is what its checkpoint says, does what its card says, and is measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples, split_name
from cunet_deploy.evaluation import evaluate
from cunet_deploy.evaluation.boxes import evaluate_boxes
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.sessions import open_session
from tools.release import detectors as detectors_tool

ROOT = Path(__file__).resolve().parents[1]
MODELS = sorted(path.parent for path in (ROOT / "models").glob("*/model.onnx"))
DETECTORS = [path for path in MODELS if "task" in json.loads((path / "numbers.json").read_text())]
LANDMARKS = [path for path in MODELS if path not in DETECTORS]
TEST_SETS = {"face": "300w/helen/testset", "pose": "lspet#test", "person": "people/boxes_test"}

each_model = pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)


def test_the_default_models_are_released() -> None:
    assert {"face68-s", "face68-m", "face-detect-s", "pose14-s"} <= {model.name for model in MODELS}


def measured_on(model: Path, data: Path) -> Path:
    """Data set that a model was measured on."""
    path = data / next(name for kind, name in TEST_SETS.items() if model.name.startswith(kind))
    if not split_name(path)[0].is_dir():
        pytest.skip(f"{path} is missing")
    return path


@each_model
def test_the_model_file_is_the_checkpoint_byte_for_byte(model: Path) -> None:
    assert write_model(load_checkpoint(model / "checkpoint.pt")) == (model / "model.onnx").read_bytes()


@each_model
def test_the_golden_inputs_give_the_golden_heatmaps(model: Path) -> None:
    with np.load(model / "golden.npz", allow_pickle=False) as golden:
        np.testing.assert_array_equal(open_session(model, threads=1).run(golden["images"]), golden["heatmaps"])


@each_model
def test_the_numbers_belong_to_this_file(model: Path) -> None:
    numbers = json.loads((model / "numbers.json").read_text())
    content = (model / "model.onnx").read_bytes()
    assert numbers["file"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert numbers["file"]["bytes"] == len(content)
    assert numbers["parity"]["crops_are"] == "real"
    assert numbers["parity"]["values_differing_from_integer_arithmetic"] == 0


@each_model
def test_the_card_names_licence_data_and_limits(model: Path) -> None:
    card = (model / "README.md").read_text()
    for heading in ("## Licence", "## Training", "## Measured", "## Limits"):
        assert heading in card
    assert open_session(model).manifest.licence in card


@pytest.mark.parametrize("model", DETECTORS, ids=lambda path: path.name)
def test_a_detector_finds_what_the_numbers_say(model: Path, data_dir: Path) -> None:
    path = measured_on(model, data_dir)
    recorded = json.loads((model / "numbers.json").read_text())["accuracy"]["parts"][detectors_tool.name_of(path)]
    found = evaluate_boxes(open_session(model), read_boxes(path), PhotoCache())
    measured = {measure.key: measure.estimate.value for measure in found.measures()}
    for key in ("recall_percent", "precision_percent"):
        assert measured[key] == pytest.approx(recorded[key]["value"], abs=0.5)  # one of 243 faces


@pytest.mark.parametrize("model", LANDMARKS, ids=lambda path: path.name)
def test_the_accuracy_is_the_one_in_the_numbers(model: Path, data_dir: Path) -> None:
    recorded = json.loads((model / "numbers.json").read_text())["accuracy"]
    session = open_session(model)
    examples = read_examples(measured_on(model, data_dir), session.manifest.skeleton)
    key = f"{recorded['metric']}_percent"
    measured = {measure.key: measure for measure in evaluate(session, examples, PhotoCache()).measures()}
    # Other processors decode and resize with other roundings: hundredths of a percent of errors, a few of 8,000 joints.
    tolerance = 0.03 if key.startswith("nme") else 0.3
    assert measured[key].estimate.value == pytest.approx(recorded["released"][key]["value"], abs=tolerance)
