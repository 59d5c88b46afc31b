from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from cunet_deploy.errors import CunetError, MissingDependencyError
from cunet_deploy.media import Window

IMAGE = np.zeros((1200, 1800, 3), np.uint8)


class Screen:
    """Stands for OpenCV's windows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gui: str) -> None:
        self.key, self.visible = -1, 1.0
        self.calls: list[str] = []
        monkeypatch.setattr(cv2, "getBuildInformation", lambda: f"\n  GUI:                 {gui}\n")
        results = {"waitKey": lambda: self.key, "getWindowProperty": lambda: self.visible}
        for name in ("namedWindow", "resizeWindow", "imshow", "waitKey", "getWindowProperty", "destroyWindow"):
            monkeypatch.setattr(cv2, name, self._recorded(name, results.get(name, lambda: None)))

    def _recorded(self, name: str, result: Callable[[], Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return result()

        return call


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("DISPLAY", ":0")
    return Screen(monkeypatch, "QT5")


def test_frames_are_shown(screen: Screen) -> None:
    window = Window("clip")
    assert window.show(IMAGE)
    assert window.show(IMAGE)
    window.close()
    shows = ["imshow", "waitKey", "getWindowProperty"]
    assert screen.calls == ["namedWindow", "resizeWindow", *shows, *shows, "destroyWindow"]


@pytest.mark.parametrize("key", [ord("q"), 27, ord("q") + 256])
def test_a_key_ends_it(screen: Screen, key: int) -> None:
    screen.key = key
    assert not Window("clip").show(IMAGE)


def test_closing_the_window_ends_it(screen: Screen) -> None:
    screen.visible = 0.0
    assert not Window("clip").show(IMAGE)


def test_a_headless_opencv_names_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    Screen(monkeypatch, "NONE")
    with pytest.raises(MissingDependencyError, match="pip install opencv-python") as caught:
        Window("clip")
    assert caught.value.exit_code == 5


def test_without_a_display_no_window_is_tried(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(CunetError, match="there is no display"):
        Window("clip")
    assert screen.calls == []


def test_an_opencv_that_opens_no_window_names_the_install_line(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise cv2.error("not implemented")

    monkeypatch.setattr(cv2, "namedWindow", fail)
    with pytest.raises(MissingDependencyError, match="pip install opencv-python"):
        Window("clip")
