"""A window that shows frames as they are done."""

from __future__ import annotations

import contextlib
import os
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import CunetError, MissingDependencyError

__all__ = ["Window"]

_ESCAPE = 27
_INSTALL = "pip uninstall -y opencv-python-headless && pip install opencv-python"


class Window:
    """A window. Use it from the main thread: some systems have windows there only."""

    def __init__(self, title: str) -> None:
        """Open a window.

        Args:
            title: its name.

        Raises:
            CunetError: there is no display.
            MissingDependencyError: this OpenCV has no windows; the message is the install line.
        """
        self._title = title
        if _headless():
            raise MissingDependencyError(f"this OpenCV has no windows to show frames in; run: {_INSTALL}")
        # Qt ends the whole process where it finds no display
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise CunetError("there is no display to show frames on; set DISPLAY, or write a video instead")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise MissingDependencyError(f"this OpenCV opens no window ({error.err}); run: {_INSTALL}") from error
        self._sized = False

    def show(self, image: NDArray[np.uint8]) -> bool:
        """Show a frame; false when the window was closed, or Esc or q pressed."""
        if not self._sized:
            cv2.resizeWindow(self._title, min(image.shape[1], 1600), min(image.shape[0], 900))
            self._sized = True
        cv2.imshow(self._title, image)
        key = cv2.waitKey(1) & 0xFF
        return key not in (_ESCAPE, ord("q")) and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        """Close it, if its user did not."""
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(self._title)


def _headless() -> bool:
    lines = cv2.getBuildInformation().splitlines()
    return any(line.split() == ["GUI:", "NONE"] for line in lines)
