"""The task of finding boxes in whole images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.config import Config
from cunet_deploy.data.boxes import read_backgrounds
from cunet_deploy.data.checks import usable_examples
from cunet_deploy.data.examples import PhotoCache, split_by_photo
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.data.frames import FrameSampler, LabelledFrame, whole_frame
from cunet_deploy.data.shrunk import box_ratio, shrunk_photos
from cunet_deploy.data.sources import finds_people, read_box_sources
from cunet_deploy.drawing import FOUND, TRUE
from cunet_deploy.metrics.boxes import Matches, average_precision, best_threshold, match_boxes, precision, recall
from cunet_deploy.sessions.base import Session
from cunet_deploy.train.batch_loader import ExampleSampler, stacked
from cunet_deploy.train.loss import Mean, alone
from cunet_deploy.train.plots import save_sheet
from cunet_deploy.train.task import Predict, Task

__all__ = ["BoxTask", "BoxTensors", "WholeImageSampler"]

Boxes = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(N, 4) boxes and (N,) scores."""

_LOW = 0.05
"""Boxes are looked for down to this score when scores are compared."""
_SHEET, _COLUMNS = 24, 6
_BATCH = 8


class BoxTensors(NamedTuple):
    """Targets of a batch: (B, 3, H, W) maps, and (B, H, W) weights; see `cunet_deploy.boxmaps.BoxTargets`."""

    maps: Tensor
    center: Tensor
    sides: Tensor


@dataclass(frozen=True)
class WholeImageSampler(ExampleSampler[LabelledFrame]):
    """Draws whole images with their boxes.

    Attributes:
        frames: draws one.
        stride: pixels per cell of the targets.
    """

    frames: FrameSampler
    stride: int

    def __len__(self) -> int:
        return len(self.frames.photos)

    def draw(self, index: int, rng: np.random.Generator) -> LabelledFrame:
        """See `ExampleSampler`."""
        return self.frames.draw(index, rng)

    def batch(self, drawn: Sequence[LabelledFrame]) -> tuple[Sequence[NDArray[np.uint8]], BoxTensors]:
        """See `ExampleSampler`."""
        settings, size = self.frames.boxes, self.frames.size // self.stride
        typical = (settings.drawn_from * settings.drawn_to) ** 0.5
        targets = [
            settings.code.encode(
                frame.boxes, frame.ignored, size, self.stride, balance=settings.balance, typical=typical
            )
            for frame in drawn
        ]
        return [frame.image for frame in drawn], BoxTensors(*(stacked(part) for part in zip(*targets, strict=True)))

    def name(self, index: int) -> str:
        """See `ExampleSampler`."""
        return str(self.frames.photos[index].image)


class BoxTask(Task):
    """Photos with boxes, training and validation split, and photos without any."""

    def __init__(
        self, config: Config, photos: Sequence[BoxedPhoto], backgrounds: Sequence[BoxedPhoto], cache: PhotoCache
    ) -> None:
        self._config, self._cache = config, cache
        self._code = config.boxes.code
        train, self._validation = split_by_photo(photos, config.data.validation_fraction)
        self._train = [photo for photo in train for _ in range(photo.times)]
        self._backgrounds = backgrounds
        self._sampler = FrameSampler(self._train, backgrounds, cache, config.crop.size, config.boxes, config.augment)

    @classmethod
    def load(
        cls,
        config: Config,
        data: Path,
        bad: list[str] | None = None,
        cache: PhotoCache | None = None,
        shrunk: Path | None = None,
    ) -> BoxTask:
        """Read the folders of a configuration; see `cunet_deploy.train.tasks.load_task`."""
        cache, people = cache or PhotoCache(), finds_people(config, data)
        photos = read_box_sources(config, data, bad)
        backgrounds = [
            photo for name in config.data.background for photo in read_backgrounds(data / name, people=people)
        ]
        found, empty = (usable_examples(some, cache, bad) for some in (photos, backgrounds))
        if shrunk is not None:
            ratio = partial(box_ratio, size=config.crop.size, boxes=config.boxes)
            found, empty = (shrunk_photos(some, cache, shrunk, ratio) for some in (found, empty))
        return cls(config, found, empty, cache)

    @property
    def num_train(self) -> int:
        """See `Task`."""
        return len(self._train)

    @property
    def num_validation(self) -> int:
        """See `Task`."""
        return len(self._validation)

    @property
    def checksum(self) -> str:
        """See `Task`."""
        digest = hashlib.sha256()
        for photo in (*self._train, *self._validation, *self._backgrounds):
            digest.update(photo.image.name.encode() + photo.boxes.tobytes() + photo.scores.tobytes())
        return digest.hexdigest()

    @property
    def sampler(self) -> WholeImageSampler:
        """See `Task`."""
        return WholeImageSampler(self._sampler, self._config.model.stride)

    def calibration(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """See `Task`; whole photos, and drawn images of small faces among them."""
        size, boxes = self._config.crop.size, self._config.boxes
        chosen = range(0, len(self._train), max(1, len(self._train) // count))
        images = [
            whole_frame(self._train[index], self._cache[self._train[index].image], size, boxes).image
            if turn % 2
            else self._sampler.draw(index, np.random.default_rng([self._config.train.seed, index])).image
            for turn, index in enumerate(chosen)
        ]
        for start in range(0, len(images), _BATCH):
            yield np.stack(images[start : start + _BATCH])

    def loss(self, heatmaps: Sequence[Tensor], targets: BoxTensors, mean: Mean = alone) -> Tensor:
        """Mean over the supervised U-Nets of the errors of the maps.

        The squared error of the first map, near boxes with more weight, and where boxes are the distance of the sides.
        """
        settings, foreground = self._config.boxes, self._config.heatmap.foreground_weight
        truth, known = targets.maps[:, 0], targets.center * (1 + foreground * targets.maps[:, 0])
        places, boxes = mean(targets.center.sum()).clamp(min=1), mean(targets.sides.sum()).clamp(min=1)
        losses = []
        for maps in heatmaps:
            found = maps.float()
            center = (known * (found[:, 0] - truth).square()).sum() / places
            away = (found[:, 1:] - targets.maps[:, 1:]).abs().sum(dim=1)
            sides = (targets.sides * away).sum() / boxes
            losses.append(center + settings.side_weight * sides)
        return torch.stack(losses).mean()

    def validate(self, predict: Predict, sheet: Path) -> dict[str, float]:
        """Average precision on whole photos of the validation split; recall and precision at the best threshold."""
        frames, found, matches = self._look(predict, self._validation)
        threshold = best_threshold(matches)
        _draw_sheet(frames[:_SHEET], found[:_SHEET], threshold, sheet)
        return {
            "ap_percent": round(100 * average_precision(matches), 3),
            "recall_percent": round(100 * recall(matches, threshold).value, 3),
            "precision_percent": round(100 * precision(matches, threshold).value, 3),
        }

    def calibrate_scores(self, session: Session) -> ScoreCalibration:
        """The score with the best F-measure on whole photos; see `[boxes] recall_weight`."""
        _, _, matches = self._look(session.run, self._validation or self._train)
        best = float(np.clip(best_threshold(matches, self._config.boxes.recall_weight), 0.05, 0.95))
        return ScoreCalibration(min_score=round(best, 2))

    def _look(
        self, predict: Predict, photos: Sequence[BoxedPhoto]
    ) -> tuple[list[LabelledFrame], list[Boxes], list[Matches]]:
        """Whole photos, pixels of the first ones only, with the boxes found in each and what these are worth."""
        size, stride, settings = self._config.crop.size, self._config.model.stride, self._config.boxes
        frames: list[LabelledFrame] = []
        found: list[Boxes] = []
        for start in range(0, len(photos), _BATCH):
            part = photos[start : start + _BATCH]
            shown = [whole_frame(photo, self._cache[photo.image], size, settings) for photo in part]
            maps = predict(np.stack([frame.image for frame in shown]))
            found.extend(self._code.decode(one, stride, _LOW) for one in maps)
            # only what is drawn is kept: all of them could be more than the memory holds
            nothing = np.zeros((0, 0, 3), np.uint8)
            frames.extend(f if start < _SHEET else replace(f, image=nothing) for f in shown)
        matches = [match_boxes(*boxes, frame.boxes, frame.ignored) for frame, boxes in zip(frames, found, strict=True)]
        return frames, found, matches


def _draw_sheet(
    frames: Sequence[LabelledFrame],
    found: Sequence[Boxes],
    threshold: float,
    path: Path,
) -> None:
    """Photos in a grid; true boxes under the ones that were found."""
    tiles = []
    for frame, (boxes, scores) in zip(frames, found, strict=True):
        tile = frame.image.copy()
        for group, colour in ((frame.boxes, TRUE), (boxes[scores >= threshold], FOUND)):
            for x0, y0, x1, y1 in np.asarray(group).round().astype(int):
                cv2.rectangle(tile, (int(x0), int(y0)), (int(x1), int(y1)), colour, 2)
        tiles.append(tile)
    save_sheet(tiles, path, _COLUMNS)
