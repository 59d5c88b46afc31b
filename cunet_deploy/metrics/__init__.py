from cunet_deploy.metrics.estimates import (
    RESAMPLES,
    Estimate,
    bootstrap,
    bootstrap_mean,
    paired_difference,
    paired_relative_difference,
)
from cunet_deploy.metrics.landmarks import (
    BOX,
    THRESHOLD,
    auc_parts,
    failures,
    landmark_errors,
    normalized_errors,
    normalizer_lengths,
    normalizer_names,
    object_errors,
)
from cunet_deploy.metrics.pose import Closeness, closeness, correct_joints

__all__ = [
    "BOX",
    "RESAMPLES",
    "THRESHOLD",
    "Closeness",
    "Estimate",
    "auc_parts",
    "bootstrap",
    "bootstrap_mean",
    "closeness",
    "correct_joints",
    "failures",
    "landmark_errors",
    "normalized_errors",
    "normalizer_lengths",
    "normalizer_names",
    "object_errors",
    "paired_difference",
    "paired_relative_difference",
]
