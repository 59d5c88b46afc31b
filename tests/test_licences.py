"""Licences of weights: stated, refused where an open one is asked for, and named where there is one."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from drawn import tiny_config
from networks import random_checkpoint

from cunet_deploy import Localizer, zoo
from cunet_deploy.cli import cli
from cunet_deploy.detection.network import NetworkDetector
from cunet_deploy.detection.search import CoarseToFineSearch
from cunet_deploy.errors import InputError
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.licences import OPEN_LICENCES, is_open, stated_licence, wanted_licence
from cunet_deploy.manifest import Manifest

DETECTOR = Path(__file__).resolve().parents[1] / "models" / "face-detect-s"
LICENCES = {"face": "research", "face-open": "Apache-2.0", "own": "unknown"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of each licence."""
    folder = tmp_path_factory.mktemp("exported")
    for name, licence in LICENCES.items():
        config = replace(tiny_config(data={"licence": licence}), name=name)
        export_checkpoint(random_checkpoint(config), folder / name)
    return folder


@pytest.fixture
def models(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which released models are looked for."""
    monkeypatch.setattr(zoo, "_ROOTS", (exported,))
    return exported


def infer(photo: Path, *options: object) -> Result:
    return CliRunner().invoke(cli, ["infer", str(photo), "-o", "none", *map(str, options)])


def test_what_counts_as_open_is_a_list_of_spdx_names() -> None:
    assert is_open("Apache-2.0")
    assert not any(map(is_open, ("research", "unknown", "", "CC-BY-NC-4.0", "GPL-3.0-only", "apache-2.0 with more")))
    assert list(OPEN_LICENCES) == sorted(set(OPEN_LICENCES))


def test_the_environment_says_what_is_wanted_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUNET_LICENCE", raising=False)
    assert wanted_licence() == "any"
    monkeypatch.setenv("CUNET_LICENCE", "open")
    assert (wanted_licence(), wanted_licence("any")) == ("open", "any")
    monkeypatch.setenv("CUNET_LICENCE", "opne")
    with pytest.raises(InputError, match="CUNET_LICENCE is 'opne'; expected any or open"):
        wanted_licence()


@pytest.mark.parametrize("name", ["face", "own"])
def test_other_weights_are_refused_and_open_ones_named(
    models: Path, name: str, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = infer(astronaut, "--model", name, "--licence", "open")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert f"{name}: refused" in line
    assert repr(LICENCES[name]) in line
    assert "use face-open" in line
    Localizer(name, detector="full").close()
    monkeypatch.setenv("CUNET_LICENCE", "open")
    with pytest.raises(InputError, match="refused: an open licence was asked for"):
        Localizer(name, detector="full")


def test_open_weights_are_opened_with_an_open_detector_or_none(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_ROOTS", (models, DETECTOR.parent))
    for licence, name in (("any", "face-detect-s"), ("open", "face-detect-open")):
        with Localizer("face-open", licence=licence) as localizer:
            detector = localizer._networks().detector
            assert isinstance(detector, NetworkDetector)
            assert detector.manifest.name == name
    monkeypatch.setattr(zoo, "_ROOTS", (models,))
    with Localizer("face-open", licence="open") as localizer:
        assert isinstance(localizer._networks().detector, CoarseToFineSearch)
        assert len(localizer.predict(np.zeros((64, 64, 3), np.uint8), [[4, 4, 40, 40]])) == 1
    with pytest.raises(InputError, match="face-detect-s: refused"):
        Localizer("face-open", licence="open", detector=DETECTOR)


def test_without_open_weights_the_message_says_what_else_helps(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "open_models", lambda skeleton: [])
    with pytest.raises(InputError, match="train your own"):
        Localizer("face", licence="open", detector="full")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pose14-s", "train your own on photos whose licence allows every use"),
        ("person-detect-s", "train your own on photos whose licence allows every use"),
        ("face-detect-s", "use face-detect-open"),
    ],
)
def test_what_is_named_instead_finds_the_same_objects(name: str, advice: str) -> None:
    path = zoo.find_model(name).with_name("manifest.json")
    with pytest.raises(InputError, match=f"{name}: refused: .*; {advice}$"):
        zoo.check_licence(Manifest.from_json(path.read_text(encoding="utf-8"), path), "open")


@pytest.mark.parametrize(("name", "said"), [("face", True), ("face-open", False), ("own", False)])
def test_the_summary_says_when_weights_are_for_research_only(
    models: Path, name: str, said: bool, astronaut: Path
) -> None:
    for more in ((), (astronaut.with_name("demo.mp4"), "--frames", 2)):
        result = infer(astronaut, *more, "--model", name, "--detector", "full")
        assert result.exit_code == 0, result.output
        remark = f"the weights of {name} are for research only; free for any use: face-open (--licence open)"
        assert result.stdout.splitlines().count(remark) == said


def test_the_summary_names_a_detector_for_research_only(
    models: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "_ROOTS", (models, DETECTOR.parent))
    result = infer(astronaut, "--model", "face-open")
    assert result.exit_code == 0, result.output
    remark = "the weights of face-detect-s are for research only; free for any use: face-detect-open (--licence open)"
    assert remark in result.stdout.splitlines()
    assert "research" not in infer(astronaut, "--model", "face-open", "--licence", "open").stdout


def test_a_bulk_run_refuses_before_it_starts(models: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("fsspec") is None or importlib.util.find_spec("pyarrow") is None:
        pytest.skip("the extra [ray] is not installed")
    from cunet_deploy.bulk.results import Output
    from cunet_deploy.bulk.run import load_model

    with pytest.raises(InputError, match="face: refused"):
        load_model("face", Output(str(tmp_path / "out")), licence="open")
    loaded = load_model("face-open", Output(str(tmp_path / "out")), licence="open")
    assert (loaded.name, loaded.remark) == ("face-open", "")
    assert "face are for research only" in load_model("face", Output(str(tmp_path / "other")), detector="full").remark


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Public domain, says the archive\nmore\n", "Public domain, says the archive"),
        ("\n\n  MIT  \n", "MIT"),
        ("Creative Commons Legal Code\n\nCC0 1.0 Universal\n\n  CREATIVE COMMONS CORPORATION\n", "CC0 1.0 Universal"),
        ("Creative Commons Legal Code\n", ""),
        ("", ""),
    ],
)
def test_the_title_of_a_licence_is_what_it_states(tmp_path: Path, text: str, title: str) -> None:
    (tmp_path / "LICENSE").write_text(text)
    assert stated_licence(tmp_path) == title


def test_a_folder_without_a_licence_states_none(tmp_path: Path) -> None:
    assert stated_licence(tmp_path) == ""
