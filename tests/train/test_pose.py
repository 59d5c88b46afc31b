"""Training on body joints, of which some are not labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bodies import COCO_NAMES, UPRIGHT, write_coco, write_lspet
from drawn import tiny_config

from cunet_deploy.config import Config, SourceConfig
from cunet_deploy.skeletons import COCO17, LSP14, map_landmarks
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
    sampler = task.sampler
    _, targets = sampler.batch([sampler.draw(index, np.random.default_rng(index)) for index in range(4)])
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


def write_people(folder: Path, count: int) -> None:
    """COCO keypoints of people in different places; nose, eyes and ears are not labelled."""
    joints = map_landmarks(UPRIGHT, LSP14, COCO17)
    rows: list[dict[str, object]] = []
    for index in range(count):
        points = joints + np.array([100.0 + 4 * index, 120.0])
        keypoints = [[0, 0, 0] if np.isnan(x) else [x, y, 2] for x, y in points]
        rows.append({"id": index, "image_id": index + 1, "category_id": 1, "keypoints": np.ravel(keypoints).tolist()})
    write_coco(folder, "train", rows, COCO_NAMES)


def test_two_data_sets_train_together_and_each_is_measured(tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 24)
    write_people(tmp_path / "people", 12)
    sources = (SourceConfig("lspet#train", "lsp"), SourceConfig("people", "coco", weight=1.5))
    config = pose_config()
    data = {**vars(config.data), "train": (), "sources": sources}
    config = Config(**{**vars(config), "data": type(config.data)(**data)})
    task, folder = load_task(config, tmp_path), RunFolder(tmp_path / "run")
    drawn = [task.sampler.name(index) for index in range(task.num_train)]
    people = [name for name in drawn if "people" in name]
    assert len(people) == 2 * len(set(people))  # a weight of 1.5 is drawn twice
    folder.prepare("", resume=False)
    Trainer(config, task, folder, lambda row: None).run()
    row = folder.rows()[-1]
    measured = [row[key] for key in ("pck_20_percent", "lspet#train_pck_20_percent", "people_pck_20_percent")]
    assert min(measured[1:]) <= measured[0] <= max(measured[1:])
    assert np.isfinite(row["loss"])


def test_what_a_source_lacks_is_not_taught_to_be_absent(tmp_path: Path) -> None:
    write_people(tmp_path / "people", 8)
    config = pose_config(train={"unlabelled": "empty"}, augment={"negative": 0.0})
    data = {
        **vars(config.data),
        "train": (),
        "sources": (SourceConfig("people", weight=0.5),),
        "validation_fraction": 0.0,
    }
    task = load_task(Config(**{**vars(config), "data": type(config.data)(**data)}), tmp_path)
    _, targets = task.sampler.batch([task.sampler.draw(index, np.random.default_rng(index)) for index in range(4)])
    lacking = [LSP14.landmarks.index("neck"), LSP14.landmarks.index("head_top")]
    assert targets.known[:, lacking].max() == 0
    assert np.delete(targets.known.numpy(), lacking, axis=1).tolist() == [[0.5] * 12] * 4
