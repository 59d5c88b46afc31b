"""Protocol of training tasks: examples, targets, a loss, and a measure of how good the network is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.sessions.base import Session
from cunet_deploy.train.batch_loader import ExampleSampler
from cunet_deploy.train.loss import Mean, alone

__all__ = ["Predict", "Task"]

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(B, S, S, 3) uint8 images to the (B, P, H, W) maps of the network that is trained."""


class Task(ABC):
    """A task with its data."""

    @property
    @abstractmethod
    def num_train(self) -> int:
        """Number of examples of an epoch."""

    @property
    @abstractmethod
    def num_validation(self) -> int:
        """Number of examples of the validation split."""

    @property
    @abstractmethod
    def checksum(self) -> str:
        """SHA-256 of the names and labels of the examples: other data has another one."""

    @property
    @abstractmethod
    def sampler(self) -> ExampleSampler[Any]:
        """Draws the examples to learn from."""

    @abstractmethod
    def calibration(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Batches of about ``count`` training images as they are met in use."""

    @abstractmethod
    def loss(self, heatmaps: Sequence[Tensor], targets: Any, mean: Mean = alone) -> Tensor:
        """Compute the loss of (B, P, H, W) maps for each supervised U-Net.

        Sums over a part of a batch are divided by ``mean`` of their counts, so that the mean of the losses of all
        processes is the loss of the whole batch.
        """

    @abstractmethod
    def validate(self, predict: Predict, sheet: Path) -> dict[str, float]:
        """Measure the network on the validation split, and write a picture of it.

        Returns:
            Metrics by name with unit, the most important one first.
        """

    @abstractmethod
    def calibrate_scores(self, session: Session) -> ScoreCalibration:
        """Measure score thresholds and score curve on the validation split, or without one on the training split."""
