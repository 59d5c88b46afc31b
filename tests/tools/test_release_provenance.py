"""Weights that anyone may use say what they came from, and what they say is checked."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from drawn import CONFIG_TOML, tiny_config, write_faces
from networks import random_checkpoint

from cunet_deploy._files import file_sha256
from cunet_deploy.checkpoint.storage import load_checkpoint, save_checkpoint
from cunet_deploy.config import Config
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.synthesis.assets import listed_assets
from cunet_deploy.train.tasks import load_task
from tools.release import provenance

MODELS = sorted((Path(__file__).resolve().parents[2] / "models").iterdir())
OPEN = [path for path in MODELS if provenance.is_open_model(path)]
SYNTH = {
    "licence": "CC0-1.0",
    "options": {"seed": 1, "backgrounds": None, "environments": "/home/somebody/hdri"},
    "assets": [{"name": asset.name, "licence": asset.licence} for asset in listed_assets()],
    "user_files": [{"folder": "hdri", "licence_stated": "CC0 1.0 Universal (Poly Haven)", "files": ["LICENSE"]}],
}
TEXT = CONFIG_TOML.replace("drawn by the tests", "Apache-2.0")


def test_released_weights_that_anyone_may_use_say_what_they_came_from() -> None:
    assert {model.name: provenance.problems_of_model(model) for model in OPEN} == {model.name: [] for model in OPEN}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with renders and with photos in the public domain."""
    root = tmp_path_factory.mktemp("data")
    write_faces(root / "faces", 6)
    (root / "synth.json").write_text(json.dumps(SYNTH))
    write_faces(root / "town" / "photos", 6, seed=3)
    (root / "town" / "LICENSE").write_text("Public domain, says the archive\n")
    return root


def write_run(run: Path, data: Path, *names: str, licence: str = "Apache-2.0", other: str = "") -> Config:
    """A finished run on folders of the data, whose weights are random."""
    run.mkdir()
    train = json.dumps(list(names or ["faces"]))
    text = TEXT.replace('train = ["faces"]', f"train = {train}").replace("Apache-2.0", licence)
    (run / "config.toml").write_text(text)
    config = tiny_config(data={"train": list(names or ["faces"]), "licence": licence})
    save_checkpoint(random_checkpoint(config), run / "float.pt")
    origin = {"examples": load_task(config, data, photos=PhotoCache()).checksum, **({"other": other} if other else {})}
    torch.save({"origin": origin}, run / "state.pt")
    return config


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(provenance.main, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def test_what_is_written_is_checked_and_belongs_to_the_weights(data: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    config = write_run(run, data, "faces", "town/photos")
    export_checkpoint(load_checkpoint(run / "float.pt"), model)
    (model / "config.toml").write_text((run / "config.toml").read_text())
    assert f"{provenance.NAME} is missing" in invoke("check", model)[1]
    code, output = invoke("write", run, "--data", data, "-o", model / provenance.NAME)
    assert (code, "12 examples of 2 sources" in output) == (0, True), output
    assert invoke("check", model, "--data", data)[0] == 0
    files = json.loads((model / provenance.NAME).read_text())["files"]
    assert files == {"float.pt": file_sha256(run / "float.pt"), "model.onnx": file_sha256(model / "model.onnx")}
    assert "somebody" not in (model / provenance.NAME).read_text()
    other = tmp_path / "other"
    export_checkpoint(random_checkpoint(replace(config, name="another"), seed=5), other)
    (model / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
    code, output = invoke("check", model)
    assert (code, "of other weights than model.onnx" in output) == (4, True)
    assert provenance.exported(model, ["others"]) == provenance.exported(run, ["others"]) == {}


def test_changed_files_and_other_data_are_noticed(data: Path, tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    write_run(run, data, "town/photos")
    export_checkpoint(load_checkpoint(run / "float.pt"), model)
    (model / "config.toml").write_text((run / "config.toml").read_text())
    assert invoke("write", run, "--data", data, "-o", model / provenance.NAME)[0] == 0
    whole = (model / "model.onnx").read_bytes()
    (model / "model.onnx").write_bytes(whole + b"\0")
    code, output = invoke("check", model)
    assert (code, "model.onnx is another file than the one that is recorded" in output) == (4, True)
    (model / "model.onnx").write_bytes(whole)
    assert invoke("check", model)[0] == 0
    changed = tmp_path / "data"
    write_faces(changed / "town" / "photos", 6, seed=4)
    assert "its files are others" in invoke("check", model, "--data", changed)[1]
    code, output = invoke("write", run, "--data", changed)
    assert (code, "was trained on other photos or labels" in output) == (2, True)


def good(data: Path, tmp_path: Path) -> dict[str, Any]:
    run = tmp_path / "run"
    write_run(run, data, "faces", "town/photos")
    return provenance.provenance_of(run, data, [])


def test_each_thing_that_is_not_free_is_named(data: Path, tmp_path: Path) -> None:
    table = good(data, tmp_path)
    assert provenance.problems_of(table) == []

    def changed(*keys: Any, to: Any) -> str:
        copied = copy.deepcopy(table)
        place = copied
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to
        return "; ".join(provenance.problems_of(copied))

    assert "research" in changed("licence", to="research")
    assert "unknown origin, abcdef" in changed("other_weights", to=["abcdef"])
    assert "no asset of licences.toml" in changed("sources", 0, "synth", "assets", 0, "licence", to="MIT")
    assert "no asset of licences.toml" in changed("sources", 0, "synth", "assets", 0, "name", to="a face model")
    assert "hdri: no LICENSE" in changed("sources", 0, "synth", "user_files", 0, "licence_stated", to=None)
    assert "town/photos: no LICENSE" in changed("sources", 1, "licence_stated", to="for research only")
    by = {"labels": "set.json", "teachers": ["1234"], "detector": {"name": "face-detect-s", "weights": "5678"}}
    said = changed("sources", 1, "labelled_by", to=[by])
    assert "labelled by a network of unknown origin, 1234" in said
    assert "was found by face-detect-s, whose origin is unknown" in said
    assert "a detector that is not noted" in changed("sources", 1, "labelled_by", to=[{**by, "detector": None}])


@pytest.mark.parametrize(
    ("stated", "is_free"),
    [
        ("CC0 1.0 Universal (Poly Haven)", True),
        ("Public domain: portraits by the Government Printing Office", True),
        ("public domain", True),
        ("CC0-1.0", True),
        ("MIT", True),
        ("", False),
        ("not in the public domain", False),
        ("Not CC0", False),
        ("CC BY-NC 4.0; parts are in the public domain", False),
        ("Public domain in the US only", False),
        ("CC0, but not the photos of people", False),
        ("Public domain for non-commercial use", False),
        ("CC0nditional", False),
    ],
)
def test_only_what_begins_as_free_and_takes_nothing_back_is_free(stated: str, is_free: bool) -> None:
    assert provenance._is_free(stated) == is_free


def test_networks_that_it_learned_from_are_known_by_their_own_provenance(data: Path, tmp_path: Path) -> None:
    first = good(data, tmp_path)
    teacher, weights = first["files"]["float.pt"], first["weights"]["float.pt"]
    write_run(tmp_path / "second", data, "town/photos", other=weights)
    labels = {"labels": "x.json", "teachers": [teacher], "detector": {"name": "tiny", "weights": weights}}
    for before, wrong in (([], True), ([first], False), ([{**first, "licence": "research"}], True)):
        table = provenance.provenance_of(tmp_path / "second", data, before)
        table["sources"][0]["labelled_by"] = [labels]
        assert bool(provenance.problems_of(table)) == wrong


def test_labels_of_networks_are_read_from_the_set(tmp_path: Path) -> None:
    info = {"teachers": [{"name": "a", "sha256": "12"}], "detector": {"name": "full", "weights": ""}}
    (tmp_path / "set.json").write_text(json.dumps({"info": info, "images": []}))
    (tmp_path / "splits.json").write_text(json.dumps({"test": ["a.jpg"]}))
    (by,) = provenance.describe(tmp_path.parent, tmp_path.name)["labelled_by"]
    assert by == {"labels": "set.json", "teachers": ["12"], "detector": info["detector"]}


def test_a_run_for_research_is_refused(data: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run", data, licence="research")
    code, output = invoke("write", tmp_path / "run", "--data", data)
    assert (code, "does not allow every use" in output) == (2, True)
    assert not (tmp_path / "run" / provenance.NAME).exists()
