"""Measure how far a body reaches beyond its outermost joints, for `cunet_deploy.data.bodies.MARGINS`.

    python -m tools.experiments.body_margins people#fashion_train people#coco_train --data DATA

Takes people whose boxes were drawn to the outline of the body and of whom nearly all joints are labelled. Sides of a
box that lie on the edge of the photo say nothing and are left out.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click
import numpy as np

from cunet_deploy.data.bodies import joint_kind, torso_length
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.readers import read_examples
from cunet_deploy.skeletons import COCO17
from tools.reports import errors_in_a_line

_LEAST_JOINTS = 15
_EDGE = 2.0


@click.command()
@click.argument("sets", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds them.")
@errors_in_a_line
def main(sets: tuple[str, ...], data: Path) -> None:
    """Print the median margin of each joint, in lengths of the torso, and how many sides it comes from."""
    margins: dict[str, list[float]] = defaultdict(list)
    photos = PhotoCache()
    for name in sets:
        for example in read_examples(Path(f"{data}/{name}"), COCO17, "coco"):
            points, box = example.points, example.given
            torso = torso_length(points, COCO17)
            if box is None or not torso or np.isfinite(points).all(axis=1).sum() < _LEAST_JOINTS:
                continue
            height, width = photos[example.image].shape[:2]
            for axis, length in enumerate((width, height)):
                for place, sign in ((box[axis], -1), (box[axis + 2], 1)):
                    if not _EDGE <= place <= length - 1 - _EDGE:
                        continue
                    outer = int(np.nanargmax(sign * points[:, axis]))
                    kind = joint_kind(COCO17.landmarks[outer]) or "other"
                    margins[kind].append(float(sign * (place - points[outer, axis]) / torso))
    for kind, values in sorted(margins.items()):
        click.echo(f"{kind:10} {np.median(values):5.2f} of the torso, {len(values)} sides")


if __name__ == "__main__":
    main()
