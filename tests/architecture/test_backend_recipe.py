"""The recipe for a backend in docs/architecture.md, followed with a dummy: one module and one row, and all know it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from dots import scene, write_model

import cunet_deploy
from cunet_deploy import Localizer
from cunet_deploy.cli import cli
from cunet_deploy.errors import InputError
from cunet_deploy.sessions import choose_backend, open_session
from cunet_deploy.sessions.registry import BACKENDS, Backend

MODULE = '''
from cunet_deploy.sessions.registry import find_backend

class Negative:
    """ONNX Runtime under another name."""

    def __init__(self, session):
        self._session, self.manifest, self.backend = session, session.manifest, "dummylib 1.0"

    def run(self, images):
        return self._session.run(images)

    def close(self):
        self._session.close()

def open_backend(path, backend, *, threads, trust):
    row = find_backend("ort:cpu")
    return Negative(row.load().open_backend(path, row, threads=threads, trust=trust))

def missing(backend):
    return ""

def describe(backend):
    return "1.0"
'''


@pytest.fixture
def dummy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The module and the row; both are gone after the test."""
    (tmp_path / "dummy_backend.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = Backend("dummy", "DummyLib", "dummy_backend", ".onnx", "for this test", packages=("numpy",), measured=True)
    monkeypatch.setitem(BACKENDS, "dummy", row)
    return row


@pytest.mark.usefixtures("dummy")
def test_one_row_makes_a_backend_known_everywhere(tmp_path: Path) -> None:
    model = write_model(tmp_path / "dots.onnx")
    image, points = scene()
    with Localizer(model, threads=1, backend="dummy", detector="full") as localizer:
        assert localizer.backend == "dummylib 1.0"
        np.testing.assert_allclose(localizer.predict(image).points[0], points, atol=1.5)
    help_text = " ".join(CliRunner().invoke(cli, ["infer", "--help"]).output.split())
    assert "dummy" in help_text
    with pytest.raises(InputError, match=r"unknown backend 'dumy'; choose from .*dummy, auto"):
        open_session(model, backend="dumy")
    doctor = CliRunner().invoke(cli, ["doctor"])
    assert "DummyLib" in doctor.output
    assert "dummy             can run" in doctor.output
    assert set(choose_backend(model, threads=1).ms) >= {"ort:cpu", "dummy"}
    cv2.imwrite(str(tmp_path / "picture.png"), image)
    arguments = ["bench", model, "--backend", "dummy,ort:cpu", "--rounds", "1", "--calls", "1", "--json"]
    result = CliRunner().invoke(cli, [*map(str, arguments), str(tmp_path / "bench.json")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row["backend_name"] for row in report["models"]] == ["dummy", "ort:cpu"]
    assert "numpy" in report["versions"]


def test_without_the_row_nothing_knows_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown backend 'dummy'"):
        open_session(write_model(tmp_path / "dots.onnx"), backend="dummy")
    package = Path(cunet_deploy.__file__).parent
    named = [path.name for path in package.rglob("*.py") if '"openvino"' in path.read_text(encoding="utf-8")]
    assert sorted(named) == ["openvino.py", "registry.py"]  # its module and its row: that is how few a backend needs
