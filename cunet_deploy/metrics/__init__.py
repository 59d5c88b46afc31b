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

__all__ = [
    "BOX",
    "RESAMPLES",
    "THRESHOLD",
    "Estimate",
    "auc_parts",
    "bootstrap",
    "bootstrap_mean",
    "failures",
    "landmark_errors",
    "normalized_errors",
    "normalizer_lengths",
    "normalizer_names",
    "object_errors",
    "paired_difference",
    "paired_relative_difference",
]
