"""Pictures and videos of every suffix, and what reads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cunet_deploy.media import open_source

MOST_FRAMES = 100
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
CODECS = {
    ".mp4": "mp4v",
    ".mov": "mp4v",
    ".m4v": "mp4v",
    ".mkv": "mp4v",
    ".avi": "MJPG",
    ".webm": "VP80",
    ".ts": "mpg2",
    ".mpg": "PIM1",
    ".mpeg": "PIM1",
    ".wmv": "WMV2",
    ".flv": "FLV1",
}


def picture(width: int = 64, height: int = 48, shift: int = 0) -> Any:
    """Shapes on a gradient: enough for a codec to work with."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)
    cv2.circle(image, (width // 3 + 3 * shift, height // 2), height // 4, (30, 200, 250), -1)
    return image


def write_images(root: Path) -> list[Path]:
    for suffix in IMAGE_SUFFIXES:
        cv2.imwrite(str(root / f"p{suffix}"), picture()[:, :, 0] if suffix == ".pgm" else picture())
    cv2.imwrite(str(root / "grey16.png"), picture()[:, :, 0].astype(np.uint16) * 100)
    cv2.imwrite(str(root / "alpha.png"), np.dstack([picture(), picture()[:, :, :1]]))
    return sorted(root.iterdir())


def write_videos(root: Path) -> list[Path]:
    for suffix, codec in CODECS.items():
        path = root / f"v{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
        for index in range(6):
            writer.write(picture(shift=index))
        writer.release()
        if not path.is_file() or not path.stat().st_size:
            path.unlink(missing_ok=True)  # an OpenCV without that codec
    shutil.copy(Path(__file__).parent.parent / "data" / "demo.mp4", root / "h264.mp4")
    animation = cv2.Animation()
    animation.frames, animation.durations = [picture(shift=index) for index in range(4)], [40] * 4
    cv2.imwriteanimation(str(root / "v.gif"), animation)
    return sorted(root.iterdir())


def watch(root: Path, path: Path) -> None:
    for index, picture in enumerate(open_source(path)):
        assert picture.image.ndim == 3
        if index == MOST_FRAMES:
            break
