"""Privacy: messages without the passwords of URLs, and no identifier of the machine on its disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cunet_deploy._files import shown_name

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://me:secret@10.0.0.9/cam", "rtsp://10.0.0.9/cam"),
        ("http://me@host/a@b.mp4", "http://host/a@b.mp4"),
        ("http://host/a@b.mp4", "http://host/a@b.mp4"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
    ],
)
def test_names_of_streams_are_shown_without_passwords(text: str, shown: str) -> None:
    assert shown_name(text) == shown


def test_onnx_runtime_keeps_no_identifier_of_the_machine(tmp_path: Path) -> None:
    code = (
        "from cunet_deploy import Localizer; import numpy as np; "
        "Localizer('face68-xs', threads=1).predict(np.zeros((64, 64, 3), np.uint8))"
    )
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": "",
        "PYTHONPATH": str(ROOT),
        "CUNET_CACHE": "off",
    }
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []
