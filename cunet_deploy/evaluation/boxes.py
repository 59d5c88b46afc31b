"""Accuracy of a network that finds boxes, on photos whose boxes are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.data.checks import fitting_photo
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.faces import BoxedPhoto
from cunet_deploy.data.layout import refuse
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation.measure import Measure
from cunet_deploy.geometry import whole_image
from cunet_deploy.manifest import Manifest
from cunet_deploy.metrics.boxes import OVERLAP, Matches, average_precision, match_boxes, precision, recall
from cunet_deploy.preprocess import sample
from cunet_deploy.sessions.base import Session

__all__ = ["MIN_LABEL", "MIN_SIDE", "BoxEvaluation", "compare_boxes", "evaluate_boxes"]

MIN_LABEL = 0.8
"""Labels with a lower score are neither counted nor held against the network."""
MIN_SIDE = 24.0
"""Nor are boxes whose longer side is smaller, in pixels of the network's input."""
SIDES = ((24.0, 48.0), (48.0, 96.0), (96.0, np.inf))
"""Longer sides, in pixels of the network's input, by which recall is told apart."""
_LOW = 0.05
"""Boxes are looked for down to this score for the average precision."""


@dataclass(frozen=True, eq=False)
class BoxEvaluation:
    """Detections of a model in photos.

    Attributes:
        manifest: of the model.
        backend: what ran it.
        examples: the photos.
        matches: what was found in each.
    """

    manifest: Manifest
    backend: str
    examples: tuple[BoxedPhoto, ...]
    matches: tuple[Matches, ...]

    def measures(self) -> list[Measure]:
        """Recall and precision at the model's own score, recall by size, average precision; in percent."""
        threshold = self.manifest.min_score
        found = [
            Measure("recall_percent", "recall", "%", recall(self.matches, threshold).scaled(100)),
            Measure("precision_percent", "precision", "%", precision(self.matches, threshold).scaled(100)),
        ]
        sides = np.concatenate([match.sides for match in self.matches])
        for low, high in SIDES:
            if not ((sides >= low) & (sides < high)).any():
                continue
            span = f"{low:g}_to_{high:g}" if np.isfinite(high) else f"from_{low:g}"
            estimate = recall(self.matches, threshold, (low, high)).scaled(100)
            found.append(Measure(f"recall_{span}_px_percent", f"recall, {span.replace('_', ' ')} px", "%", estimate))
            area = _average_precision([match.of_size(low, high) for match in self.matches])
            found.append(Measure(f"ap_{span}_px_percent", f"AP, {span.replace('_', ' ')} px", "%", area))
        return [*found, Measure("ap_percent", f"AP at {OVERLAP:g}", "%", _average_precision(self.matches))]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        return {
            "name": self.manifest.name,
            "weight_bits": self.manifest.weight_bits,
            "activation_bits": self.manifest.activation_bits,
            "backend": self.backend,
            "photos": len(self.examples),
            "boxes": sum(len(match.truth) for match in self.matches),
            "overlap": OVERLAP,
            "min_score": self.manifest.min_score,
            "least_label_score": MIN_LABEL,
            "least_side_px": MIN_SIDE,
            "interval": f"95 % percentile bootstrap over photos, {metrics.RESAMPLES} resamples ({_RESAMPLES} of AP)",
            # a number of nothing, such as the precision where nothing was found, is left out
            **{m.key: m.estimate.to_dict() for m in self.measures() if not np.isnan(m.estimate.value)},
        }


_RESAMPLES = 400
"""Average precision sorts every sample again, which takes long."""


def _average_precision(matches: Sequence[Matches]) -> metrics.Estimate:
    """In percent, with its interval over photos; a sample without a true box is taken for one like the whole."""
    whole = average_precision(matches)

    def areas(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.array([average_precision([matches[int(index)] for index in row]) for row in drawn])
        return np.where(np.isnan(found), whole, found)

    return metrics.bootstrap(np.arange(len(matches)), areas, resamples=_RESAMPLES).scaled(100)


def compare_boxes(evaluation: BoxEvaluation, reference: BoxEvaluation) -> list[Measure]:
    """Loss of recall against a reference on the same photos, paired; points, and relative to it.

    Raises:
        InputError: they were not evaluated on the same boxes.
    """
    if [p.image for p in evaluation.examples] != [p.image for p in reference.examples] or any(
        len(ours.truth) != len(theirs.truth) for ours, theirs in zip(evaluation.matches, reference.matches, strict=True)
    ):
        raise InputError("the two models were evaluated on different boxes; give them the same data and input size")
    both = zip(evaluation.matches, reference.matches, strict=True)
    levels = (evaluation.manifest.min_score, reference.manifest.min_score)
    counts = [
        (*(int((match.truth < level).sum()) for match, level in zip(pair, levels, strict=True)), len(pair[0].truth))
        for pair in both
    ]

    def difference(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        missed = drawn.sum(axis=1)
        return np.asarray((missed[:, 0] - missed[:, 1]) / np.maximum(missed[:, 2], 1))

    points = metrics.bootstrap(np.array(counts, np.float64), difference).scaled(100)
    return [Measure("recall_loss_percent_points", "recall lost", "points", points)]


def evaluate_boxes(
    session: Session,
    photos: Sequence[BoxedPhoto],
    cache: PhotoCache,
    *,
    bad: list[str] | None = None,
    advance: Callable[[int], None] | None = None,
) -> BoxEvaluation:
    """Find boxes in whole photos, each in one look as in video.

    Args:
        session: the model.
        photos: with their boxes.
        cache: reads and keeps the photos.
        bad: where to note photos that cannot be read; ``None`` makes the first one an error.
        advance: called with the number of photos done since the last call.

    Raises:
        InputError: a photo cannot be read and ``bad`` is ``None``, none is left, or the model finds no boxes.
    """
    manifest = session.manifest
    if manifest.boxes is None:
        raise InputError(f"{manifest.name} finds landmarks; a data set of boxes needs a model that finds boxes")
    used: list[BoxedPhoto] = []
    matches: list[Matches] = []
    for photo in photos:
        try:
            image = fitting_photo(photo, cache)
        except InputError as error:
            refuse(str(error), bad)
        else:
            used.append(photo)
            crop = whole_image(image.shape[1], image.shape[0], manifest.crop.size)
            found, scores = manifest.boxes.decode(session.run(sample(image, crop)[None])[0], manifest.stride, _LOW)
            true = crop.to_input(photo.boxes.reshape(-1, 2, 2)).reshape(-1, 4)
            counted = (photo.scores >= MIN_LABEL) & (photo.longer * crop.scale >= MIN_SIDE)
            matches.append(match_boxes(found, scores, true[counted], true[~counted]))
        if advance is not None:
            advance(1)
    if not used:
        raise InputError("no photo could be read; nothing to evaluate")
    return BoxEvaluation(manifest, session.backend, tuple(used), tuple(matches))
