"""The task of finding landmarks in crops around objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.config import Config
from cunet_deploy.data.augment import Augmenter, Drawn
from cunet_deploy.data.batches import plain_batches
from cunet_deploy.data.bodies import has_joints
from cunet_deploy.data.boxes import read_backgrounds
from cunet_deploy.data.checks import usable_examples
from cunet_deploy.data.examples import Example, PhotoCache, split_by_photo
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.data.shrunk import crop_ratio, shrunk_photos
from cunet_deploy.data.sources import read_sources
from cunet_deploy.heatmaps import decode, map_to_input
from cunet_deploy.metrics import correct_joints, normalized_errors, pck_threshold, visibility_auc
from cunet_deploy.sessions.base import Session
from cunet_deploy.train.batch_loader import ExampleSampler
from cunet_deploy.train.loss import Mean, Targets, alone, make_targets, total_loss
from cunet_deploy.train.plots import save_crops
from cunet_deploy.train.score_calibration import calibrate_scores
from cunet_deploy.train.task import Predict, Task

__all__ = ["CropSampler", "LandmarkTask"]

SHEET = 24


@dataclass(frozen=True)
class CropSampler(ExampleSampler[Drawn]):
    """Draws crops around objects.

    Attributes:
        examples: the objects.
        augmenter: changes crops at random.
        photos: decodes photos.
        config: of the targets.
        backgrounds: photos that show none of the objects beside their boxes.
    """

    examples: Sequence[Example]
    augmenter: Augmenter
    photos: PhotoCache
    config: Config
    backgrounds: Sequence[BoxedPhoto] = ()

    def __len__(self) -> int:
        return len(self.examples)

    def draw(self, index: int, rng: np.random.Generator) -> Drawn:
        """A crop and its labels; see `ExampleSampler`."""
        if self.backgrounds and rng.random() < self.config.augment.negative / 2:
            empty = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
            drawn = self.augmenter.draw_background(empty.boxes, self.photos[empty.image], rng)
            if drawn is not None:
                return drawn
        example = self.examples[index]
        return self.augmenter.draw(example, self.photos[example.image], rng, self._another)

    def _another(self, rng: np.random.Generator) -> tuple[Example, NDArray[np.uint8]]:
        example = self.examples[int(rng.integers(len(self.examples)))]
        return example, self.photos[example.image]

    def batch(self, drawn: Sequence[Drawn]) -> tuple[Sequence[NDArray[np.uint8]], Targets]:
        """See `ExampleSampler`."""
        images, points, weights, visible = zip(*drawn, strict=True)
        targets = make_targets(np.stack(points), self.config, np.stack(weights), np.stack(visible))
        return images, targets

    def name(self, index: int) -> str:
        """See `ExampleSampler`."""
        return str(self.examples[index].image)


class LandmarkTask(Task):
    """Labelled objects of a configuration, training and validation split.

    Attributes:
        train: examples to learn from, each as often as an epoch draws it.
        validation: examples of the validation split.
        backgrounds, validation_backgrounds: photos of ``[data] background``, split likewise.
        photos: decoded photos of both, as far as they fit.
    """

    def __init__(
        self, config: Config, examples: Sequence[Example], photos: PhotoCache, backgrounds: Sequence[BoxedPhoto] = ()
    ) -> None:
        self.photos = photos
        self.backgrounds, self.validation_backgrounds = split_by_photo(backgrounds, config.data.validation_fraction)
        train, self.validation = split_by_photo(examples, config.data.validation_fraction)
        self.train = [example for example in train for _ in range(example.times)]
        self._config = config
        self._skeleton = config.landmarks
        self._rule = config.crop
        self._augmenter = Augmenter(config.augment, self._rule, self._skeleton)

    @classmethod
    def load(
        cls,
        config: Config,
        data: Path,
        bad: list[str] | None = None,
        photos: PhotoCache | None = None,
        shrunk: Path | None = None,
    ) -> LandmarkTask:
        """Read the folders of a configuration and decode every photo once, so that a bad one shows before training.

        Args:
            config: names the folders.
            data: holds them.
            bad: collects what cannot be used; ``None`` makes the first bad file an error.
            photos: decodes photos and keeps some.
            shrunk: folder for smaller copies of large photos; ``None`` trains on the photos themselves.

        Raises:
            InputError: a file is bad.
        """
        photos = photos or PhotoCache()
        examples = usable_examples(read_sources(config.data, data, config.landmarks, bad), photos, bad)
        if shrunk is not None:
            examples = shrunk_photos(examples, photos, shrunk, partial(crop_ratio, rule=config.crop))
        people = has_joints(config.landmarks)
        empty = [photo for name in config.data.background for photo in read_backgrounds(data / name, people=people)]
        return cls(config, examples, photos, usable_examples(empty, photos, bad))

    @property
    def num_train(self) -> int:
        """See `Task`."""
        return len(self.train)

    @property
    def num_validation(self) -> int:
        """See `Task`."""
        return len(self.validation)

    @property
    def checksum(self) -> str:
        """See `Task`."""
        digest = hashlib.sha256()
        for example in (*self.train, *self.validation):
            digest.update(example.image.name.encode() + example.points.tobytes())
            if example.weights is not None:
                digest.update(example.weights.tobytes())
            if example.visible is not None and self._config.heatmap.hidden_peak < 1:
                digest.update(example.visible.tobytes())
            if example.given is not None:  # crops are made from it
                digest.update(example.given.tobytes())
            if not example.exhaustive:
                digest.update(b"others are not listed")
        for photo in (*self.backgrounds, *self.validation_backgrounds):
            digest.update(photo.image.name.encode() + photo.boxes.tobytes())
        return digest.hexdigest()

    @property
    def sampler(self) -> CropSampler:
        """See `Task`."""
        return CropSampler(self.train, self._augmenter, self.photos, self._config, self.backgrounds)

    def calibration(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """See `Task`."""
        few = self.train[:: max(1, len(self.train) // count)]
        for batch in plain_batches(few, self._rule, self.photos, size=self._config.train.batch_size):
            yield batch.images

    def loss(self, heatmaps: Sequence[Tensor], targets: Targets, mean: Mean = alone) -> Tensor:
        """See `cunet_deploy.train.loss`."""
        return total_loss(heatmaps, targets, self._config, mean)

    def validate(self, predict: Predict, sheet: Path) -> dict[str, float]:
        """Measure the validation split, in percent: of bodies the share of correct joints, else the mean error.

        Where there are several sources, of each of them too.
        """
        images: list[NDArray[np.uint8]] = []
        found: list[NDArray[np.float64]] = []
        true: list[NDArray[np.float64]] = []
        heights: list[NDArray[np.float32]] = []
        decoder, stride = self._config.heatmap.decoder, self._config.model.stride
        for batch in plain_batches(self.validation, self._rule, self.photos, size=32):
            points, scores = decode(predict(batch.images), decoder)
            heights.extend(scores)
            images.extend(batch.images[: SHEET - len(images)])
            found.extend(map_to_input(points, stride))
            true.extend(batch.points)
        save_crops(images, found[:SHEET], true[:SHEET], sheet)
        errors, close = (
            normalized_errors(np.stack(found), np.stack(true), self._skeleton),
            pck_threshold(self._skeleton),
        )
        key = "nme_percent" if close is None else f"{close.key}_percent"
        values = errors if close is None else correct_joints(errors, close.threshold)
        measured = {key: _percent(values)}
        names = dict.fromkeys(source.path for source in self._config.data.parts)
        for name in names if len(names) > 1 else ():
            own = values[[example.source == name for example in self.validation]]
            if np.isfinite(own).any():
                measured[f"{name}_{key}"] = _percent(own)
        if self._config.heatmap.hidden_peak < 1:
            seen = [(score, one.visible) for score, one in zip(heights, self.validation, strict=True)]
            told = [(score, visible) for score, visible in seen if visible is not None]
            auc = visibility_auc(*map(np.stack, zip(*told, strict=True))) if told else np.nan
            if np.isfinite(auc):
                measured["visibility_auc_percent"] = round(100 * auc, 2)
        return measured

    def calibrate_scores(self, session: Session) -> ScoreCalibration:
        """See `cunet_deploy.train.score_calibration`."""
        examples = self.validation or self.train
        empty = self.validation_backgrounds or self.backgrounds
        return calibrate_scores(session, examples, self.photos, self._config.heatmap.hidden_peak, empty)


def _percent(values: NDArray[np.floating]) -> float:
    """Mean of the labelled in percent."""
    return round(100 * float(np.nanmean(values)), 4)
