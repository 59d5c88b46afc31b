"""Everything in README.md, docs/ and the models' cards that is made from recorded measurements.

python -m tools.docs write    # bring it up to date
python -m tools.docs check    # name what is not current; exit code 1
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from cunet_deploy.errors import CunetError
from tools import head_pose
from tools.docs import models, processors, serving, speed
from tools.experiments import (
    conventions,
    crop_sizes,
    curve,
    generalization,
    labels,
    learning_curve,
    object_sizes,
    reproduce,
)
from tools.release import detectors, media, people, reliability, sides, steadiness, video
from tools.reports import errors_in_a_line

ROOT = Path(__file__).resolve().parents[2]

OF_CARDS = (models, detectors, people, steadiness, reliability, sides, video)
GENERATED: tuple[Callable[..., list[Path]], ...] = (
    *(partial(module.update_cards, ROOT / "models") for module in OF_CARDS),
    speed.update,
    processors.update,
    serving.update,
    media.update,
    labels.update,
    curve.update,
    generalization.update,
    learning_curve.update,
    crop_sizes.update,
    object_sizes.update,
    conventions.update,
    reproduce.update,
    head_pose.update,
)
"""Each lists the documents that are not current, and none after ``write=True``."""


@click.group()
def main() -> None:
    """Write or check what is made from recorded measurements."""


@main.command()
@errors_in_a_line
def write() -> None:
    """Bring all generated text up to date."""
    for update in GENERATED:
        update(write=True)


@main.command()
@errors_in_a_line
def check() -> None:
    """Name the documents that are not current."""
    stale = stale_documents()
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise CunetError(f"not current: {names}; run: python -m tools.docs write")


def stale_documents() -> list[Path]:
    """The documents that are not what the recorded measurements make of them."""
    return [path for update in GENERATED for path in update(write=False)]


if __name__ == "__main__":
    main()
