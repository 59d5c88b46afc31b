from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from bodies import write_lspet
from click.testing import CliRunner
from drawn import tiny_config, write_faces
from networks import random_checkpoint
from onnx import numpy_helper

from cunet_deploy.checkpoint.storage import load_checkpoint, save_checkpoint
from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import InputError
from cunet_deploy.export.bundle import export_checkpoint, quantized_checkpoint
from tools.docs import models as tables
from tools.release import models as models_tool
from tools.reports import recorded_times


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return models_tool


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, script: ModuleType) -> Path:
    """A repository with a README and one released model, measured; its float parent and data beside."""
    root = tmp_path_factory.mktemp("repository")
    faces = write_faces(root / "faces", 4)
    config = tiny_config()
    parent = random_checkpoint(config)
    small = quantized_checkpoint(parent, QuantConfig(), faces)
    export_checkpoint(small, root / "models" / "tiny")
    save_checkpoint(parent, root / "models" / "tiny" / "float.pt")
    save_checkpoint(small, root / "models" / "tiny" / "checkpoint.pt")
    (root / "docs").mkdir()
    (root / "README.md").write_text("<!-- models in short: begin -->\nold\n<!-- models in short: end -->\n")
    for document in (root / "docs" / "models.md", root / "models" / "tiny" / "README.md"):
        document.write_text("# Title\n\n<!-- released models: begin -->\nold\n<!-- released models: end -->\n\nmore\n")
    paths = ["--data", faces, "--models", root / "models"]
    arguments = ["tiny", *map(str, paths), "--title", "drawn", "--rounds", "3"]
    result = CliRunner().invoke(script.main, arguments)
    assert result.exit_code == 0, result.output
    return root


def test_the_numbers_hold_every_figure_and_no_date(measured: Path) -> None:
    numbers = json.loads((measured / "models" / "tiny" / "numbers.json").read_text())
    accuracy = numbers["accuracy"]
    assert accuracy["objects"] == 4
    assert accuracy["dataset"] == "drawn"
    for kind in ("float", "quantized", "released"):
        assert accuracy[kind]["nme_outer_eye_percent"]["value"] > 0
    relative = accuracy["released_minus_float"]["nme_outer_eye_relative_difference_percent"]["value"]
    ours, theirs = (accuracy[kind]["nme_outer_eye_percent"]["value"] for kind in ("released", "float"))
    assert relative == pytest.approx(100 * (ours / theirs - 1), abs=1e-2)
    assert numbers["latency"]["network_ratio_released_to_float"]["value"] > 0
    assert numbers["file"]["bytes"] == (measured / "models" / "tiny" / "model.onnx").stat().st_size
    assert numbers["file"]["float_bytes"] > 0
    assert numbers["parity"]["mean_px"] <= 0.05
    assert numbers["command"].startswith("python -m tools.release.models tiny ")
    assert not [key for key in numbers if "date" in key or "time" in key]


def test_times_stay_where_accuracy_alone_is_measured(measured: Path, script: ModuleType, tmp_path: Path) -> None:
    root = Path(shutil.copytree(measured, tmp_path / "repository"))
    file = root / "models" / "tiny" / "numbers.json"
    recorded = json.loads(file.read_text())
    altered = {**recorded, "accuracy": {}, "latency": {**recorded["latency"], "rounds": 77}}
    altered["machine"] = {**recorded["machine"], "processor": "another"}
    file.write_text(json.dumps(altered))
    arguments = ["tiny", "--data", root / "faces", "--models", root / "models", "--title", "drawn", "--keep-times"]
    run = partial(CliRunner().invoke, script.main)
    assert run([str(item) for item in arguments]).exit_code == 0
    kept = json.loads(file.read_text())
    assert kept == {**altered, "accuracy": recorded["accuracy"], "command": kept["command"]}
    path = root / "models" / "tiny" / "model.onnx"
    model = onnx.load(path)
    scale = next(item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT)
    scale.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(scale), scale.name))
    onnx.save(model, path)
    assert recorded_times(path.parent) == kept, "the values of weights take no time"
    whole = path.read_bytes()
    model.graph.node.pop()
    onnx.save(model, path)
    with pytest.raises(InputError, match="was measured with another graph than that of model"):
        recorded_times(path.parent)
    path.write_bytes(whole)
    del kept["file"]["graph_sha256"]  # as in those that were measured before graphs had checksums
    file.write_text(json.dumps(kept))
    with pytest.raises(InputError, match="was measured with another graph than that of model"):
        recorded_times(path.parent)


def test_a_model_of_fewer_bits_is_timed_against_its_8_bit_twin(
    measured: Path, script: ModuleType, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(measured, tmp_path / "repository"))
    tiny, binary = root / "models" / "tiny", root / "models" / "tiny-binary"
    parent = load_checkpoint(tiny / "float.pt")
    small = quantized_checkpoint(parent, QuantConfig(weight_bits=1), root / "faces")
    export_checkpoint(small, binary)
    save_checkpoint(small, binary / "checkpoint.pt")
    (binary / "README.md").write_text("<!-- released models: begin -->\n<!-- released models: end -->\n")
    arguments = ["tiny-binary", "--float", tiny / "float.pt", "--data", root / "faces", "--models", root / "models"]
    result = CliRunner().invoke(script.main, [str(item) for item in (*arguments, "--rounds", 3)])
    assert result.exit_code == 0, result.output
    assert tables.update_cards(root / "models", write=True) == []
    numbers = json.loads((binary / "numbers.json").read_text())
    assert numbers["parent"] == "tiny"
    assert "--float models/tiny/float.pt" in numbers["command"]
    assert numbers["latency"]["network_ratio_released_to_twin"]["value"] > 0
    lines = [line for line in (root / "docs" / "models.md").read_text().splitlines() if line.startswith("| `tiny")]
    assert [line.split("|")[3].strip() for line in lines] == ["8 bit", "binary"]
    assert [line.split("|")[-2].strip() == "-" for line in lines] == [True, False]


def test_readme_and_cards_are_brought_up_to_date_and_then_stay(measured: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(measured, tmp_path / "repository"))
    documents = [root / "README.md", root / "docs" / "models.md", root / "models" / "tiny" / "README.md"]
    assert tables.update_cards(root / "models", write=False) == documents
    assert all("old" in document.read_text() for document in documents)
    assert tables.update_cards(root / "models", write=True) == []
    assert "| `tiny` | 68 face points | 8 bit |" in documents[0].read_text()
    for document in documents[1:]:
        text = document.read_text()
        assert text.startswith("# Title\n")
        assert text.endswith("<!-- released models: end -->\n\nmore\n")
        assert "| `tiny` | 68 face points | 8 bit |" in text
        assert "old" not in text
    assert tables.update_cards(root / "models", write=False) == []


def test_a_body_model_has_parts_and_the_flip_test(script: ModuleType, tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 9)
    config = replace(tiny_config(), skeleton="lsp14", name="tiny-pose")
    parent, folder = random_checkpoint(config), tmp_path / "models" / "tiny-pose"
    small = quantized_checkpoint(parent, QuantConfig(), tmp_path / "lspet")
    export_checkpoint(small, folder)
    save_checkpoint(parent, folder / "float.pt")
    save_checkpoint(small, folder / "checkpoint.pt")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- models in short: begin -->\n<!-- models in short: end -->\n")
    for document in (tmp_path / "docs" / "models.md", folder / "README.md"):
        document.write_text("<!-- released models: begin -->\n<!-- released models: end -->\n")
    data = [f"{tmp_path}/lspet{part}" for part in ("", "#train:clean")]
    arguments = ["tiny-pose", "--data", data[0], "--data", data[1], "--title", "drawn", "--rounds", "2"]
    result = CliRunner().invoke(script.main, [*arguments, "--models", str(tmp_path / "models")])
    assert result.exit_code == 0, result.output
    assert tables.update_cards(tmp_path / "models", write=True) == []
    numbers = json.loads((folder / "numbers.json").read_text())
    accuracy = numbers["accuracy"]
    assert (numbers["landmarks"], accuracy["metric"], accuracy["objects"]) == ("lsp14", "pck_20", 9)
    assert numbers["command"].endswith('lspet --data lspet#train:clean --title "drawn"')
    part = accuracy["parts"]["lspet#train:clean"]
    assert part["objects"] == 3
    for table in (accuracy, part):
        for kind in ("float", "released", "released_flip_test", "released_flip_test_scales"):
            assert 0 <= table[kind]["pck_20_percent"]["value"] <= 100
        lost = table["released_minus_float"]["pck_20_lost_percent_points"]["value"]
        values = [table[kind]["pck_20_percent"]["value"] for kind in ("float", "released")]
        assert lost == pytest.approx(values[0] - values[1], abs=1e-3)
    assert len(accuracy["landmarks_percent"]) == 14
    card = (folder / "README.md").read_text()
    assert "| `tiny-pose` | 14 body joints | 8 bit |" in card
    assert "| all | 9 |" in card
    assert "| clean | 3 |" in card
    assert "| all | 9 |" not in (tmp_path / "docs" / "models.md").read_text()


def test_a_readme_without_markers_says_which_are_missing(measured: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(measured, tmp_path / "repository"))
    (root / "README.md").write_text("no markers")
    with pytest.raises(InputError, match="<!-- models in short: begin -->"):
        tables.update_cards(root / "models", write=True)


@pytest.mark.parametrize("arguments", [[], ["tiny"]], ids=["nothing", "no data"])
def test_missing_arguments_are_said(script: ModuleType, arguments: list[str]) -> None:
    assert CliRunner().invoke(script.main, arguments).exit_code == 2


def test_times_name_their_models_where_not_all_were_taken_on_one_machine(measured: Path) -> None:
    numbers = json.loads((measured / "models" / "tiny" / "numbers.json").read_text())
    other = {**numbers, "model": "other", "machine": {"processor": "Another One", "instruction_sets": ["avx2"]}}
    twin = {**numbers, "model": "twin"}
    assert "Times are medians" in tables.table_of([numbers, twin])
    text = tables.table_of([numbers, other, twin])
    assert "Times of `tiny`, `twin` are medians" in text
    assert "Times of `other` are medians" in text
    assert text.count("on Another One, avx2; ") == 1
