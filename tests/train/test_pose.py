"""Training on body joints, of which some are not labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bodies import write_lspet
from drawn import tiny_config

from cunet_deploy.config import Config
from cunet_deploy.train.folder import RunFolder
from cunet_deploy.train.loop import Trainer
from cunet_deploy.train.tasks import load_task


def pose_config(**tables: dict[str, object]) -> Config:
    data: dict[str, object] = {"train": ["lspet#train"], "layout": "lsp", "validation_fraction": 0.3}
    config = tiny_config(data=data, **tables)
    return Config(**{**vars(config), "skeleton": "lsp14"})


def test_training_on_partly_labelled_joints_reports_pck(tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 24, unlabelled=4)
    config = pose_config()
    task, folder = load_task(config, tmp_path), RunFolder(tmp_path / "run")
    assert task.num_train + task.num_validation == 16
    folder.prepare("", resume=False)
    Trainer(config, task, folder, lambda row: None).run()
    rows = folder.rows()
    assert [row["phase"] for row in rows] == ["float", "float", "quantized"]
    assert all(np.isfinite(row["loss"]) and 0 <= row["pck_20_percent"] <= 100 for row in rows)


def test_unlabelled_joints_have_no_part_in_the_targets(tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 12, unlabelled=4)
    task = load_task(pose_config(augment={"negative": 0.0}), tmp_path)
    drawer = task.drawer
    _, targets = drawer.batch([drawer.draw(index, np.random.default_rng(index)) for index in range(4)])
    assert targets.known.sum(dim=1).tolist() == [10.0] * len(targets.known)
    assert not targets.maps[targets.known == 0].any()


def test_a_perfect_network_has_every_joint_correct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cunet_deploy.heatmaps import encode, input_to_map
    from cunet_deploy.train.landmarks import LandmarkTask

    write_lspet(tmp_path / "lspet", 12, unlabelled=4)
    config = pose_config()
    task = load_task(config, tmp_path)
    assert isinstance(task, LandmarkTask)
    rule = task._rule
    truth = iter([rule.crop(example.box).to_input(example.points) for example in task.validation])

    def perfect(images: np.ndarray) -> np.ndarray:
        return np.stack([encode(input_to_map(next(truth), 4), 8, 1.2) for _ in images])

    assert task.validate(perfect, tmp_path / "sheet.png") == {"pck_20_percent": 100.0}
