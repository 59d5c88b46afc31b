"""Photos without objects in the training of networks of landmarks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from bodies import write_lspet
from drawn import tiny_config

from cunet_deploy.config import Config
from cunet_deploy.data.augment import NOWHERE
from cunet_deploy.train.landmarks import LandmarkTask
from cunet_deploy.train.tasks import load_task


def test_crops_of_photos_without_objects_are_drawn_with_empty_targets(tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 24)
    (tmp_path / "empty").mkdir()
    for number in range(4):
        red = np.full((200, 300, 3), (0, 0, 250), np.uint8)
        cv2.imwrite(str(tmp_path / "empty" / f"{number}.png"), red)
    data: dict[str, object] = {"train": ["lspet"], "layout": "lsp", "background": ["empty"], "validation_fraction": 0.3}
    augment: dict[str, object] = {"rotation": 0, "gain": 0, "brightness": 0, "blur": 0, "erase": 0, "negative": 0.5}
    config = Config(**{**vars(tiny_config(data=data, augment=augment)), "skeleton": "lsp14"})
    task = load_task(config, tmp_path)
    assert isinstance(task, LandmarkTask)
    assert len(task.backgrounds) + len(task.validation_backgrounds) == 4
    drawn = [task.sampler.draw(0, np.random.default_rng(seed)) for seed in range(200)]
    empty = [one for one in drawn if (one.image[12:20, 12:20] == (0, 0, 250)).all()]
    assert 30 <= len(empty) <= 70  # a quarter: half as many again as are drawn beside objects
    assert all((one.points == NOWHERE).all() for one in empty)
    assert any((one.points != NOWHERE).any() for one in drawn)
