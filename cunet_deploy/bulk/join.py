"""Results of a long video from those of its parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from cunet_deploy.bulk.items import Item, Part
from cunet_deploy.bulk.results import Output, landmarks_of, rows_of, schema_of
from cunet_deploy.bulk.worker import Model
from cunet_deploy.landmarks import Landmarks
from cunet_deploy.manifest import Manifest
from cunet_deploy.tracking.join import PartJoiner

__all__ = ["join_parts"]


def join_parts(item: Item, parts: Sequence[Item], model: Model, output: Output) -> None:
    """Write the results of a video from those of its parts, and remove these: tracks go on across the joints."""
    manifest = Manifest.from_json(model.manifest, item.sources[0])
    schema = schema_of(manifest, model.sha256)
    joiner = PartJoiner(max(part.part.warm_up for part in parts if part.part))

    def rows() -> Iterator[list[dict[str, Any]]]:
        for piece in parts:
            assert piece.part is not None
            by_frame = {
                index: list(some) for index, some in groupby(output.read_rows(output.landmarks_path(piece)), _frame)
            }
            indices = _indices(piece.part, by_frame)
            joined = joiner.add([landmarks_of(by_frame.get(index, []), manifest) for index in indices])
            for index, found in zip(indices[piece.part.warm_up :], joined, strict=True):
                if index in by_frame:
                    yield _renumbered(by_frame[index], found)

    output.write_rows(output.landmarks_path(item), schema, rows())
    output.remove(f"parts/{item.key}")


def _indices(part: Part, read: dict[int, Any]) -> range:
    """Frames of a part with its warm-up, also those without a row: one row of what is missing stands for many."""
    end = part.last if part.last is not None else max([part.first, *(index + 1 for index in read)])
    return range(part.first - part.warm_up, end)


def _frame(row: dict[str, Any]) -> int:
    return int(row["frame"])


def _renumbered(rows: list[dict[str, Any]], found: Landmarks) -> list[dict[str, Any]]:
    """The rows of a frame with the track ids that its objects have in the whole video."""
    if rows[0]["id"] is None:
        return rows
    return rows_of(found, **{key: rows[0][key] for key in ("source", "frame", "time_ms")})
