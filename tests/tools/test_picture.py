"""The picture of README.md, with one and with two parts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cunet_deploy.media import read_image
from tools.docs import picture


def test_the_recorded_picture_is_what_the_command_draws(tmp_path: Path) -> None:
    out = tmp_path / "picture.jpg"
    result = CliRunner().invoke(picture.main, ["-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made, kept = (read_image(path).astype(int) for path in (out, picture.ROOT / "docs" / "astronaut.jpg"))
    assert made.shape[0] == picture.HEIGHT
    assert made.shape == kept.shape


def test_a_body_stands_beside_the_face(tmp_path: Path, astronaut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MARGINS", {"face68-s": 0.9, "face68-xs": 0.2})  # the astronaut has no legs
    out = tmp_path / "both.jpg"
    arguments = ["--body", str(astronaut), "-o", str(out)]
    result = CliRunner().invoke(picture.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    height, width, _ = read_image(out).shape
    assert height == picture.HEIGHT
    assert width > 1.3 * height


def test_a_picture_of_nobody_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(SystemExit, match="2"):
        picture.main.callback(tmp_path / "grey.png", tmp_path / "out.jpg")  # type: ignore[misc]
    assert "pose14-s finds nothing in it" in capsys.readouterr().err
    assert not (tmp_path / "out.jpg").exists()
