"""Accuracy of a model on labelled photos.

It works on anything behind the `Session` protocol, so a checkpoint, an exported model and an engine are measured by the
same code. Each object is cropped around its tight landmark box by the model's own rule; predictions are mapped back to
the photo, and errors are counted there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy._optional import require
from cunet_deploy.data.checks import fitting_photo
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.layout import refuse
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.evaluation.batching import FittingSession, batch_size_of
from cunet_deploy.evaluation.bodies import (
    body_measures,
    joints_lost,
    joints_percent,
    similarity_measures,
    swap_measures,
)
from cunet_deploy.evaluation.measure import Measure
from cunet_deploy.evaluation.tta import ONCE, TTA
from cunet_deploy.manifest import Manifest
from cunet_deploy.metrics import Estimate
from cunet_deploy.sessions import open_session
from cunet_deploy.sessions.base import Session

__all__ = ["Evaluation", "compare", "evaluate", "open_model"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Predictions of a model on labelled objects.

    Attributes:
        manifest: of the model.
        backend: what ran it.
        examples: the N objects.
        points: (N, K, 2) predictions in pixels of each photo.
        scores: (N, K) in [0, 1].
        tta: what the maps are the mean of.
    """

    manifest: Manifest
    backend: str
    examples: tuple[Example, ...]
    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    tta: TTA = ONCE

    @cached_property
    def truth(self) -> NDArray[np.float64]:
        """(N, K, 2) labels; NaN where a landmark is not labelled."""
        return np.stack([example.points for example in self.examples])

    @property
    def normalizer(self) -> str:
        """The skeleton's default normalizer, which area, failures and landmarks are measured with."""
        return metrics.normalizer_names(self.manifest.skeleton)[0]

    @property
    def pck_threshold(self) -> metrics.PckThreshold | None:
        """Threshold within which a joint is correct, where the landmarks are those of a body."""
        return metrics.pck_threshold(self.manifest.skeleton)

    @property
    def landmark_key(self) -> str:
        """Name of `landmarks_percent` in JSON."""
        return f"landmarks_{self.pck_threshold.key if self.pck_threshold else self.normalizer}_percent"

    @cached_property
    def visible(self) -> NDArray[np.float64]:
        """(N, K) 1 where a landmark is labelled as visible, 0 as hidden; NaN where that is not known."""
        unknown = np.full(len(self.manifest.skeleton), np.nan)
        return np.stack([unknown if example.visible is None else example.visible for example in self.examples])

    def errors(self, normalizer: str | None = None) -> NDArray[np.float64]:
        """(N, K) normalized errors, by default with `normalizer`."""
        return self._errors_of(self.points, normalizer)

    def _errors_of(self, points: NDArray[np.float64], normalizer: str | None = None) -> NDArray[np.float64]:
        name = normalizer or self.normalizer
        labelled = [example.sizes.get(name, np.nan) for example in self.examples]
        return metrics.normalized_errors(points, self.truth, self.manifest.skeleton, name, labelled)

    def nme(self, normalizer: str | None = None) -> NDArray[np.float64]:
        """(N,) normalized mean error of each object; NaN where its normalizer is not labelled."""
        return metrics.object_errors(self.errors(normalizer))

    def measures(self) -> list[Measure]:
        """The metrics of the task, in percent, with intervals.

        Of bodies the share of correct joints, and average precision where areas are known; else NME by every
        normalizer, area and failure rate, and where labels say what is hidden, how well scores tell it.
        """
        return list(self._measures)

    @cached_property
    def _measures(self) -> list[Measure]:
        if self.pck_threshold is not None:
            skeleton = self.manifest.skeleton
            precision = similarity_measures(skeleton, self.examples, self.points, self.scores)
            swaps = swap_measures(skeleton, self.errors(), self._errors_of(self.points[:, skeleton.flip_order]))
            return [*body_measures(skeleton, self.errors), *swaps, *self._calibrated(), *precision]
        found = [
            Measure(f"nme_{name}_percent", f"NME, {_spoken(name)}", "%", _percent(self.nme(name)))
            for name in metrics.normalizer_names(self.manifest.skeleton)
        ]
        errors, name, limit = self.nme(), self.normalizer, f"{metrics.THRESHOLD:.0%}"
        found.append(Measure(f"auc_{name}_percent", f"AUC up to {limit}", "%", _percent(metrics.auc_parts(errors))))
        found.append(
            Measure(f"failure_rate_{name}_percent", f"failures above {limit}", "%", _percent(metrics.failures(errors)))
        )
        if {0.0, 1.0} <= set(self.visible.ravel()):
            area = metrics.bootstrap_visibility_auc(self.scores, self.visible)
            found.append(Measure("visibility_auc_percent", "AUC, score of visible over hidden", "%", area.scaled(100)))
        return [*found, *self._calibrated()]

    def _calibrated(self) -> list[Measure]:
        """`calibration_error` of a model whose scores are calibrated; of others it is not expected to be small."""
        return [] if self.manifest.score_curve is None else [self.calibration_error()]

    @property
    def limit(self) -> float:
        """Distance from its label up to which a landmark is right, in units of `normalizer`."""
        return metrics.THRESHOLD if self.pck_threshold is None else self.pck_threshold.threshold

    def correct(self) -> NDArray[np.float64]:
        """(N, K) 1 where a landmark is right and 0 where not; NaN where that is not known."""
        return metrics.correct_joints(self.errors(), self.limit)

    def reliability(self) -> list[metrics.ReliabilityBin]:
        """Scores against the share of landmarks that are right."""
        return metrics.reliability(self.scores, self.correct())

    def calibration_error(self) -> Measure:
        """Expected calibration error of the scores: their distance from the share of landmarks that are right."""
        error = metrics.bootstrap_calibration_error(self.scores, self.correct())
        return Measure("calibration_error_percent", "calibration error of scores", "%", error.scaled(100))

    def landmarks_percent(self) -> dict[str, float]:
        """Mean error of each landmark by name, in percent of `normalizer`; NaN for one that is never labelled.

        Of bodies the share of correct joints.
        """
        close, errors = self.pck_threshold, self.errors()
        each = metrics.landmark_errors(errors) * 100 if close is None else joints_percent(errors, close)
        return dict(zip(self.manifest.skeleton.landmarks, (float(value) for value in each), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        limit = {} if self.pck_threshold else {"threshold_percent": metrics.THRESHOLD * 100}
        return {
            "name": self.manifest.name,
            "weight_bits": self.manifest.weight_bits,
            "activation_bits": self.manifest.activation_bits,
            "backend": self.backend,
            "objects": len(self.examples),
            **limit,
            **({"flip_test": True} if self.tta.flip else {}),
            **({"scales": [1.0, *self.tta.scales]} if self.tta.scales else {}),
            **({"blur": self.manifest.decoder.blur} if self.manifest.decoder.blur else {}),
            "interval": f"95 % percentile bootstrap over objects, {metrics.RESAMPLES} resamples",
            **{measure.key: measure.estimate.to_dict() for measure in self.measures()},
        }


def open_model(
    model: str,
    *,
    threads: int | None = None,
    backend: str | None = None,
    trust: bool = False,
    device: str | None = None,
) -> Session:
    """Open a checkpoint in torch, or anything else that `open_session` opens; torch loads for checkpoints only.

    Args:
        model: path or name of it.
        threads: of the CPU.
        backend: of a model that is not a checkpoint.
        trust: load an engine whose checksum differs.
        device: of a checkpoint, as `cunet_deploy.model.device.choose_device` takes it; ``None`` is "auto".

    Raises:
        InputError: a backend for a checkpoint, or a device for another model.
        MissingDependencyError: a checkpoint without torch installed.
        CunetError: as `open_session` and `cunet_deploy.checkpoint.storage.load_checkpoint`.
    """
    if not model.endswith(".pt"):
        if device is not None:
            raise InputError(f"{model}: a device is for checkpoints; choose the backend ort:cuda to run this on a GPU")
        return open_session(model, threads=threads, backend=backend, trust=trust)
    if backend is not None:
        raise InputError(f"{model}: a checkpoint runs in PyTorch, not in {backend}; leave the backend out or export it")
    torch = require("torch", extra="train")
    if threads is not None:
        torch.set_num_threads(threads)

    from cunet_deploy.checkpoint.session import open_torch_session
    from cunet_deploy.model.device import choose_device

    return open_torch_session(Path(model), choose_device(device or "auto"))


def evaluate(
    session: Session,
    examples: Sequence[Example],
    photos: PhotoCache,
    *,
    batch_size: int | None = None,
    tta: TTA = ONCE,
    blur: float | None = None,
    bad: list[str] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Predict the landmarks of labelled objects from crops of their tight landmark boxes.

    Args:
        session: the model.
        examples: the objects.
        photos: reads and keeps the photos; share it to evaluate several models.
        batch_size: crops a run; fewer where the memory is not enough. ``None``: 16, or 128 on a GPU.
        tta: looks at each object, whose maps are averaged.
        blur: of the maps before landmarks are read, in place of the model's; see `cunet_deploy.heatmaps.Decoder`.
        bad: where to note photos that cannot be read; ``None`` makes the first one an error.
        advance: called with the number of objects done since the last call.

    Returns:
        The predictions, without the objects of bad photos.

    Raises:
        InputError: a photo cannot be read and ``bad`` is ``None``, none is left, or the labels are of another skeleton.
        CunetError: the network returned numbers that are not finite.
    """
    session = FittingSession(session)
    manifest, batch_size = session.manifest, batch_size or batch_size_of(session)
    if blur is not None:
        manifest = replace(manifest, decoder=replace(manifest.decoder, blur=blur))
    used: list[Example] = []
    points: list[NDArray[np.float64]] = []
    scores: list[NDArray[np.float64]] = []
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        readable = [
            (example, photo) for example in part if (photo := _photo(manifest, example, photos, bad)) is not None
        ]
        if readable:
            kept, pictures = zip(*readable, strict=True)
            used.extend(kept)
            crops = [tta.crops(manifest.crop, example.box) for example in kept]
            maps = tta.maps(session, pictures, crops)
            if not np.isfinite(maps).all():
                raise CunetError(f"{manifest.name}: the network returned numbers that are not finite; train it again")
            inputs, heights = manifest.read(maps)
            points.append(np.stack([own.to_image(found) for (own, *_), found in zip(crops, inputs, strict=True)]))
            scores.append(np.asarray(manifest.scores(heights), np.float64))
        if advance is not None:
            advance(len(part))
    if not used:
        raise InputError("no photo could be read; nothing to evaluate")
    return Evaluation(manifest, session.backend, tuple(used), np.concatenate(points), np.concatenate(scores), tta)


def _photo(manifest: Manifest, example: Example, photos: PhotoCache, bad: list[str] | None) -> NDArray[np.uint8] | None:
    """The photo of an object; ``None`` where it cannot be read, which is noted in ``bad``."""
    wanted = len(manifest.skeleton)
    if len(example.points) != wanted:
        raise InputError(f"{example.image}: {len(example.points)} landmarks, the model predicts {wanted}")
    try:
        return fitting_photo(example, photos)
    except InputError as error:
        refuse(str(error), bad)
        return None


def compare(evaluation: Evaluation, reference: Evaluation) -> list[Measure]:
    """Compare a model with a reference on the same objects, paired.

    Of bodies the share of correct joints that is lost; else the difference of the NME by the default normalizer.

    Raises:
        InputError: they were not evaluated on the same objects, or have other landmarks.
    """
    if evaluation.manifest.skeleton.landmarks != reference.manifest.skeleton.landmarks:
        raise InputError(
            f"{evaluation.manifest.name} and {reference.manifest.name} predict different landmarks; "
            "compare models of one skeleton"
        )
    if [_identity(example) for example in evaluation.examples] != [_identity(e) for e in reference.examples]:
        raise InputError("the two models were evaluated on different objects; use the same data set for both")
    name, close = evaluation.normalizer, evaluation.pck_threshold
    if close is not None:
        skeleton = evaluation.manifest.skeleton
        return [joints_lost(skeleton, close, evaluation.errors(name), reference.errors(name))]
    ours, theirs = evaluation.nme(name), reference.nme(name)
    difference, relative = metrics.paired_difference(ours, theirs), metrics.paired_relative_difference(ours, theirs)
    return [
        Measure(f"nme_{name}_difference_percent_points", "NME difference", "points", difference.scaled(100)),
        Measure(f"nme_{name}_relative_difference_percent", "relative", "%", relative.scaled(100)),
    ]


def _identity(example: Example) -> tuple[Path, bytes]:
    return example.image, example.points.tobytes()


def _percent(values: NDArray[np.float64]) -> Estimate:
    return metrics.bootstrap_mean(values).scaled(100)


def _spoken(normalizer: str) -> str:
    return normalizer.replace("_", " ")
