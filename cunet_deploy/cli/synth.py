"""``cunet-deploy synth``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cunet_deploy._files import atomic_path
from cunet_deploy.cli._interrupts import saying_what_is_kept
from cunet_deploy.cli._options import AnyPath, FilePath, check_picture_name, overwrite_option, progress
from cunet_deploy.cli._report import advancing
from cunet_deploy.errors import InputError

if TYPE_CHECKING:  # the help of a command loads no numpy
    from cunet_deploy.synthesis.dataset import Job
    from cunet_deploy.synthesis.options import FaceOptions

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group("synth")
def command() -> None:
    """Render labelled pictures of people from assets that anyone may use (CC0).

    Needs the extra [synth] and offscreen OpenGL: that of a GPU, or Mesa's software renderer (Debian and Ubuntu: apt-get
    install libegl1 libgl1-mesa-dri).

    \b
    Example:
      cunet-deploy synth faces -n 20000 -o renders --workers 8
    """


def _camera_options(function: F) -> F:
    """Options of every kind of picture; see `FaceOptions`."""
    for option in reversed(_CAMERA_OPTIONS):
        function = option(function)
    return function


_CAMERA_OPTIONS = (
    click.option("--yaw", type=float, default=90.0, show_default=True, help="Largest turn to either side in degrees."),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random choices."),
    click.option("--workers", type=click.IntRange(1, 1024), help="Processes.  [default: the number of processors]"),
    click.option(
        "--style",
        type=click.Choice(["colour", "grey", "infrared"]),
        default="colour",
        show_default=True,
        help="Kind of camera; infrared has its own lamp.",
    ),
    click.option(
        "--hidden",
        type=click.Choice(["edge", "through"]),
        default="edge",
        show_default=True,
        help="Position of landmarks that the head hides: at the visible edge, as people annotate, or the true one.",
    ),
    click.option(
        "--distance",
        metavar="NEAR:FAR",
        default="0.6:4",
        show_default=True,
        help="Range of camera distances in metres.",
    ),
    click.option(
        "--elevation",
        metavar="LOW:HIGH",
        default="-32:32",
        show_default=True,
        help="Degrees from which the camera looks down at the face.",
    ),
    click.option("--noise", type=float, metavar="LEVELS", help="Largest standard deviation of noise, in grey levels."),
    click.option(
        "--without",
        multiple=True,
        metavar="GROUP",
        help="Leave a group out, everything else unchanged: children, laughs, hair, fringes, beards, glasses, hats, "
        "collars, hands, objects, stage-light, heads, environments, blur, low-light, jpeg. May be given several times.",
    ),
    click.option(
        "--backgrounds", type=AnyPath(path_type=str), metavar="DIR", help="Your pictures to put behind the heads."
    ),
    click.option(
        "--environments",
        type=AnyPath(path_type=str),
        metavar="DIR",
        help="Your .exr or .hdr panoramas for light and background.",
    ),
)
_output = click.option(
    "-o", "--output", type=AnyPath(), required=True, help="Folder: new, or of the run to go on with."
)


@command.command("faces")
@click.option("-n", "--count", type=click.IntRange(1, 10_000_000), required=True, help="Number of faces.")
@_output
@click.option("--size", type=int, default=192, show_default=True, help="Side of the pictures in pixels.")
@click.option("--focal", type=float, metavar="PIXELS", help="Focal length: far faces lose detail accordingly.")
@_camera_options
def faces(count: int, output: Path, workers: int | None, **given: Any) -> None:
    """Render faces with 68 landmarks, in the layout of 300-W.

    Writes OUTPUT/faces/NUMBER.jpg and .pts, which `train` reads (train = ["faces"], --data OUTPUT), and a line for each
    in OUTPUT/faces.jsonl: pose, expression, light, what covers the face, and for each landmark whether it is visible
    (2), covered (1) or hidden by the head itself (0). The same options give the same files however many workers there
    are; the same command continues an interrupted run.

    \b
    Example:
      cunet-deploy synth faces -n 20000 -o renders --style infrared --distance 0.4:0.9
    """
    from cunet_deploy.synthesis.faces import FaceJob

    _write(FaceJob(_face_options(given)), count, output, workers)


@command.command("scenes")
@click.option("-n", "--count", type=click.IntRange(1, 1_000_000), required=True, help="Number of scenes.")
@_output
@click.option("--size", type=int, default=480, show_default=True, help="Side of the scenes in pixels.")
@click.option("--heads", type=int, default=10, show_default=True, help="Largest number of heads in a scene.")
@_camera_options
def scenes(count: int, output: Path, workers: int | None, size: int, heads: int, **given: Any) -> None:
    """Render scenes with no, one or several heads, for detectors.

    Writes OUTPUT/scenes/NUMBER.jpg and OUTPUT/scenes/faces.json, which `train` reads (train = ["scenes"], layout =
    "faces"): tight boxes around the 68 landmarks, with score 0 where other heads or the picture's edge hide more than
    half of them. OUTPUT/scenes.jsonl has the landmarks, their visibility, and the yaw of each head.

    \b
    Example:
      cunet-deploy synth scenes -n 5000 -o renders --heads 6
    """
    from cunet_deploy.synthesis.scenes import SceneJob, SceneOptions

    _write(SceneJob(SceneOptions(_face_options(given), size, heads)), count, output, workers)


@command.command("turn")
@_output
@click.option("--size", type=int, default=320, show_default=True, help="Side of the frames in pixels.")
@click.option("--fps", type=float, default=25.0, show_default=True, help="Frames per second.")
@click.option(
    "--seconds",
    type=float,
    default=6.0,
    show_default=True,
    help="Duration of the clip: to one side, to the other, and back.",
)
@_camera_options
def turn(output: Path, workers: int | None, size: int, fps: float, seconds: float, **given: Any) -> None:
    """Render a clip of one head that turns to both sides, to test trackers.

    Writes OUTPUT/clip.mp4, its frames as OUTPUT/frames/NUMBER.jpg and .pts, and OUTPUT/frames.jsonl with time, pose and
    the visibility of each landmark. --seed chooses the person, --yaw how far the head turns.

    \b
    Example:
      cunet-deploy synth turn -o turning --seed 4
    """
    from cunet_deploy.synthesis.turns import TurnJob, TurnOptions

    options = TurnOptions(_face_options({**given, "size": size}), fps, seconds)
    _write(TurnJob(options), options.frames, output, workers)
    _encode(output, options.frames, fps)


def _encode(output: Path, count: int, fps: float) -> None:
    """Make ``clip.mp4`` of the frames."""
    from cunet_deploy.media.writers.video import VideoWriter

    frames = [output / "frames" / f"{number:06d}.jpg" for number in range(count)]
    first = _read(frames[0])
    path = output / "clip.mp4"
    with atomic_path(path, overwrite=True) as temporary:
        writer = VideoWriter(temporary, fps, (first.shape[1], first.shape[0]), name=path)
        for frame in frames:
            writer.write(_read(frame))
        writer.close()


def _read(path: Path) -> Any:
    import cv2

    image = cv2.imread(str(path))
    if image is None:
        raise InputError(f"{path}: cannot be read; remove it and {path.parent.parent / 'blocks'}, and run again")
    return image


@command.command("sheet")
@click.option("-n", "--count", type=click.IntRange(1, 400), default=40, show_default=True, help="Number of faces.")
@click.option("-o", "--output", type=FilePath(), required=True, help="Picture file to write: .png or .jpg.")
@click.option("--columns", type=click.IntRange(1, 40), default=8, show_default=True, help="Faces per row.")
@click.option(
    "--landmarks", is_flag=True, help="Draw the landmarks: green visible, yellow covered, red hidden by the head."
)
@click.option("--definition", is_flag=True, help="Draw the numbered landmarks on the base mesh instead of faces.")
@click.option("--size", type=int, default=192, show_default=True, help="Side of the pictures in pixels.")
@click.option("--focal", type=float, metavar="PIXELS", help="Focal length: far faces lose detail accordingly.")
@_camera_options
@overwrite_option
def sheet(
    count: int, output: Path, columns: int, landmarks: bool, definition: bool, overwrite: bool, **given: Any
) -> None:
    """Render the first faces side by side, to check the options before rendering many.

    \b
    Example:
      cunet-deploy synth sheet -o sheet.png --landmarks --style infrared
    """
    check_picture_name(output)
    given.pop("workers")
    options = _face_options(given)

    import cv2

    from cunet_deploy.synthesis.charts import draw_definition, draw_faces

    with atomic_path(output, overwrite=overwrite) as temporary:
        picture = draw_definition() if definition else draw_faces(options, count, columns, landmarks=landmarks)
        temporary.write_bytes(cv2.imencode(output.suffix, picture)[1].tobytes())
    click.echo(str(output))


def _face_options(given: dict[str, Any]) -> FaceOptions:
    from cunet_deploy.synthesis.options import FaceOptions

    pairs = {name: _pair(f"--{name}", given[name]) for name in ("distance", "elevation")}
    return FaceOptions(**{**given, **pairs})


def _write(job: Job, count: int, output: Path, workers: int | None) -> None:
    """Render with a progress bar, and say what was done."""
    from cunet_deploy.synthesis.dataset import count_rendered, write_renders

    def kept() -> str:
        done = count_rendered(output, count)
        return f"{done} of {count} {job.name} are in {output}; the same command goes on from there"

    with saying_what_is_kept(kept), advancing(progress(), "rendering", count) as advance:
        rendered = write_renders(job, count, output, workers=workers or os.cpu_count() or 1, advance=advance)
    before = f" ({count - rendered} of them from an earlier run)" if rendered < count else ""
    click.echo(f"{output}: {count} {job.name}{before}; synth.json names the assets and their licences")


def _pair(option: str, text: str) -> tuple[float, float]:
    """``"0.6:4"`` as two numbers."""
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(f"{option} is {text!r}; expected two numbers with a colon between, such as 0.6:4") from None
