"""Landmarks as outputs of the graph: those that `decode` finds in the heatmaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from networks import float_checkpoint, quantized_checkpoint
from onnx import TensorProto, helper
from openvino_here import needs_openvino

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli.export import command
from cunet_deploy.errors import VerificationError
from cunet_deploy.export import bundle
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.decoding import add_decoder
from cunet_deploy.export.onnx_builder import OnnxBuilder
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder, decode, encode, map_to_input
from cunet_deploy.locate import locate
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.onnxruntime import OrtSession
from cunet_deploy.skeletons import IBUG68


def decoder_alone(manifest: Manifest) -> ort.InferenceSession:
    """Heatmaps in, landmarks and scores out."""
    parts, cells = OnnxBuilder(), manifest.map_size
    add_decoder(parts, manifest)
    maps = helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", 68, cells, cells])
    graph = helper.make_graph(parts.nodes, "decoder", [maps], parts.outputs, parts.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("radius", "blur"), [(1, 0.0), (2, 0.0), (3, 0.0), (1, 1.0), (2, 0.7)])
def test_the_graph_decodes_as_the_runtime_does(radius: int, blur: float) -> None:
    """At the border too, in empty and in flat maps, and where the height is above 1."""
    random = np.random.default_rng(radius)
    manifest = Manifest(
        "toy", IBUG68, CropRule(64, 1.4), 4, Decoder(radius, blur), 8, 8, 0.3, "research", (), 17, "test 1", ""
    )
    points = random.uniform(-1, 16, (3, 68, 2))
    maps = encode(points, 16, 1.2) * random.uniform(0.1, 1.3, (3, 68, 1, 1)).astype(np.float32)
    maps += random.uniform(0, 0.02, maps.shape).astype(np.float32)
    maps[0, 0], maps[0, 2, 3, 4:6] = 0, 2.0  # empty, two equal cells
    if not blur:  # of a flat map that was blurred, rounding decides which cell is highest
        maps[0, 1] = 0.5
    found, scores = decoder_alone(manifest).run(None, {"heatmaps": maps.astype(np.float32)})
    cells, expected_scores = decode(maps, manifest.decoder)
    np.testing.assert_allclose(found, map_to_input(cells, 4), atol=1e-3)
    np.testing.assert_array_equal(scores, expected_scores)
    assert tuple(found[0, 0]) == (31.5, 31.5)


@pytest.mark.parametrize("kind", ["float", "quantized"])
def test_a_session_takes_the_landmarks_of_the_graph(kind: str, tmp_path: Path) -> None:
    checkpoint = float_checkpoint() if kind == "float" else quantized_checkpoint()
    plain, decoded = tmp_path / "plain.onnx", tmp_path / "decoded.onnx"
    plain.write_bytes(write_model(checkpoint))
    decoded.write_bytes(write_model(checkpoint, decoded=True))
    crops = drawn_crops(make_manifest(checkpoint), 3)
    sessions = open_session(plain), open_session(decoded)
    assert [session.decodes for session in sessions if isinstance(session, OrtSession)] == [False, True]
    np.testing.assert_array_equal(sessions[0].run(crops), sessions[1].run(crops))
    boxes = [[10, 10, 50, 50], [0, 5, 60, 64]]
    (points, scores), (same, equal) = (locate(session, crops[0], boxes) for session in sessions)
    assert np.ptp(points[0], axis=0).max() > 1
    np.testing.assert_allclose(points, same, atol=1e-3)
    np.testing.assert_array_equal(scores, equal)


@needs_openvino
def test_openvino_reads_the_heatmaps_of_such_a_graph(tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint()
    plain, decoded = tmp_path / "plain.onnx", tmp_path / "decoded.onnx"
    plain.write_bytes(write_model(checkpoint))
    decoded.write_bytes(write_model(checkpoint, decoded=True))
    crops = drawn_crops(make_manifest(checkpoint), 2)
    first, second = (open_session(path, backend="openvino").run(crops) for path in (plain, decoded))
    assert first.any()
    np.testing.assert_array_equal(first, second)


def test_export_writes_and_proves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "quantized.pt"
    save_checkpoint(quantized_checkpoint(), file)
    result = CliRunner().invoke(command, [str(file), "-o", str(tmp_path / "out"), "--decode"])
    assert result.exit_code == 0, result.output
    outputs = onnx.load(tmp_path / "out" / "model.onnx").graph.output
    assert [item.name for item in outputs] == ["heatmaps", "landmarks", "scores"]

    def wrong(self: OrtSession, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells, scores = decode(self.run(images), self.manifest.decoder)
        return map_to_input(cells, 4) + 0.1, scores

    monkeypatch.setattr(OrtSession, "landmarks", wrong)
    with pytest.raises(VerificationError, match="export without the decoder"):
        bundle.export_checkpoint(quantized_checkpoint(), tmp_path / "other", decoded=True)
    assert not (tmp_path / "other").exists()
