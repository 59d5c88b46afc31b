"""JSON and TOML files of the repository itself are read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
