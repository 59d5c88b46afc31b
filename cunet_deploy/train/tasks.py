"""The task that a configuration describes."""

from __future__ import annotations

from pathlib import Path

from cunet_deploy.config import Config
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.errors import InputError
from cunet_deploy.train.boxes import BoxTask
from cunet_deploy.train.landmarks import LandmarkTask
from cunet_deploy.train.task import Task

__all__ = ["load_task"]


def load_task(
    config: Config,
    data: Path,
    bad: list[str] | None = None,
    photos: PhotoCache | None = None,
    shrunk: Path | None = None,
) -> Task:
    """Read the data of a configuration and decode every photo once, so that a bad one shows before training.

    Args:
        config: names the folders.
        data: holds them.
        bad: collects what cannot be used; ``None`` makes the first bad file an error.
        photos: decodes photos and keeps some.
        shrunk: folder for smaller copies of large photos; ``None`` trains on the photos themselves.

    Raises:
        InputError: a file is bad, or nothing is left to train on.
    """
    task: Task = (BoxTask if config.finds_boxes else LandmarkTask).load(config, data, bad, photos, shrunk)
    if task.num_train < config.train.batch_size:
        held = f" beside {task.num_validation} for validation" if task.num_validation else ""
        way = "or lower batch_size" if task.num_train else "or set [data] validation_fraction = 0"
        raise InputError(
            f"{data}: {task.num_train} usable examples to train on{held}, fewer than batch_size = "
            f"{config.train.batch_size}; add photos, {way}"
        )
    return task
