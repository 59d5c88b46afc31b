"""The table of result formats.

To add one, write a module with a class that has what `ResultWriter` asks for, and add its row to `FORMATS`:
``--format`` and ``-o``, their help and errors, and the plan of files know it then.
"""

from __future__ import annotations

from pathlib import Path

from cunet_deploy.media.writers.base import ResultFormat
from cunet_deploy.media.writers.coco import CocoFile
from cunet_deploy.media.writers.csv_table import CsvFile
from cunet_deploy.media.writers.jsonl import JsonLinesFile
from cunet_deploy.media.writers.pts import PtsFiles

__all__ = ["FORMATS"]


def _pts_beside(stem: Path, of_one: bool) -> Path:
    return stem.with_name(f"{stem.name}.pts" if of_one else f"{stem.name}_pts")


_ROWS = (
    ResultFormat(
        "jsonl",
        "JSON Lines, one line per frame and object",
        ".jsonl",
        lambda stem, of_one: stem.with_name(f"{stem.name}.jsonl"),
        lambda path, options: JsonLinesFile(path, overwrite=options.overwrite),
        usual=True,
    ),
    ResultFormat(
        "csv",
        "a table, one row per frame and object",
        ".csv",
        lambda stem, of_one: stem.with_name(f"{stem.name}.csv"),
        lambda path, options: CsvFile(path, options.skeleton, named=options.named, overwrite=options.overwrite),
        usual=True,
    ),
    ResultFormat(
        "coco",
        "COCO keypoints",
        ".json",
        lambda stem, of_one: stem.with_name(f"{stem.name}.coco.json"),
        lambda path, options: CocoFile(
            path, options.skeleton, overwrite=options.overwrite, visible_score=options.visible_score
        ),
    ),
    ResultFormat(
        "pts",
        "300-W, one file per object",
        ".pts",
        _pts_beside,
        lambda path, options: PtsFiles(path, overwrite=options.overwrite),
        one_image=True,
        slow=True,
    ),
)

FORMATS: dict[str, ResultFormat] = {row.name: row for row in _ROWS}
"""All formats of results by their names, in the order in which files are listed."""
