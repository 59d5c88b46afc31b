from __future__ import annotations

from pathlib import Path

import pytest

from cunet_deploy import zoo
from cunet_deploy.errors import InputError


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """An installed package's folder with one model and a checkout's with two."""
    installed, checkout = tmp_path / "_models", tmp_path / "models"
    for path in (installed / "small", checkout / "small", checkout / "medium", checkout / "unfinished"):
        path.mkdir(parents=True)
        if path.name != "unfinished":
            (path / "model.onnx").write_bytes(b"onnx")
    monkeypatch.setattr(zoo, "_ROOTS", (installed, checkout))
    return installed, checkout


def test_models_of_both_places_are_listed_once(roots: tuple[Path, Path]) -> None:
    assert zoo.released_models() == ["medium", "small"]


def test_the_installed_model_comes_first(roots: tuple[Path, Path]) -> None:
    assert zoo.find_model("small") == roots[0] / "small" / "model.onnx"
    assert zoo.find_model("medium") == roots[1] / "medium" / "model.onnx"


@pytest.mark.parametrize("name", ["large", "unfinished", "../models/small", ""])
def test_an_unknown_name_lists_the_known_ones(roots: tuple[Path, Path], name: str) -> None:
    with pytest.raises(InputError, match="released models: medium, small"):
        zoo.find_model(name)
