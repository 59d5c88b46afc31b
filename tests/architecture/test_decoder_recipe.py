"""The recipe "a decoder" of docs/architecture.md, followed with a dummy."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from drawn import tiny_config
from networks import quantized_checkpoint
from numpy.typing import NDArray

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import parse_config
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.decoding import NodeWriter
from cunet_deploy.export.onnx_builder import OUTPUT
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.heatmaps import DECODERS, Decoder, DecodingMethod, decode
from cunet_deploy.manifest import Manifest
from cunet_deploy.web.site import build_site


def highest_cell(maps: NDArray[np.floating], decoder: Decoder) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    flat = maps.reshape(*maps.shape[:-2], -1)
    rows, columns = np.divmod(flat.argmax(axis=-1), maps.shape[-1])
    return np.stack([columns, rows], axis=-1).astype(np.float32), flat.max(axis=-1).clip(0, 1).astype(np.float32)


def highest_cell_nodes(write: NodeWriter, manifest: Manifest) -> tuple[str, str]:
    cells, count = manifest.map_size, len(manifest.skeleton)
    flat = write("Reshape", OUTPUT, write.ints([0, count, cells * cells]))
    highest = write("ArgMax", flat, axis=2, keepdims=0)
    row, column = write("Div", highest, write.ints(cells)), write("Mod", highest, write.ints(cells))
    return write.floats(write.pair(column, row, axis=2)), write("ReduceMax", flat, axes=[2], keepdims=0)


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder, registered as the recipe says, and gone after the test."""
    module = ModuleType("cunet_deploy.export.highest_cell")
    module.nodes = highest_cell_nodes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(DECODERS, "highest_cell", DecodingMethod(highest_cell, f"{module.__name__}:nodes"))


def with_method(name: str) -> Checkpoint:
    checkpoint = quantized_checkpoint()
    config = checkpoint.config
    return replace(checkpoint, config=replace(config, heatmap=replace(config.heatmap, method=name)))


@pytest.mark.usefixtures("dummy")
def test_a_new_decoder_is_configured_kept_in_the_manifest_and_written_into_the_graph() -> None:
    checkpoint = with_method("highest_cell")
    assert parse_config(checkpoint.config.to_dict()) == checkpoint.config
    manifest = Manifest.from_json(make_manifest(checkpoint).to_json(), "here")
    assert manifest.decoder == Decoder(method="highest_cell")
    crops = drawn_crops(manifest, 2)
    session = ort.InferenceSession(write_model(checkpoint, decoded=True), providers=["CPUExecutionProvider"])
    maps, landmarks, scores = session.run(["heatmaps", "landmarks", "scores"], {"image": crops})
    points, heights = manifest.read(maps)
    np.testing.assert_allclose(landmarks, points, atol=1e-4)
    np.testing.assert_array_equal(scores, heights)
    assert set(np.unique((points + 0.5) % 4)) == {2}  # the middles of cells of 4 pixels


@pytest.mark.usefixtures("dummy")
def test_a_decoder_without_nodes_is_for_programs_that_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DECODERS, "highest_cell", DecodingMethod(highest_cell))
    with pytest.raises(InputError, match="'highest_cell' cannot be found in the graph; export without the decoder"):
        write_model(with_method("highest_cell"), decoded=True)
    assert write_model(with_method("highest_cell"))


@pytest.mark.usefixtures("dummy")
def test_a_page_that_would_decode_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(write_model(with_method("highest_cell")))
    with pytest.raises(InputError, match="the page reads heatmaps by log_parabola only, this model by highest_cell"):
        build_site(str(tmp_path / "model.onnx"), tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_nothing_of_the_dummy_is_left() -> None:
    maps: Any = np.zeros((1, 8, 8), np.float32)
    for where in (lambda: decode(maps, Decoder(method="highest_cell")), lambda: with_method("highest_cell")):
        with pytest.raises(InputError, match="method must be one of 'log_parabola', got 'highest_cell'"):
            where()
    with pytest.raises(ConfigError, match=r"\[heatmap\] method must be one of 'log_parabola'"):
        tiny_config(heatmap={"method": "highest_cell"})
    assert "method" not in make_manifest(quantized_checkpoint()).to_dict()["decoder"]
