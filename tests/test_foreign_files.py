"""Whatever stands in a file of somebody else's: what is read of it is right, or one line says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mutations import damaged_bytes, damaged_json

from cunet_deploy.config import load_bits, load_config
from cunet_deploy.config.training import QuantConfig
from cunet_deploy.detection.boxes import GivenBoxes
from cunet_deploy.errors import CunetError
from cunet_deploy.manifest import Manifest
from cunet_deploy.skeletons import SKELETONS
from cunet_deploy.skeletons.files import read_skeleton
from cunet_deploy.tensorrt.sidecar import EngineManifest

ROOT = Path(__file__).parent.parent
CASES = 250
MANIFEST = ROOT / "models" / "face-detect-s" / "manifest.json"


def engine_description() -> bytes:
    table = {
        "format": 1,
        "manifest": json.loads(MANIFEST.read_text()),
        "engine_sha256": "0" * 64,
        "onnx_sha256": "f" * 64,
        "flavour": "tensorrt",
        "version": "10.3.0",
        "compute_capabilities": [87],
        "driver": None,
        "cuda": "12.6",
        "profiles": [{"image": {"min": [1, 64, 64, 3], "opt": [1, 64, 64, 3], "max": [4, 64, 64, 3]}}],
        "flags": ["strongly_typed"],
        "layers": {"layers": [{"name": "a", "kind": "conv"}]},
    }
    return json.dumps(table).encode()


def read_manifest(path: Path) -> object:
    return Manifest.from_json(path.read_bytes(), path)


def read_engine(path: Path) -> object:
    return EngineManifest.read(path.with_suffix(""))


BITS = b'weight_bits = 4\nternary = false\n[layers]\n"down.0.*" = "ternary"\n'
SKELETON = (ROOT / "cunet_deploy" / "skeletons" / "lsp14.toml").read_bytes()
CSV = b"frame,x0,y0,x1,y1\n0,1,2,3,4\n2,5,6,7,8\n3,,,,\n"
LINES = b'{"frame":0,"box":[1,2,3,4]}\n{"frame":2,"box":[5,6,7,8],"id":3}\n{"frame":3,"box":null}\n'
LIST = b'[{"frame":0,"box":[1,2,3,4]},{"file":"a/b.jpg","box":[5,6,7,8]}]'
TABLE = b'{"0": [[1,2,3,4],[10,20,30.5,40]], "a.jpg": [[5,6,7,8]], "3": []}'

FILES: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "manifest": ("manifest.json", MANIFEST.read_bytes(), read_manifest),
    "engine description": ("x.engine.json", engine_description(), read_engine),
    "configuration": ("c.toml", (ROOT / "models/person-detect-s/config.toml").read_bytes(), load_config),
    "bits": ("bits.toml", BITS, lambda path: load_bits(path, QuantConfig())),
    "landmark set": ("s.toml", SKELETON, read_skeleton),
    "boxes as CSV": ("b.csv", CSV, GivenBoxes.read),
    "boxes as JSON Lines": ("b.jsonl", LINES, GivenBoxes.read),
    "boxes as a list": ("b.json", LIST, GivenBoxes.read),
    "boxes as a table": ("b.json", TABLE, GivenBoxes.read),
}


@pytest.mark.parametrize("kind", FILES)
def test_damage_never_escapes_the_error_tree(tmp_path: Path, kind: str) -> None:
    name, content, read = FILES[kind]
    path = tmp_path / name
    path.write_bytes(content)
    read(path)  # the file itself is fine
    refusals = []
    for data in _damaged(name, content):
        path.write_bytes(data)
        try:
            read(path)
        except CunetError as error:
            refusals.append(str(error))
    assert len(refusals) > CASES // 10
    for message in refusals:
        assert len(message.splitlines()) == 1
        assert name in message


def _damaged(name: str, content: bytes) -> Iterator[bytes]:
    yield from damaged_bytes(content, CASES)
    if name.endswith(".json"):
        yield from damaged_json(content, CASES)


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/manifest.json")), ids=lambda path: path.parent.name)
def test_the_manifest_of_a_released_model_survives_reading_and_writing(path: Path) -> None:
    table: dict[str, Any] = json.loads(path.read_text())
    written = json.loads(Manifest.from_json(path.read_text(), path).to_json())
    assert written == {key: table[key] for key in written}


@pytest.mark.parametrize("path", sorted(ROOT.glob("models/*/config.toml")), ids=lambda path: path.parent.name)
def test_the_configuration_of_a_released_model_is_read(path: Path) -> None:
    assert load_config(path).landmarks.name in SKELETONS
