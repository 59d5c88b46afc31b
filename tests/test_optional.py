from __future__ import annotations

import json
from pathlib import Path

import pytest

from cunet_deploy._optional import require
from cunet_deploy.errors import MissingDependencyError


def test_an_installed_library_is_returned() -> None:
    assert require("json", extra="train") is json


def test_a_submodule_is_returned_and_not_its_package() -> None:
    assert require("json.decoder", extra="train").__name__ == "json.decoder"


def test_a_missing_library_names_the_extra_that_installs_it() -> None:
    with pytest.raises(MissingDependencyError) as caught:
        require("no_such_library.part", extra="tensorrt")
    assert str(caught.value) == "no_such_library is not installed; run: pip install 'cunet-deploy[tensorrt]'"


def test_a_library_that_does_not_load_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"installed but does not load .*no_such_dependency.*reinstall"):
        require("broken_library", extra="openvino")


def test_a_folder_of_that_name_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder_like_a_library").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match="folder_like_a_library is not installed"):
        require("folder_like_a_library", extra="tensorrt")
