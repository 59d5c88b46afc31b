"""``cunet-deploy synth``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click

from cunet_deploy.cli._options import progress
from cunet_deploy.cli._report import advancing
from cunet_deploy.errors import InputError

__all__ = ["command"]


@click.group("synth")
def command() -> None:
    """Render labelled pictures of people from assets that anyone may use (CC0).

    Needs the extra [synth], and OpenGL without a window: a GPU's, or Mesa's software (Debian and Ubuntu: apt-get
    install libegl1 libgl1-mesa-dri).

    \b
    Example:
      cunet-deploy synth faces -n 20000 -o renders --workers 8
    """


@command.command("faces")
@click.option("-n", "--count", type=click.IntRange(1, 10_000_000), required=True, help="Number of faces.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder: new, or of the run to go on with."
)
@click.option("--size", type=int, default=192, show_default=True, help="Side of the pictures in pixels.")
@click.option("--yaw", type=float, default=90.0, show_default=True, help="Largest turn to either side in degrees.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is random.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes.  [default: the number of processors]")
@click.option(
    "--style",
    type=click.Choice(["colour", "grey", "infrared"]),
    default="colour",
    show_default=True,
    help="Kind of camera; infrared has its own lamp.",
)
@click.option(
    "--hidden",
    type=click.Choice(["edge", "through"]),
    default="edge",
    show_default=True,
    help="Where landmarks lie that the head hides: at the visible edge, as people annotate, or where they truly are.",
)
@click.option("--distance", metavar="NEAR:FAR", default="0.6:4", show_default=True, help="Of the camera in metres.")
@click.option(
    "--elevation",
    metavar="LOW:HIGH",
    default="-32:32",
    show_default=True,
    help="Degrees from which the camera looks down at the face.",
)
@click.option("--focal", type=float, metavar="PIXELS", help="Focal length: far faces lose detail accordingly.")
@click.option("--noise", type=float, metavar="LEVELS", help="Largest standard deviation of noise, in grey levels.")
@click.option(
    "--without",
    multiple=True,
    metavar="GROUP",
    help="Leave a group out, all else unchanged: children, laughs, hair, fringes, beards, glasses, hats, collars, "
    "hands, objects, stage-light, heads, environments, blur, low-light, jpeg. May be given several times.",
)
@click.option("--backgrounds", type=click.Path(), metavar="DIR", help="Your pictures to put behind the heads.")
@click.option("--environments", type=click.Path(), metavar="DIR", help="Your .exr or .hdr panoramas for light.")
def faces(count: int, output: Path, workers: int | None, distance: str, elevation: str, **given: Any) -> None:
    """Render faces with 68 landmarks, in the layout of 300-W.

    Writes OUTPUT/faces/NUMBER.jpg and .pts, which `train` reads (train = ["faces"], --data OUTPUT), and a line for each
    in OUTPUT/faces.jsonl: pose, expression, light, what covers the face, and for each landmark whether it is visible
    (2), covered (1) or hidden by the head itself (0). The same options give the same files however many workers there
    are; a run that was interrupted goes on when the command is given again.

    \b
    Example:
      cunet-deploy synth faces -n 20000 -o renders --style infrared --distance 0.4:0.9
    """
    from cunet_deploy.synthesis.dataset import write_faces
    from cunet_deploy.synthesis.options import FaceOptions

    options = FaceOptions(distance=_pair("--distance", distance), elevation=_pair("--elevation", elevation), **given)
    processes = workers or os.cpu_count() or 1
    with advancing(progress(), "rendering", count) as advance:
        rendered = write_faces(options, count, output, workers=processes, advance=advance)
    before = f" ({count - rendered} of them from an earlier run)" if rendered < count else ""
    click.echo(f"{output}: {count} faces{before}")
    logging.getLogger(__name__).info("faces.jsonl describes them; synth.json names the assets and their licences")


def _pair(option: str, text: str) -> tuple[float, float]:
    """``"0.6:4"`` as two numbers."""
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(f"{option} is {text!r}; expected two numbers with a colon between, such as 0.6:4") from None
