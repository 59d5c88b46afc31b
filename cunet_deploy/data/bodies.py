"""Boxes of whole people from their joints: joints lie inside a body, and its box ends at hair, hands and shoes.

Data sets draw the box of a person to the outline of the body (COCO) or to the outermost joints (MPII Human Pose and
Leeds Sports Pose label nothing else). A detector that learns both learns neither; `body_box` makes boxes of the first
kind of labels of the second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import Skeleton

__all__ = ["MARGINS", "body_box", "has_joints", "joint_kind", "torso_length"]

MARGINS = {
    "ankle": 0.32,
    "knee": 0.17,
    "hip": 0.20,
    "wrist": 0.12,
    "elbow": 0.10,
    "shoulder": 0.13,
    "nose": 0.41,
    "eye": 0.27,
    "ear": 0.27,
    "head_top": 0.05,
}
"""Margin between the outermost joint of a body and the edge of its box, in lengths of the torso, by joint.

Medians over people with labelled joints whose boxes were drawn to the outline:
``python -m tools.experiments.body_margins people#fashion_train people#coco_train --data DATA``. Nobody with a head top
was among them; the labels of it lie on the hair.
"""
_OTHER = 0.15
"""Margin of other joints, such as the neck."""
_LEAST_TORSO = 0.2
"""Least length of a torso, as a share of the longer side of the box around the joints: a person who bends towards the
camera has a short one."""


def body_box(points: NDArray[np.float64], skeleton: Skeleton) -> NDArray[np.float64]:
    """Box of a whole person.

    Args:
        points: (K, 2) joints; NaN where one is not labelled. At least one is.
        skeleton: the names of the joints, such as ``left_ankle``.

    Returns:
        (4,) xyxy.

    Raises:
        InputError: the skeleton has no joints of a body.
    """
    if not has_joints(skeleton):
        raise InputError(
            f"the landmarks {skeleton.name!r} have no joints of a body ({', '.join(MARGINS)}), and boxes of bodies are "
            'wanted; leave out boxes = "bodies"'
        )
    known = np.isfinite(points).all(axis=1)
    kinds = [joint_kind(name) for name in skeleton.landmarks]
    margins = np.array([_OTHER if kind is None else MARGINS[kind] for kind in kinds])
    seen, reach = points[known], margins[known, None]
    longest = float(np.ptp(seen, axis=0).max())
    unit = max(torso_length(points, skeleton), _LEAST_TORSO * longest)
    return np.concatenate([(seen - unit * reach).min(axis=0), (seen + unit * reach).max(axis=0)])


def has_joints(skeleton: Skeleton) -> bool:
    """True if landmarks of a skeleton are joints of a body."""
    return any(joint_kind(name) for name in skeleton.landmarks)


def joint_kind(name: str) -> str | None:
    """Kind of a joint, a key of `MARGINS`, of either side: "ankle" of ``left_ankle``; ``None`` of others."""
    return next((kind for kind in MARGINS if name.endswith(kind)), None)


def torso_length(points: NDArray[np.float64], skeleton: Skeleton) -> float:
    """Distance from the middle of the shoulders to that of the hips; 0 where it is not known."""
    names = [f"{side}_{part}" for part in ("shoulder", "hip") for side in ("left", "right")]
    if not set(names) <= set(skeleton.landmarks):
        return 0.0
    corners = points[[skeleton.landmarks.index(name) for name in names]]
    length = float(np.linalg.norm(corners[:2].mean(axis=0) - corners[2:].mean(axis=0)))
    return length if np.isfinite(length) else 0.0
