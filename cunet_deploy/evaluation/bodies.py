"""Evaluation of body joints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.data.examples import Example
from cunet_deploy.evaluation.measure import Measure
from cunet_deploy.skeletons import Skeleton

__all__ = ["body_measures", "joints_lost", "joints_percent", "similarity_measures", "swap_measures"]

FloatArray = NDArray[np.float64]

_STRICT = 0.1
"""A second, smaller threshold, as papers report it."""
_RESAMPLES = 400
"""Average precision sorts every sample again, which takes long."""


def body_measures(skeleton: Skeleton, errors: Callable[[str], FloatArray]) -> list[Measure]:
    """PCK at two thresholds and the area under its curve, in percent, for each normalizer that has a usual threshold.

    Args:
        skeleton: of the K joints.
        errors: gives (N, K) normalized errors by the name of a normalizer.
    """
    found: list[Measure] = []
    counted = metrics.counted_joints(skeleton)
    for close in metrics.pck_thresholds(skeleton):
        own = np.where(counted, errors(close.normalizer), np.nan)
        if np.isnan(own).all():
            continue
        for each in (close, close._replace(threshold=_STRICT)):
            estimate = metrics.share(metrics.correct_joints(own, each.threshold)).scaled(100)
            found.append(Measure(f"{each.key}_percent", each.title, "%", estimate))
        area = metrics.share(metrics.curve_parts(own, close.threshold)).scaled(100)
        title = f"AUC up to {close.title}"
        found.append(Measure(f"auc_{close.key}_percent", title, "%", area))
    return found


def swap_measures(skeleton: Skeleton, errors: FloatArray, mirrored: FloatArray) -> list[Measure]:
    """The share of pairs of left and right joints that are found in each other's place, in percent.

    Args:
        skeleton: of the K joints.
        errors: (N, K) normalized errors with the skeleton's default normalizer.
        mirrored: (N, K) those of the same predictions with left and right exchanged.
    """
    close = metrics.pck_threshold(skeleton)
    if close is None:
        return []
    swapped = metrics.swapped_pairs(errors, mirrored, skeleton, close.threshold)
    if np.isnan(swapped).all():
        return []
    return [Measure("swapped_pairs_percent", "left/right swaps", "%", metrics.share(swapped).scaled(100))]


def joints_percent(errors: FloatArray, close: metrics.PckThreshold) -> FloatArray:
    """(N, K) normalized errors to the (K,) share of each joint that is correct, in percent."""
    return metrics.joint_shares(metrics.correct_joints(errors, close.threshold)) * 100


def joints_lost(skeleton: Skeleton, close: metrics.PckThreshold, errors: FloatArray, reference: FloatArray) -> Measure:
    """Loss of correct joints against a reference, from both (N, K) errors; in points, paired by person.

    Raises:
        InputError: they are not of the same people.
    """
    counted = metrics.counted_joints(skeleton)
    theirs, ours = (
        metrics.correct_joints(np.where(counted, some, np.nan), close.threshold) for some in (reference, errors)
    )
    estimate = metrics.paired_share_difference(theirs, ours).scaled(100)
    return Measure(f"{close.key}_lost_percent_points", f"{close.title} lost", "points", estimate)


def similarity_measures(
    skeleton: Skeleton, examples: Sequence[Example], points: FloatArray, scores: FloatArray
) -> list[Measure]:
    """Average precision and recall by object keypoint similarity, in percent, of the people whose area is known.

    Where that is not everybody, the titles say of how many it is.

    Everybody's box is given, so nobody is missed, and nobody is found who is not there: the numbers are higher than
    those of a detector and this model together.

    Args:
        skeleton: with sigmas; without them there is nothing to measure.
        examples: the N people.
        points: (N, K, 2) predictions in pixels of each photo.
        scores: (N, K) of the predictions.
    """
    known = [row for row, example in enumerate(examples) if "area" in example.sizes]
    if not skeleton.sigmas or not known:
        return []
    whose = "" if len(known) == len(examples) else f", {len(known)} of {len(examples)} people have an area"
    rows: dict[str, list[int]] = {}
    for row in known:
        rows.setdefault(str(examples[row].image), []).append(row)
    images = []
    for own in rows.values():
        truth, areas = np.stack([examples[row].points for row in own]), [examples[row].sizes["area"] for row in own]
        similarity = metrics.object_similarity(points[own], truth, areas, skeleton.sigmas)
        images.append(metrics.PeopleInImage(scores[own].mean(axis=1), similarity, np.zeros(len(own), np.bool_)))

    def measured(part: int, thresholds: Sequence[float]) -> metrics.Estimate:
        return metrics.bootstrap(
            np.arange(len(images)),
            lambda drawn: np.array(
                [metrics.oks_average_precision([images[int(i)] for i in row], thresholds)[part] for row in drawn]
            ),
            resamples=_RESAMPLES,
        ).scaled(100)

    return [
        Measure("oks_ap_percent", f"OKS AP, boxes given{whose}", "%", measured(0, metrics.OKS_THRESHOLDS)),
        Measure("oks_ap_50_percent", f"OKS AP at 0.5{whose}", "%", measured(0, [0.5])),
        Measure("oks_ap_75_percent", f"OKS AP at 0.75{whose}", "%", measured(0, [0.75])),
        Measure("oks_ar_percent", f"OKS AR{whose}", "%", measured(1, metrics.OKS_THRESHOLDS)),
    ]
