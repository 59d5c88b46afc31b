"""Results of a long video from those of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from cunet_deploy.bulk.items import Item, Part
from cunet_deploy.bulk.results import Output, landmarks_of, schema_of, write_results
from cunet_deploy.bulk.worker import Model
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import Frame, LeftOut
from cunet_deploy.tracking.join import PartJoiner

__all__ = ["join_parts"]

_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


def join_parts(item: Item, parts: Sequence[Item], model: Model, output: Output, *, jsonl: bool = False) -> None:
    """Write the results of a video from those of its parts, and remove these: tracks go on across the joints.

    Args:
        item: the video.
        parts: of it, all of them.
        model: that they were localized with.
        output: that holds their results.
        jsonl: also write JSON Lines.
    """
    manifest = Manifest.from_json(model.manifest, item.sources[0])
    write_results(output, item, schema_of(manifest, model.sha256), _joined(parts, manifest, output), jsonl=jsonl)
    output.remove(f"parts/{item.key}")


def _joined(parts: Sequence[Item], manifest: Manifest, output: Output) -> Iterator[tuple[str, Frame | LeftOut]]:
    """Frames of the video with the track ids that its objects have in the whole of it."""
    joiner = PartJoiner(max(part.part.warm_up for part in parts if part.part))
    gap: LeftOut | None = None
    for piece in parts:
        assert piece.part is not None
        (source,) = piece.sources
        rows = output.read_rows(output.landmarks_path(piece))
        by_frame = {index: list(some) for index, some in groupby(rows, _frame)}
        indices = _indices(piece.part, by_frame)
        joined = joiner.add([landmarks_of(by_frame.get(index, []), manifest) for index in indices])
        for index, found in zip(indices[piece.part.warm_up :], joined, strict=True):
            if index not in by_frame:
                continue
            if gap is not None:  # it reaches to the next frame that has a row
                yield source, replace(gap, count=index - gap.index)
                gap = None
            row = by_frame[index][0]
            if row["error"] is None:
                yield source, Frame(index, row["time_ms"], _NO_IMAGE, found)
            else:
                gap = LeftOut(index, row["error"], time_ms=row["time_ms"])
    if gap is not None:
        yield source, gap


def _indices(part: Part, read: dict[int, Any]) -> range:
    """Frames of a part with its warm-up, also those without a row: one row of what is missing stands for many."""
    end = part.last if part.last is not None else max([part.first, *(index + 1 for index in read)])
    return range(part.first - part.warm_up, end)


def _frame(row: dict[str, Any]) -> int:
    return int(row["frame"])
