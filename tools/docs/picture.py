"""Make the picture at the top of README.md: ``python -m tools.docs.picture``.

It shows what `Localizer.predict` finds in NASA's picture of an astronaut (Eileen Collins, public domain), enlarged.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cunet_deploy import Localizer
from cunet_deploy.drawing import draw_landmarks
from cunet_deploy.media import read_image

ROOT = Path(__file__).resolve().parents[2]
SIDE = 420
"""Side of the picture, in pixels."""
MARGIN = 0.9
"""Margin of the part that is shown, around the face's box, in sides of the box."""


def main() -> None:
    """Write docs/astronaut.jpg."""
    image = read_image(ROOT / "tests" / "data" / "astronaut.jpg")
    with Localizer("face68-s") as localizer:
        found = localizer.predict(image)
    x0, y0, x1, y1 = found.boxes[0]
    half = max(x1 - x0, y1 - y0) * (0.5 + MARGIN)
    left, top = (int(max(middle - half, 0)) for middle in ((x0 + x1) / 2, (y0 + y1) / 2))
    side = int(min(2 * half, image.shape[1] - left, image.shape[0] - top))
    scale = SIDE / side
    shown = cv2.resize(image[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    points = (found.points - (left, top) + 0.5) * scale - 0.5
    drawn = draw_landmarks(np.asarray(shown, np.uint8), points, found.ids, found.skeleton)
    cv2.imwrite(str(ROOT / "docs" / "astronaut.jpg"), drawn, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
