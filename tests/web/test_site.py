"""The page that ``cunet-deploy web`` writes, without a browser."""

from __future__ import annotations

import json
from pathlib import Path

import dots
import pytest
from click.testing import CliRunner

from cunet_deploy.cli import cli
from cunet_deploy.cli.web import command
from cunet_deploy.errors import InputError
from cunet_deploy.web import site as site_module
from cunet_deploy.web.runtime import CDN, INTEGRITY
from cunet_deploy.web.site import build_site


def test_without_npm_the_runtime_is_linked_with_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "npm_install", lambda *names: "npm is not installed")
    result = CliRunner().invoke(command, ["face68-xs", "-o", str(tmp_path / "site")])
    assert result.exit_code == 0, result.output
    assert "warning: onnxruntime-web is linked from a CDN: npm is not installed" in result.output
    table = json.loads((tmp_path / "site" / "site.json").read_text())
    assert table["runtime"] == {"base": CDN, "files": INTEGRITY}
    assert (table["model"], table["detector"]) == ("models/face68-xs/", "models/face-detect-s/")
    for folder in (table["model"], table["detector"]):
        assert (tmp_path / "site" / folder / "model.onnx").is_file()
        assert json.loads((tmp_path / "site" / folder / "manifest.json").read_text())["format"] == 1


def test_the_service_worker_keeps_every_file(tmp_path: Path) -> None:
    site = build_site("face68-xs", tmp_path / "site", runtime="cdn").path
    text = (site / "sw.js").read_text()
    assert "@" not in text.replace("@param", "").replace("@type", "")
    for path in site.rglob("*"):
        if path.is_file() and path.name != "sw.js":
            assert json.dumps(path.relative_to(site).as_posix()) in text


def test_a_page_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    out = tmp_path / "site"
    build_site("face68-xs", out, runtime="cdn")
    (out / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already; choose another folder, or overwrite it"):
        build_site("face68-xs", out, runtime="cdn")
    assert (out / "mine.txt").is_file()
    build_site("face68-s", out, runtime="cdn", overwrite=True)
    assert not (out / "mine.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_never_replaced(overwrite: bool, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    (out / "cunet-deploy-web").mkdir(parents=True)
    (out / "mine.jpg").write_text("mine")
    with pytest.raises(InputError, match=r"photos: holds other files than a page; choose another folder, or remove it"):
        build_site("face68-xs", out, runtime="cdn", overwrite=overwrite)
    assert sorted(path.name for path in out.iterdir()) == ["cunet-deploy-web", "mine.jpg"]


def test_a_file_is_not_replaced_by_a_page(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt: is a file; choose a folder"):
        build_site("face68-xs", out, runtime="cdn", overwrite=True)
    assert out.read_text() == "mine"


def test_an_empty_folder_takes_the_page(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    assert build_site("face68-xs", tmp_path / "site", runtime="cdn").files > 0


@pytest.mark.parametrize(
    ("model", "detector", "message"),
    [
        ("face-detect-s", None, "finds boxes, and a page shows landmarks"),
        ("face68-xs", "face68-s", "finds landmarks; a detector finds boxes"),
        ("nothing", None, "no released model or file is called 'nothing'"),
    ],
)
def test_models_that_do_not_fit_are_refused(model: str, detector: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        build_site(model, tmp_path / "site", detector=detector, runtime="cdn")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_usual_detector_is_told_how_to_name_one(tmp_path: Path) -> None:
    model = dots.write_model(tmp_path / "model.onnx")
    refused = CliRunner().invoke(cli, ["web", str(model), "-o", str(tmp_path / "site")])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "no detector is known for dots; name a model that finds boxes (--detector)" in refused.stderr


def test_a_page_says_when_weights_are_for_research_only_and_open_ones_are_asked_for(tmp_path: Path) -> None:
    site = build_site("face68-s-open", tmp_path / "site", runtime="cdn")
    assert "the weights of face-detect-s are for research only" in site.remark
    site = build_site("face68-s-open", tmp_path / "open", runtime="cdn", licence="open")
    assert site.remark == ""
    assert (tmp_path / "open" / "models" / "face-detect-open").is_dir()
    with pytest.raises(InputError, match="face68-xs: refused: an open licence was asked for"):
        build_site("face68-xs", tmp_path / "other", runtime="cdn", licence="open")
