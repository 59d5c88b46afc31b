"""The angles of heads, as the files that people read have them."""

from __future__ import annotations

from cunet_deploy.landmarks import Landmarks
from cunet_deploy.skeletons import IBUG68, Skeleton

__all__ = ["pose_names", "pose_texts"]

_NAMES = ("yaw", "pitch", "roll")


def pose_names(skeleton: Skeleton) -> tuple[str, ...]:
    """Names of the angles that objects of a skeleton have; most have none."""
    return _NAMES if skeleton.name == IBUG68.name else ()


def pose_texts(found: Landmarks, *, missing: str) -> list[list[str]]:
    """The angles of each object in degrees, in the order of `pose_names`; ``missing`` stands for one that it lacks."""
    if not pose_names(found.skeleton):
        return [[] for _ in range(len(found))]
    return [[f"{angle:.1f}" if angle == angle else missing for angle in row] for row in found.pose.tolist()]
