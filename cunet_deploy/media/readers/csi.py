"""Cameras on the CSI connector of a Jetson, which are read through NVIDIA's GStreamer elements."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import cv2

from cunet_deploy.errors import InputError, MissingDependencyError
from cunet_deploy.media.frames import FrameSize
from cunet_deploy.media.readers.live import LiveSource

__all__ = ["csi_pipeline", "open_csi"]

_USUAL = FrameSize(1280, 720, 30)


def csi_pipeline(url: str, size: FrameSize | None = None) -> str:
    """The GStreamer pipeline of a camera. It drops frames that nobody takes, so that it never lags.

    Args:
        url: ``csi://NUMBER`` or ``csi://NUMBER?flip=METHOD``; the method, 0 to 7, is that of ``nvvidconv`` and turns
            the image: 2 by half a turn.
        size: of the frames, by default 1280x720 at 30 frames per second; one of the sensor's modes costs least.

    Raises:
        InputError: the URL is written otherwise.
    """
    parts = urlsplit(url)
    turn = dict(parse_qsl(parts.query, keep_blank_values=True))
    flip = turn.pop("flip", "0")
    if not parts.netloc.isdecimal() or parts.path.strip("/") or turn or flip not in tuple("01234567"):
        raise InputError(f"{url!r} is no CSI camera; write csi://0, or csi://0?flip=2 with a number from 0 to 7")
    wanted = size or _USUAL
    fps = f"{(wanted.fps or 30) * 1000:.0f}/1000"
    return (
        f"nvarguscamerasrc sensor-id={int(parts.netloc)} ! "
        f"video/x-raw(memory:NVMM), width={wanted.width}, height={wanted.height}, framerate={fps}, format=NV12 ! "
        f"nvvidconv flip-method={flip} ! video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )


def open_csi(url: str, size: FrameSize | None = None, *, timeout: float = 10.0, reconnect: float = 30.0) -> LiveSource:
    """Open a camera; see `csi_pipeline`.

    Raises:
        InputError: the URL is written otherwise.
        MissingDependencyError: this OpenCV has no GStreamer.
        CunetError: the camera cannot be opened.
    """
    pipeline = csi_pipeline(url, size)
    name = url.partition("?")[0]
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise MissingDependencyError(
            f"{name}: this OpenCV has no GStreamer, as those from PyPI; on a Jetson use the system's: "
            f"pip uninstall opencv-python-headless. The pipeline would be: {pipeline}"
        )
    limit = round(timeout * 1000)

    def connect() -> Any:
        settings = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, settings)
        # those before 4.10 know no time-outs and refuse them
        return capture if capture.isOpened() else cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)

    return LiveSource(
        connect,
        name=name,
        stem=name.replace("://", ""),
        advice=f"check the cable and `systemctl restart nvargus-daemon`. The pipeline was: {pipeline}",
        timeout=timeout,
        reconnect=reconnect,
    )
