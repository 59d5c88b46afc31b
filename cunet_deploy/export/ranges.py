"""Recorded activation ranges: a readable file, so that quantizing again needs no photos."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cunet_deploy._decode import decode_json
from cunet_deploy._files import write_text_atomic
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.errors import InputError
from cunet_deploy.export.calibration import ACTIVATION_BITS
from cunet_deploy.quantize.floats import Ranges
from cunet_deploy.quantize.observers import RangeRule

__all__ = ["read_ranges", "write_ranges"]

FORMAT = 1


def write_ranges(
    ranges: Ranges,
    checkpoint: Checkpoint,
    path: Path,
    *,
    crops: int,
    rule: RangeRule | None = None,
    overwrite: bool = False,
) -> None:
    """Write ranges with the checksum of the weights that they belong to and how they were chosen.

    Args:
        ranges: of each activation group.
        checkpoint: whose ranges they are.
        path: the file.
        crops: how many were seen.
        rule: how the ranges were chosen; ``None``: they cover every value.
        overwrite: replace the file where it exists.
    """
    rule = rule or RangeRule()
    parameters: dict[str, Any] = {}
    if rule.method == "percentile":
        parameters["percentile"] = rule.percentile
    elif rule.method != "min-max":
        parameters["activation_bits"] = ACTIVATION_BITS
    table = {
        "format": FORMAT,
        "model": checkpoint.config.name,
        "checkpoint": checkpoint.checksum,
        "method": rule.method,
        **parameters,
        "crops": crops,
        "ranges": {name: [round(low, 6), round(high, 6)] for name, (low, high) in ranges.items()},
    }
    write_text_atomic(path, json.dumps(table, indent=1) + "\n", overwrite=overwrite)


@dataclass(frozen=True)
class _Recorded:
    """Keys that are read from the file; the rest is for people."""

    checkpoint: str
    ranges: dict[str, tuple[float, float]]


def read_ranges(path: Path, checkpoint: Checkpoint) -> Ranges:
    """Read ranges for a checkpoint.

    Raises:
        InputError: the file is missing, is something else, or was recorded for other weights.
    """
    try:
        recorded = decode_json(path.read_bytes(), _Recorded)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected a folder of photos or a ranges file"
        ) from error
    except InputError as error:
        raise InputError(f"{path}: is not a ranges file ({error}); make one with cunet-deploy calibrate") from error
    if recorded.checkpoint != checkpoint.checksum:
        raise InputError(f"{path}: was recorded for other weights; run cunet-deploy calibrate on this checkpoint")
    return recorded.ranges
