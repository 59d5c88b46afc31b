"""Makes tests/data/demo.mp4 and demo_motion.json: a virtual camera over NASA's picture of an astronaut.

The picture (Eileen Collins, NASA, public domain) ships with scikit-image. The camera pans, zooms and turns smoothly, so
the true motion of every pixel is known: ``demo_motion.json`` holds for each frame the 2x3 matrix from pixels of the
picture to pixels of the frame, both with (0, 0) at the centre of the top-left pixel.

    python tests/data/make_demo_clip.py [--image astronaut.png]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS, FRAMES = 320, 240, 25, 100
FACE = (224.0, 118.0)
"""Middle of the face in the picture."""
DATA = Path(__file__).resolve().parent


def camera(index: int) -> NDArray[np.float64]:
    """(2, 3) matrix from picture to frame: one slow loop that ends where it began."""
    phase = 2 * math.pi * index / FRAMES
    scale = 1.25 + 0.35 * math.sin(phase)
    angle = math.radians(10 * math.sin(2 * phase))
    # where the face stands in the frame: an ellipse around the middle
    place = (WIDTH / 2 - 0.5 + 45 * math.sin(phase), HEIGHT / 2 - 0.5 + 18 * math.cos(phase))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    matrix[:, 2] = place - matrix[:, :2] @ FACE
    return matrix


def picture(path: Path | None) -> NDArray[np.uint8]:
    """The astronaut, (512, 512, 3) BGR."""
    if path is None:
        from skimage import data  # type: ignore[import-not-found]  # pip install scikit-image

        return np.ascontiguousarray(data.astronaut()[:, :, ::-1])
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path}: is not an image; expected the 512x512 astronaut.png")
    return np.asarray(image, np.uint8)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="the picture, if scikit-image is not installed")
    parser.add_argument("--out", type=Path, default=DATA, help="folder to write to")
    options = parser.parse_args()
    image = picture(options.image)
    options.out.mkdir(parents=True, exist_ok=True)

    clip, motion = options.out / "demo.mp4", []
    temporary = options.out / ".demo.mp4"
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
    for index in range(FRAMES):
        matrix = camera(index)
        frame = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        writer.write(frame)
        motion.append([[round(float(value), 6) for value in row] for row in matrix])
    writer.release()
    temporary.replace(clip)
    table = {"picture_to_frame": motion, "face_in_picture": FACE, "size": [WIDTH, HEIGHT], "fps": FPS}
    (options.out / "demo_motion.json").write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{clip}: {FRAMES} frames, {clip.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
