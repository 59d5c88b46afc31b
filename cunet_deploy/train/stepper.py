"""One step of training after another: forward, backward, gradients of all processes, optimizer, average.

A GPU computes while Python is ahead of it. So nothing is read back from it in a step; losses and gradient norms stay
there for a number of steps and are read together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.config import Config
from cunet_deploy.errors import CunetError
from cunet_deploy.model.cunet import CUNet
from cunet_deploy.model.device import Precision, autocast, device_of
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.train.activation_compression import eight_bit
from cunet_deploy.train.phase import Phase
from cunet_deploy.train.processes import Processes
from cunet_deploy.train.task import Task
from cunet_deploy.train.teacher import DistillationTeacher

__all__ = ["READ_EVERY", "Stepper"]

CLIP_NORM = 1.0
READ_EVERY = 20
"""Steps of a GPU between two readings of its losses; those of a CPU are read at once."""
_MOST_SKIPPED = 40
"""Steps in a row that float16 may skip. Each halves the loss's scale, which begins at 2^16."""


class Stepper:
    """Takes the steps of an epoch.

    Args:
        phase: what is trained.
        task: gives the loss.
        config: of the run.
        processes: those that train together.
        accumulate: parts of a batch that are computed one after the other, for less memory.
        teacher: another network to learn from, with the weight ``distill``.
        distill: see ``teacher``.

    Attributes:
        losses: of the steps whose loss was read, in order.
    """

    def __init__(
        self,
        phase: Phase,
        task: Task,
        config: Config,
        *,
        processes: Processes,
        accumulate: int = 1,
        teacher: DistillationTeacher | None = None,
        distill: float = 0.0,
    ) -> None:
        self.losses: list[float] = []
        self._phase, self._task, self._config, self._processes = phase, task, config, processes
        self._accumulate, self._teacher, self._distill = accumulate, teacher, distill
        self._device = device_of(phase.network)
        self._precision: Precision = config.train.precision if phase.kind == "float" else "float32"
        self._read_every = 1 if self._device.type == "cpu" else READ_EVERY
        self._unread: list[tuple[Tensor, Tensor]] = []
        self._skipped = 0

    def step(self, crops: Tensor, targets: Any, rate: float) -> None:
        """Learn from a batch.

        Args:
            crops: (B, S, S, 3) uint8 on the device.
            targets: a named tuple of tensors with B rows each.
            rate: the learning rate.

        Raises:
            CunetError: gradients are not finite any more.
        """
        phase, network, scaler = self._phase, self._phase.network, self._phase.scaler
        for group in phase.optimizer.param_groups:
            group["lr"] = rate
        phase.optimizer.zero_grad()
        loss = self._gradients(normalize(crops, self._device), targets)
        self._processes.average_gradients(network)
        scaler.unscale_(phase.optimizer)
        if isinstance(network, QuantizedNetwork):
            network.round_gradients()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        self._unread.append((self._processes.mean(loss), norm))
        if len(self._unread) >= self._read_every:
            self.read()
        scaler.step(phase.optimizer)
        scaler.update()
        if isinstance(network, CUNet) and self._config.model.passes > 1:
            network.keep_positive()
        phase.average.update(network)

    def _gradients(self, images: Tensor, targets: Any) -> Tensor:
        """Add the gradients of a batch to those of the network; the loss, cut off from its graph."""
        losses = []
        for images_, targets_ in _parts(images, targets, self._accumulate):
            loss = self._loss(images_.contiguous(memory_format=torch.channels_last), targets_)
            if len(images_) < len(images):
                loss = loss * (len(images_) / len(images))
            self._phase.scaler.scale(loss).backward()
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _loss(self, images: Tensor, targets: Any) -> Tensor:
        saving: AbstractContextManager[Any] = nullcontext()
        if self._config.train.saved_bits == 8:
            saving = eight_bit(self._phase.network)
        with autocast(self._device, self._precision), saving:
            heatmaps: Sequence[Tensor] = self._phase.forward(images)
        loss = self._task.loss(heatmaps, targets, self._processes.mean)
        if self._teacher is None:
            return loss
        size = torch.full((), float(len(images)), device=self._device)
        distance = self._teacher.loss(heatmaps, images, self._config.heatmap.foreground_weight)
        return loss + self._distill * (size / self._processes.mean(size)) * distance

    def read(self) -> None:
        """Read the losses that wait on the device.

        Raises:
            CunetError: a gradient was not finite; in float16, too many in a row.
        """
        if not self._unread:
            return
        rows = torch.stack([torch.stack([loss.float(), norm.float()]) for loss, norm in self._unread]).tolist()
        self._unread.clear()
        for loss, norm in rows:
            self._skipped = 0 if math.isfinite(norm) else self._skipped + 1
            if self._skipped > (_MOST_SKIPPED if self._phase.scaler.is_enabled() else 0):
                rate = self._phase.optimizer.param_groups[0]["lr"]
                raise CunetError(
                    f"training diverged in epoch {self._phase.epoch + 1} of the {self._phase.kind} phase: the gradient "
                    f"is not finite; start a new run with a lower learning_rate (it was {rate:.2g})"
                )
            if math.isfinite(loss) or not self._skipped:
                self.losses.append(loss)


def _parts(images: Tensor, targets: Any, count: int) -> Iterator[tuple[Tensor, Any]]:
    """A batch in parts of nearly the same size."""
    if count == 1:
        yield images, targets
        return
    columns = [torch.tensor_split(value, count) for value in (images, *targets)]
    for part in zip(*columns, strict=True):
        yield part[0], type(targets)(*part[1:])
