"""One number of a report."""

from __future__ import annotations

from dataclasses import dataclass

from cunet_deploy.metrics import Estimate

__all__ = ["Measure"]


@dataclass(frozen=True)
class Measure:
    """One line of a report.

    Attributes:
        key: name with its unit, as JSON stores it.
        title: name for people.
        unit: "%" or "points" (percentage points).
        estimate: in that unit.
    """

    key: str
    title: str
    unit: str
    estimate: Estimate
