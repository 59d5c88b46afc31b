"""Checkpoints as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks import float_checkpoint

from cunet_deploy import zoo
from cunet_deploy.checkpoint.storage import FORMAT, load_checkpoint, read_tensors, save_checkpoint, write_tensors
from cunet_deploy.errors import ArtifactError, InputError


def test_a_checkpoint_of_a_newer_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "float.pt"
    save_checkpoint(float_checkpoint(), path, overwrite=False)
    write_tensors({**read_tensors(path, "checkpoint"), "format": FORMAT + 1}, path, overwrite=True)
    message = rf"float\.pt: checkpoint format {FORMAT + 1} is newer than this version reads \({FORMAT}\); upgrade"
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(path)


def test_a_folder_in_place_of_a_checkpoint_names_those_in_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\); expected a checkpoint \(\.pt\)"):
        load_checkpoint(tmp_path)
    for name, said in (("float.pt", ""), ("quantized.pt", f" or {tmp_path / 'quantized.pt'}")):
        (tmp_path / name).touch()
        with pytest.raises(InputError) as caught:
            load_checkpoint(tmp_path)
        assert str(caught.value) == f"{tmp_path}: is a folder, not a checkpoint; give {tmp_path / 'float.pt'}{said}"


def test_the_name_of_a_released_model_leads_to_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "face1").mkdir()
    for name in ("model.onnx", "float.pt"):
        (tmp_path / "face1" / name).touch()
    monkeypatch.setattr(zoo, "_ROOTS", (tmp_path,))
    with pytest.raises(InputError, match=r"face1: is a released model, not a checkpoint; give .*face1.float\.pt$"):
        load_checkpoint(Path("face1"))
