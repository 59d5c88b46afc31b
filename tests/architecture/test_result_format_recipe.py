"""The recipes "a result format" and "a kind of source" of docs/architecture.md, followed with dummies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dots import scene

from cunet_deploy._files import atomic_path
from cunet_deploy.cli import cli
from cunet_deploy.media import FORMATS, Frame, LeftOut, Picture, open_source
from cunet_deploy.media.readers import sources
from cunet_deploy.media.readers.base import OpenOptions, Reader
from cunet_deploy.media.writers.base import ResultFormat


class CountFile:
    """Numbers of objects by frame, one a line."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._atomic, self._counts = atomic_path(path, overwrite=overwrite), list[str]()

    def write(self, frame: Frame) -> None:
        self._counts.append(str(len(frame.landmarks)))

    def leave_out(self, item: LeftOut) -> None:
        self._counts.append("-")

    def __enter__(self) -> CountFile:
        self._temporary = self._atomic.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.write_text("\n".join(self._counts))
        self._atomic.__exit__(kind, error, trace)


class DrawnScene:
    """Two frames of a scene that is drawn."""

    moving, live, fps, originals = True, False, 25.0, ()
    count: int | None = 2
    name = stem = "drawn"

    def __init__(self) -> None:
        self.left_out: list[LeftOut] = []

    def __iter__(self) -> Iterator[Picture]:
        for index in range(2):
            yield Picture(index, 40.0 * index, scene((120, 110), 36)[0])


def open_drawn(text: str, options: OpenOptions) -> DrawnScene:
    return DrawnScene()


@pytest.fixture
def dummies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A format and a kind of source, registered as the recipes say, and gone after the test."""
    count = ResultFormat(
        "count",
        "numbers of objects",
        ".count",
        lambda stem, of_one: stem.with_name(f"{stem.name}.count"),
        lambda path, options: CountFile(path, overwrite=options.overwrite),
    )
    monkeypatch.setitem(FORMATS, "count", count)
    drawn = Reader("drawn:", "a scene that is drawn", lambda text: text == "drawn:", open_drawn)
    monkeypatch.setattr(sources, "READERS", (drawn, *sources.READERS))


def run(model: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["infer", *arguments, "--model", str(model), "--threads", "1"])


@pytest.mark.usefixtures("dummies")
def test_a_new_format_and_a_new_kind_of_source_work_everywhere(
    dots_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(dots_model, "drawn:", "-o", "alone.count").exit_code == 0
    assert Path("alone.count").read_text() == "1\n1"
    result = run(dots_model, "drawn:", "-o", "out.mp4", "--format", "csv,count")
    assert result.exit_code == 0, result.output
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {".cunet-infer", "alone.count", "out.count", "out.csv", "out.mp4"}
    assert "choose from jsonl, csv, coco, pts, count" in run(dots_model, "drawn:", "--format", "xml").stderr
    assert "count    numbers of objects" in CliRunner().invoke(cli, ["infer", "--help"]).output
    assert [picture.image.shape for picture in open_source("drawn:")] == [np.zeros((240, 320, 3)).shape] * 2


def test_they_are_gone_afterwards(dots_model: Path) -> None:
    assert "count" not in FORMATS
    assert run(dots_model, "drawn:", "-o", "none").exit_code == 2
