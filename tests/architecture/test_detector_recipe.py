"""The recipe "A detector" of docs/architecture.md, followed with a dummy: one module, one row."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from dots import TEMPLATE, draw
from numpy.typing import NDArray

from cunet_deploy import Detector, InputError, Localizer, Session
from cunet_deploy.bench.frames import Frames
from cunet_deploy.bench.setups import Input
from cunet_deploy.cli import cli
from cunet_deploy.detection.open import open_detector
from cunet_deploy.detection.table import DETECTORS, DetectorKind
from cunet_deploy.media import ImageFiles

MODULE = "dummy_detector"


class Fixed:
    """Sees an object of the same size in the same place."""

    every, retry, exact, confident_score = 15, 3, False, 0.0

    def __init__(self, half: float) -> None:
        self.half = half

    def detect(
        self, image: NDArray[np.uint8], index: int = 0, name: str = "", known: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array([[150 - self.half, 110 - self.half, 150 + self.half, 110 + self.half]]), np.ones(1)

    def close(self) -> None:
        pass


def open_spec(argument: str, session: Session | None) -> Detector:
    return Fixed(float(argument))


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType(MODULE)
    vars(module)["open_spec"] = open_spec
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setitem(DETECTORS, "fixed", DetectorKind("fixed:HALF", "a fixed box", f"{MODULE}:open_spec"))
    yield
    monkeypatch.undo()
    with pytest.raises(InputError, match="'fixed:32' is not known"):
        open_detector("fixed:32")


def test_a_localizer_looks_with_it(dots_model: Path) -> None:
    points = TEMPLATE * 32 + [150, 110]
    with Localizer(dots_model, threads=1, detector="fixed:32") as localizer:
        (found,) = localizer.predict(draw(points[None], 32, (240, 320))).points
    assert np.abs(found - points).max() < 1


def test_bench_measures_with_it(astronaut: Path) -> None:
    work = Input(str(astronaut), "fixed:32").work()
    assert isinstance(work, Frames)
    assert isinstance(work.source, ImageFiles)
    assert work.detector == "fixed:32"


@pytest.mark.parametrize("command", ["infer", "bench"])
def test_help_and_messages_name_it(command: str) -> None:
    assert "|fixed:HALF" in CliRunner().invoke(cli, [command, "--help"]).output
    with pytest.raises(InputError, match="fixed:HALF"):
        open_detector("fixd:32")
