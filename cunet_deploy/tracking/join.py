"""Parts of a video that were localized by themselves, put together again: objects keep their track ids across joints.

A long video is cut into parts so that several processes work on it. Each part begins a little before its first frame,
so that what is followed is found, and its filter settled, when its turn comes; these frames overlap the end of the part
before, and tell which track of the one is which of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.detection.confirmation import SAME_OBJECT_IOU
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou, landmark_boxes
from cunet_deploy.landmarks import Landmarks

__all__ = ["PartJoiner"]


class PartJoiner:
    """Takes the parts of one video in order. Not for several threads.

    Example:
        >>> joiner = PartJoiner(overlap=30)
        >>> for part in parts:  # landmarks of successive frames; of all but the first part, from 30 frames earlier on
        ...     frames.extend(joiner.add(part))
    """

    def __init__(self, overlap: int) -> None:
        """Start before the first part.

        Args:
            overlap: with how many frames of the part before each part but the first begins.

        Raises:
            InputError: it is negative.
        """
        if overlap < 0:
            raise InputError(f"parts overlap by 0 frames or more, got {overlap}")
        self._overlap = overlap
        self._last: list[Landmarks] = []
        self._next_id = 0
        self._begun = False

    def add(self, part: Sequence[Landmarks]) -> list[Landmarks]:
        """Give the objects of a part the track ids that they have in the parts before.

        Args:
            part: landmarks of its frames, those that overlap the part before included.

        Returns:
            Landmarks of the frames that are new. Objects that no part before had get the next ids.

        Raises:
            InputError: the part has fewer frames than it should overlap by.
        """
        overlap = self._overlap if self._begun else 0
        if len(part) < overlap:
            raise InputError(f"a part of {len(part)} frames cannot overlap the one before by {overlap}")
        known = self._matched(part[:overlap])
        joined = []
        for frame in part[overlap:]:
            for track_id in frame.ids.tolist():
                if track_id not in known:
                    known[track_id] = self._next_id
                    self._next_id += 1
            joined.append(_renumbered(frame, known))
        self._begun = True
        self._last = [*self._last, *joined][-self._overlap :] if self._overlap else []
        return joined

    def _matched(self, frames: Sequence[Landmarks]) -> dict[int, int]:
        """Track ids of a part that belong to one of those before, by how many frames they lie on each other in."""
        votes: Counter[tuple[int, int]] = Counter()
        # a video may have fewer frames in all than a part overlaps by
        for before, after in zip(self._last[::-1], frames[::-1], strict=False):
            votes.update(_pairs(before, after))
        known: dict[int, int] = {}
        for (new, old), _ in sorted(votes.items(), key=lambda item: (-item[1], item[0])):
            if new not in known and old not in known.values():
                known[new] = old
        return known


def _pairs(before: Landmarks, after: Landmarks) -> list[tuple[int, int]]:
    """Ids (new, old) of what lies on each other in one frame, each at most once, the closest first."""
    if not len(before) or not len(after):
        return []
    overlaps: NDArray[np.float64] = box_iou(landmark_boxes(after.points), landmark_boxes(before.points))
    pairs: list[tuple[int, int]] = []
    while overlaps.max() >= SAME_OBJECT_IOU:
        row, column = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        pairs.append((int(after.ids[row]), int(before.ids[column])))
        overlaps[row], overlaps[:, column] = -1, -1
    return pairs


def _renumbered(frame: Landmarks, ids: dict[int, int]) -> Landmarks:
    """The same objects, with these ids, by rising id."""
    new = np.array([ids[track_id] for track_id in frame.ids.tolist()], np.int64)
    order = new.argsort()
    return replace(
        frame, points=frame.points[order], scores=frame.scores[order], boxes=frame.boxes[order], ids=new[order]
    )
