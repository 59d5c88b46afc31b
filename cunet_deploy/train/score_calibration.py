"""Calibration of a network's scores on crops of labelled objects.

From which score on an object counts as found and a landmark as visible, and how likely a landmark is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.config import AugmentConfig
from cunet_deploy.data.augment import NOWHERE, Augmenter
from cunet_deploy.data.batches import plain_batches
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.errors import InputError
from cunet_deploy.heatmaps import decode, map_to_input
from cunet_deploy.manifest import Manifest
from cunet_deploy.metrics import ScoreCurve, correct_joints, fit_score_curve, normalized_errors, pck_threshold
from cunet_deploy.sessions.base import Session

__all__ = [
    "CropScores",
    "background_draws",
    "calibrate_scores",
    "choose_found_scores",
    "choose_visible_score",
    "crop_scores",
    "joint_score_curve",
]

DRAWS, BACKGROUND_DRAWS, MOST_BACKGROUND_DRAWS = 4, 16, 64
"""Crops of each example: around its object, and beside it; beside it more where there are few examples."""
BACKGROUND_CROPS = 6000
"""Crops beside objects that are tried in all: a quantile of 99.8 % scatters from one small sample to another."""
BATCH = 32
TAIL, RARE = 0.01, 0.002
"""Share of crops on the wrong side, of objects and background; and at most of what lies beside objects, which in a
video is looked at again and again."""


def calibrate_scores(
    session: Session,
    examples: Sequence[Example],
    photos: PhotoCache,
    hidden_peak: float = 1.0,
    backgrounds: Sequence[BoxedPhoto] = (),
) -> ScoreCalibration:
    """Measure score thresholds and score curve of a network of landmarks.

    Args:
        session: the network.
        examples: labelled objects, which it should not have been trained on.
        photos: decodes theirs.
        hidden_peak: height of the peaks that it learned for hidden landmarks; 1: heights do not tell these.
        backgrounds: photos that show no such object beside their boxes, which it should not have been trained on.
    """
    found, kept = choose_found_scores(session, examples, photos, backgrounds)
    visible = None if hidden_peak == 1 else choose_visible_score(session, examples, photos)
    return ScoreCalibration(found, kept, visible, joint_score_curve(session, examples, photos))


def joint_score_curve(session: Session, examples: Sequence[Example], photos: PhotoCache) -> ScoreCurve | None:
    """The share of joints that are right by the heights of their peaks.

    Returns:
        The curve; ``None`` of what is no body, or where too few joints are labelled. A face's hidden landmarks have low
        peaks and are right all the same.
    """
    manifest = session.manifest
    close = pck_threshold(manifest.skeleton)
    if close is None:
        return None
    heights: list[NDArray[np.floating]] = []
    correct: list[NDArray[np.float64]] = []
    for batch in plain_batches(examples, manifest.crop, photos, size=BATCH):
        points, scores = decode(session.run(batch.images), manifest.decoder)
        errors = normalized_errors(map_to_input(points, manifest.stride), batch.points, manifest.skeleton)
        correct.append(correct_joints(errors, close.threshold))
        heights.append(scores)
    try:
        return fit_score_curve(np.concatenate(heights), np.concatenate(correct), close.normalizer, close.threshold)
    except InputError:
        return None


def choose_found_scores(
    session: Session, examples: Sequence[Example], photos: PhotoCache, backgrounds: Sequence[BoxedPhoto] = ()
) -> tuple[float, float | None]:
    """The scores from which an object counts as found, and from which one that was found still does.

    Each example is drawn a few times as a detector would find it, and several times as often a piece of its photo that
    shows no known object; of photos without objects, a few pieces. Where nearly all objects score higher than nearly
    all background, both thresholds lie halfway between the 99th percentile of the background and the 1st of the
    objects. Where they overlap, the first is the 99th percentile of all background, but at least the 99.8th of what
    lies beside objects, for a video is searched again and again. The second is the 99th percentile of what lies beside
    objects alone: most of what was there a moment ago is there still.

    Returns:
        found: a score in [0.05, 0.95], to two decimals.
        kept: likewise; ``None`` where it is no lower.
    """
    scores = crop_scores(session, examples, photos, backgrounds)
    high = np.quantile(scores.objects, TAIL)

    def least(background: NDArray[np.float64]) -> float:
        low = _quantile(background, 1 - TAIL)
        return float(low + max(low, high)) / 2

    new = max(least(np.concatenate([scores.beside, scores.empty])), _quantile(scores.beside, 1 - RARE))
    kept, found = (round(float(np.clip(level, 0.05, 0.95)), 2) for level in (least(scores.beside), new))
    return found, kept if kept < found else None


def _quantile(scores: NDArray[np.float64], share: float) -> float:
    return float(np.quantile(scores, share)) if len(scores) else 0.0


def choose_visible_score(session: Session, examples: Sequence[Example], photos: PhotoCache) -> float | None:
    """The score that most of the visible landmarks exceed and most of the hidden ones stay under, in equal shares.

    Returns:
        A score in [0, 1], to two decimals; ``None`` where the labels do not say what is hidden.
    """
    told = [(example, example.visible) for example in examples if example.visible is not None]
    scores = [
        decode(session.run(batch.images), session.manifest.decoder)[1]
        for batch in plain_batches([one for one, _ in told], session.manifest.crop, photos, size=BATCH)
    ]
    if not scores:
        return None
    heights, visible = np.concatenate(scores), np.stack([visible for _, visible in told])
    seen, hidden = np.sort(heights[visible == 1]), np.sort(heights[visible == 0])
    if not len(seen) or not len(hidden):
        return None
    levels = np.arange(101) / 100
    right = 1 - np.searchsorted(seen, levels) / len(seen) + np.searchsorted(hidden, levels) / len(hidden)
    return round(float(levels[right >= right.max() - 1e-9].mean()), 2)


def background_draws(examples: Sequence[Example]) -> int:
    """Number of crops that are tried beside each example for background."""
    usable = max(1, sum(example.exhaustive for example in examples))
    return min(max(-(-BACKGROUND_CROPS // usable), BACKGROUND_DRAWS), MOST_BACKGROUND_DRAWS)


class CropScores(NamedTuple):
    """Mean landmark scores of random crops, each (N,).

    Attributes:
        objects: around objects.
        beside: beside them.
        empty: of photos without objects.
    """

    objects: NDArray[np.float64]
    beside: NDArray[np.float64]
    empty: NDArray[np.float64]


def crop_scores(
    session: Session, examples: Sequence[Example], photos: PhotoCache, backgrounds: Sequence[BoxedPhoto] = ()
) -> CropScores:
    """Mean landmark scores of random crops of examples and of photos without objects."""
    manifest = session.manifest
    scores: dict[_Crop, list[float]] = {kind: [] for kind in _Crop}
    crops = _random_crops(manifest, examples, photos, backgrounds)
    while some := list(itertools.islice(crops, BATCH)):
        heights = decode(session.run(np.stack([image for image, _ in some])), manifest.decoder)[1].mean(axis=1)
        for (_, kind), height in zip(some, heights, strict=True):
            scores[kind].append(float(height))
    return CropScores(*(np.array(scores[kind], np.float64) for kind in _Crop))


class _Crop(Enum):
    """Position of a crop, in the order of `CropScores`."""

    OBJECT = 0
    BESIDE = 1
    EMPTY = 2


def _random_crops(
    manifest: Manifest, examples: Sequence[Example], photos: PhotoCache, backgrounds: Sequence[BoxedPhoto]
) -> Iterator[tuple[NDArray[np.uint8], _Crop]]:
    """Crops around each object, then beside each, then of each photo without objects."""
    found = AugmentConfig(scale=0.15, shift=0.05, rotation=10, flip=0, gain=0, brightness=0, blur=0, erase=0)
    for share, draws in ((0.0, DRAWS), (1.0, background_draws(examples))):
        augmenter = Augmenter(replace(found, negative=share), manifest.crop, manifest.skeleton)
        for index, example in enumerate(examples):
            rng = np.random.default_rng([index, int(share)])
            for _ in range(draws):
                drawn = augmenter.draw(example, photos[example.image], rng)
                # A photo that its object fills has no background; what is drawn there instead is no news.
                if bool(drawn.points[0, 0] == NOWHERE) == bool(share):
                    yield drawn.image, _Crop.BESIDE if share else _Crop.OBJECT
    augmenter = Augmenter(found, manifest.crop, manifest.skeleton)
    for index, photo in enumerate(backgrounds):
        rng = np.random.default_rng([index, 2])
        for _ in range(DRAWS):
            empty = augmenter.draw_background(photo.boxes, photos[photo.image], rng)
            if empty is not None:
                yield empty.image, _Crop.EMPTY
