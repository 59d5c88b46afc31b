"""Make the picture at the top of README.md: landmarks of a face, and of a body beside it where there is one.

    python -m tools.docs.picture                  # NASA's picture of an astronaut (Eileen Collins, public domain)
    python -m tools.docs.picture --body walk.jpg  # and a picture of a person that anyone may copy

Both are what `Localizer.predict` finds, enlarged or shrunk to the same height.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import Localizer
from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.drawing import draw_landmarks
from cunet_deploy.errors import InputError
from cunet_deploy.media import read_image
from tools.reports import errors_in_a_line

ROOT = Path(__file__).resolve().parents[2]
HEIGHT = 420
"""Height of the picture, in pixels."""
MARGINS = {"face68-s": 0.9, "pose14-s": 0.15}
"""Models, and the margin of what is shown around the box of what they find, in longer sides of the box."""


@click.command()
@click.option("--body", type=click.Path(path_type=Path), help="Picture of a person, to show beside the face.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=ROOT / "docs" / "astronaut.jpg", show_default=True
)
@errors_in_a_line
def main(body: Path | None, output: Path) -> None:
    """Write the picture."""
    pictures = [ROOT / "tests" / "data" / "astronaut.jpg", *([] if body is None else [body])]
    parts = [panel(path, model, MARGINS[model]) for path, model in zip(pictures, MARGINS, strict=False)]
    joined = np.concatenate(parts, axis=1)
    write_bytes_atomic(
        output, cv2.imencode(".jpg", joined, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes(), overwrite=True
    )


def panel(path: Path, model: str, margin: float) -> NDArray[np.uint8]:
    """(`HEIGHT`, W, 3) BGR: the surroundings of the first thing that a model finds in a picture, with its landmarks."""
    image = read_image(path)
    with Localizer(model) as localizer:
        found = localizer.predict(image)
    if not len(found):
        raise InputError(f"{path}: {model} finds nothing in it; choose another picture")
    low, high = found.boxes[0, :2], found.boxes[0, 2:]
    around = margin * float((high - low).max())
    if model.startswith("face"):  # a square
        low, high = (low + high - (high - low).max()) / 2, (low + high + (high - low).max()) / 2
    left, top = np.maximum(low - around, 0).astype(int)
    right, bottom = np.minimum(high + around, image.shape[1::-1]).astype(int)
    scale = HEIGHT / (bottom - top)
    size = round((right - left) * scale), HEIGHT
    shown = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_CUBIC)
    points = (found.points[:1] - (left, top) + 0.5) * scale - 0.5
    return draw_landmarks(np.asarray(shown, np.uint8), points, found.ids[:1], found.skeleton)


if __name__ == "__main__":
    main()
