"""JSON and TOML files of the repository itself are read whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from cunet_deploy.config import load_config
from cunet_deploy.manifest import Manifest
from cunet_deploy.skeletons import SKELETONS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/manifest.json")), ids=lambda path: path.parent.name)
def test_the_manifest_of_a_released_model_survives_reading_and_writing(path: Path) -> None:
    table: dict[str, Any] = json.loads(path.read_text())
    written = json.loads(Manifest.from_json(path.read_text(), path).to_json())
    assert written == {key: table[key] for key in written}


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/config.toml")), ids=lambda path: path.parent.name)
def test_the_configuration_of_a_released_model_is_read(path: Path) -> None:
    assert load_config(path).landmarks.name in SKELETONS


def test_a_model_in_the_package_comes_with_its_card_numbers_and_golden_inputs() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    wheel = {*build["wheel"]["force-include"]}
    models = {Path(path).parent.name for path in wheel if path.startswith("models/")}
    assert {"face68-s", "face68-xs", "pose14-s"} <= models
    for name in models:
        for file in ("model.onnx", "manifest.json", "golden.npz", "numbers.json", "README.md"):
            path = f"models/{name}/{file}"
            assert (ROOT / path).is_file()
            assert build["wheel"]["force-include"][path] == f"cunet_deploy/_models/{name}/{file}"
            assert f"/{path}" in build["sdist"]["include"]
