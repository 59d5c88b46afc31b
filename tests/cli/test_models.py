"""The list of released models, on tiny networks with random weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from drawn import tiny_config
from networks import random_checkpoint

from cunet_deploy import zoo
from cunet_deploy.cli import cli
from cunet_deploy.export.bundle import export_checkpoint


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles face/ and body/."""
    folder = tmp_path_factory.mktemp("exported")
    for name, skeleton in (("face", "ibug68"), ("body", "lsp14")):
        config = replace(tiny_config(), name=name, skeleton=skeleton)
        export_checkpoint(random_checkpoint(config), folder / name)
    return folder


@pytest.fixture
def models(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which released models are looked for; both bundles are in it."""
    folder = Path(shutil.copytree(exported, tmp_path / "models"))
    monkeypatch.setattr(zoo, "_ROOTS", (folder,))
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in ("models", *arguments)])


def write_numbers(folder: Path, **accuracy: Any) -> None:
    """Measured numbers beside a model; ``released`` holds the values without their intervals."""
    released = {key: {"value": value} for key, value in accuracy.pop("released").items()}
    numbers = {"accuracy": {"dataset": "drawn", **accuracy, "released": released}}
    (folder / "numbers.json").write_text(json.dumps(numbers))


def test_it_lists_what_is_released(models: Path, tmp_path: Path) -> None:
    write_numbers(models / "face", normalizer="outer_eye", released={"nme_outer_eye_percent": 3})
    result = run("--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    body, face = report["models"]
    assert [row["name"] for row in (body, face)] == ["body", "face"]
    assert (face["landmarks"], face["input_pixels"], face["weight_bits"]) == (68, 32, 32)
    assert face["licence"] == "drawn by the tests"
    assert (face["nme_percent"], face["nme_normalizer"], face["nme_dataset"]) == ({"value": 3}, "outer_eye", "drawn")
    assert not {"nme_percent", "pck_percent", "network_p50_ms"} & set(body)
    assert "machine" not in report
    text = " ".join(result.stdout.split())
    assert "NME 3.00 % (drawn)" in text
    assert "14 (lsp14)" in text
    assert "ms here" not in text


@pytest.mark.parametrize(
    ("metric", "normalizer", "threshold", "shown"),
    [("pck_20", "torso", 0.2, "PCK@0.2 56.1 % (drawn)"), ("pckh_50", "head", 0.5, "PCKh@0.5 56.1 % (drawn)")],
)
def test_of_bodies_it_shows_correct_joints(
    models: Path, tmp_path: Path, metric: str, normalizer: str, threshold: float, shown: str
) -> None:
    write_numbers(models / "body", metric=metric, normalizer=normalizer, released={f"{metric}_percent": 56.14})
    result = run("--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    row = json.loads((tmp_path / "r.json").read_text())["models"][0]
    assert row["pck_percent"] == {"value": 56.14}
    assert (row["pck_threshold"], row["pck_normalizer"], row["pck_dataset"]) == (threshold, normalizer, "drawn")
    assert shown in " ".join(result.stdout.split())


def test_it_measures_the_networks_here(models: Path, tmp_path: Path) -> None:
    result = run("--measure", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["models"]) == 2
    assert all(row["network_p50_ms"] > 0 for row in report["models"])
    assert report["machine"]["cpus"] >= 1
    assert report["versions"]["onnxruntime"]
    assert "ms here" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    "content",
    [
        b"{cut",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"accuracy": "good"}',
        b'{"accuracy": {"normalizer": "outer_eye", "dataset": "x", "released": {"nme_outer_eye_percent": 3}}}',
        b'{"accuracy": {"metric": "pck", "normalizer": "torso", "dataset": "x", "released": {"pck_percent": {}}}}',
    ],
)
def test_damaged_numbers_are_one_clear_line(models: Path, tmp_path: Path, content: bytes) -> None:
    path = models / "face" / "numbers.json"
    path.write_bytes(content)
    result = run("--json", tmp_path / "r.json")
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert str(path) in line
    assert "is damaged" in line
    assert not (tmp_path / "r.json").exists()


def test_it_says_so_when_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_ROOTS", (tmp_path,))
    assert "no released models" in run().stdout
