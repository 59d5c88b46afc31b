"""Pictures and videos of every suffix, and what reads them."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from cunet_deploy.media import open_source
from cunet_deploy.media.readers.images import HEIC_SUFFIXES, IMAGE_SUFFIXES
from cunet_deploy.media.readers.video import VIDEO_SUFFIXES
from tools.heic import heic

MOST_FRAMES = 100
FRAMES = 6

VIDEOS = {
    ".mp4": ("mp4", "mpeg4"),
    ".m4v": ("mp4", "mpeg4"),
    ".mov": ("mov", "mjpeg"),
    ".3gp": ("3gp", "mpeg4"),
    ".mkv": ("matroska", "mpeg4"),
    ".webm": ("webm", "libvpx"),
    ".avi": ("avi", "mjpeg"),
    ".ts": ("mpegts", "mpeg2video"),
    ".mts": ("mpegts", "mpeg2video"),
    ".m2ts": ("mpegts", "mpeg2video"),
    ".mpg": ("mpeg", "mpeg1video"),
    ".mpeg": ("mpeg", "mpeg1video"),
    ".vob": ("vob", "mpeg2video"),
    ".mxf": ("mxf", "mpeg2video"),
    ".wmv": ("asf", "wmv2"),
    ".flv": ("flv", "flv1"),
    ".ogv": ("ogg", "libvpx"),
    ".mjpeg": ("mjpeg", "mjpeg"),
    ".mjpg": ("mjpeg", "mjpeg"),
}
"""Container and codec of each suffix, as FFmpeg calls them; GIF is written by OpenCV."""


def picture(width: int = 64, height: int = 48, shift: int = 0) -> NDArray[np.uint8]:
    """Shapes on a gradient: enough for a codec to work with."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)
    cv2.circle(image, (width // 3 + 3 * shift, height // 2), height // 4, (30, 200, 250), -1)
    return image


def write_images(root: Path) -> list[Path]:
    """One of each suffix, and those that hold more than eight bits of three colours once."""
    for suffix in IMAGE_SUFFIXES:
        if suffix in HEIC_SUFFIXES:
            data = heic([picture(64, 64)] * 2, grid=(1, 2, 100, 60)) if suffix == ".hif" else heic([picture()])
        else:
            image = picture()[:, :, 0] if suffix == ".pgm" else picture()
            data = cv2.imencode({".jfif": ".jpg", ".jpe": ".jpg"}.get(suffix, suffix), image)[1].tobytes()
        (root / f"p{suffix}").write_bytes(data)
    cv2.imwrite(str(root / "grey16.png"), picture()[:, :, 0].astype(np.uint16) * 100)
    cv2.imwrite(str(root / "alpha.png"), np.dstack([picture(), picture()[:, :, :1]]))
    cv2.imwritemulti(str(root / "pages.tif"), [picture(), picture(shift=2)])
    animation = cv2.Animation()
    animation.frames, animation.durations = [picture(shift=index) for index in range(3)], [40] * 3
    for name in ("animated.webp", "animated.png"):
        cv2.imwriteanimation(str(root / name), animation)
    turned = bytes.fromhex("ffe1002245786966000049492a0008000000010012010300010000000600000000000000")
    (root / "turned.jpg").write_bytes((root / "p.jpg").read_bytes()[:2] + turned + (root / "p.jpg").read_bytes()[2:])
    return sorted(root.iterdir())


def write_videos(root: Path) -> list[Path]:
    """One of each suffix, and a clip with H.264."""
    for suffix, (container, codec) in VIDEOS.items():
        _encode(root / f"v{suffix}", container, codec)
    _encode(root / "fragments.mp4", "mp4", "mpeg4", {"movflags": "frag_keyframe+empty_moov"})
    shutil.copy(Path(__file__).parent.parent / "data" / "demo.mp4", root / "h264.mp4")
    animation = cv2.Animation()
    animation.frames, animation.durations = [picture(shift=index) for index in range(4)], [40] * 4
    cv2.imwriteanimation(str(root / "v.gif"), animation)
    files = sorted(root.iterdir())
    missing = {*VIDEO_SUFFIXES} - {path.suffix for path in files if path.stat().st_size}
    assert not missing, f"no good file for {missing}"
    return files


def _encode(path: Path, container: str, codec: str, options: dict[str, str] | None = None) -> None:
    import av

    file: Any = av.open(str(path), "w", format=container, options=options or {})
    with file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height = (176, 144) if container in ("3gp", "mxf") else (64, 48)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = Fraction(1, 25)
        for index in range(FRAMES):
            pixels = picture(stream.width, stream.height, index)
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24").reformat(format=stream.pix_fmt)
            frame.pts = index
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def watch(root: Path, path: Path) -> None:
    """Read all frames, as `infer` does; what was left out counts as refused, in lines like other messages."""
    source = open_source(path)
    for index, shown in enumerate(source):
        assert shown.image.ndim == 3
        if index == MOST_FRAMES:
            break
    for one in getattr(source, "left_out", []):
        raise InputError(f"{one.name}: {one.reason}")
