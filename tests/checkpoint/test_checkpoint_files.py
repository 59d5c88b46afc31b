"""Checkpoints as files."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks import float_checkpoint

from cunet_deploy.checkpoint.storage import FORMAT, load_checkpoint, read_tensors, save_checkpoint, write_tensors
from cunet_deploy.errors import ArtifactError


def test_a_checkpoint_of_a_newer_version_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "float.pt"
    save_checkpoint(float_checkpoint(), path, overwrite=False)
    write_tensors({**read_tensors(path, "checkpoint"), "format": FORMAT + 1}, path, overwrite=True)
    message = rf"float\.pt: checkpoint format {FORMAT + 1} is newer than this version reads \({FORMAT}\); upgrade"
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(path)
