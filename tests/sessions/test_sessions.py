from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from dots import DOTS, manifest, write_model

from cunet_deploy.errors import ArtifactError, CunetError, InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.base import Session


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.onnx")
    return tmp_path


def _describe(bundle: Path, sha256: str) -> None:
    (bundle / "manifest.json").write_text(json.dumps({**manifest().to_dict(), "sha256": sha256}))


def test_a_session_knows_its_manifest_and_what_runs_it(dots_model: Path) -> None:
    session: Session = open_session(dots_model, threads=1)
    assert session.manifest.skeleton == DOTS
    assert session.backend.startswith("onnxruntime ")
    assert session.backend.endswith("CPUExecutionProvider")


@pytest.mark.parametrize("batch", [1, 3])
def test_any_batch_size_runs(dots_model: Path, batch: int) -> None:
    maps = open_session(dots_model, threads=1).run(np.full((batch, 64, 64, 3), 128, np.uint8))
    assert maps.shape == (batch, 5, 16, 16)
    assert maps.dtype == np.float32


@pytest.mark.parametrize("images", [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)])
def test_crops_of_another_form_are_refused(dots_model: Path, images: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\(B, 64, 64, 3\) uint8 expected"):
        open_session(dots_model, threads=1).run(images)


def test_a_checkpoint_is_to_be_exported_first(tmp_path: Path) -> None:
    path = tmp_path / "quantized.pt"
    path.write_bytes(b"weights")
    with pytest.raises(InputError, match=f"is a checkpoint; make a bundle of it: cunet-deploy export {path} -o DIR"):
        open_session(path)


def test_a_closed_session_says_so(dots_model: Path) -> None:
    session = open_session(dots_model, threads=1)
    session.close()
    with pytest.raises(CunetError, match="closed"):
        session.run(np.zeros((1, 64, 64, 3), np.uint8))


def test_a_bundle_folder_opens_its_model(bundle: Path) -> None:
    assert open_session(bundle, threads=1).manifest.name == "dots"


def test_a_matching_checksum_passes_and_another_is_refused(bundle: Path) -> None:
    _describe(bundle, hashlib.sha256((bundle / "model.onnx").read_bytes()).hexdigest())
    open_session(bundle, threads=1)
    _describe(bundle, "0" * 64)
    with pytest.raises(ArtifactError, match="checksum"):
        open_session(bundle)
    with pytest.raises(ArtifactError, match="checksum"):
        open_session(bundle / "model.onnx")


def test_a_damaged_sidecar_is_refused(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"manifest\.json: is damaged"):
        open_session(bundle)


def test_onnx_without_a_manifest_is_refused_and_export_is_named(tmp_path: Path) -> None:
    path = write_model(tmp_path / "plain.onnx", metadata=False)
    with pytest.raises(ArtifactError, match=r"no cunet-deploy manifest; use a model\.onnx that 'cunet-deploy export"):
        open_session(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_cut_off_file_is_refused(dots_model: Path, tmp_path: Path, share: float) -> None:
    data = dots_model.read_bytes()
    path = tmp_path / "half.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match=r"half\.onnx: "):
        open_session(path)


def test_a_file_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("this is not a network\n" * 50)
    with pytest.raises(ArtifactError, match="cannot load it"):
        open_session(path)


@pytest.mark.parametrize("change", [{"crop": CropRule(128, 1.4)}, {"stride": 2}])
def test_a_graph_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_model(tmp_path / "model.onnx")
    import onnx

    model = onnx.load(path)
    model.metadata_props[0].value = manifest(**change).to_json()
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="its manifest says"):
        open_session(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.onnx", "does not exist"),
        ("some/folder/model", "does not exist"),
        ("face69-s", "no released model or file is called 'face69-s'"),
    ],
)
def test_what_is_not_there_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_session(name)


def test_an_empty_file_and_a_folder_without_a_model_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without model\.onnx"):
        open_session(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(InputError, match="is empty"):
        open_session(tmp_path)


def test_threads_must_be_positive(dots_model: Path) -> None:
    with pytest.raises(InputError, match="whole number from 1"):
        open_session(dots_model, threads=0)
