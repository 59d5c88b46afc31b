"""Thresholds of the scores of a trained network, and how likely a landmark is right by its score."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from cunet_deploy._decode import Share, check_fields
from cunet_deploy.errors import InputError
from cunet_deploy.metrics import ScoreCurve

__all__ = ["ScoreCalibration"]


@dataclass(frozen=True)
class ScoreCalibration:
    """Score thresholds and score curve of a network, measured when its training ends.

    Attributes:
        min_score: mean height of an object's peaks from which it counts as found.
        keep_score: from which it still counts as found in a video, if it did in the frame before; ``None``: from
            ``min_score``, too.
        visible_score: height from which a landmark counts as visible; ``None``: heights do not tell.
        score_curve: how likely a landmark is right by the height of its peak; ``None``: not measured.
    """

    min_score: Share = 0.3
    keep_score: Share | None = None
    visible_score: Share | None = None
    score_curve: ScoreCurve | None = None

    def __post_init__(self) -> None:
        check_fields(self, "scores:", InputError)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what was not measured is left out."""
        table = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.score_curve is not None:
            table["score_curve"] = self.score_curve.to_dict()
        return {name: value for name, value in table.items() if value is not None}

    @property
    def shown_visible_score(self) -> float | None:
        """``visible_score`` as a score that people see: by the curve, where there is one."""
        if self.visible_score is None or self.score_curve is None:
            return self.visible_score
        return round(float(self.score_curve.apply(self.visible_score)), 4)
