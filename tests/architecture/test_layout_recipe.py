"""The recipe for a data layout in docs/architecture.md, followed with a dummy."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cunet_deploy.config import parse_config
from cunet_deploy.data import readers
from cunet_deploy.data.examples import Example
from cunet_deploy.data.layout import Layout, as_skeleton, refuse
from cunet_deploy.data.readers import find_layout, read_examples
from cunet_deploy.data.sources import read_sources
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.skeletons import LSP14, Skeleton

FACE = Skeleton("face", ("neck", "left_hip", "right_hip"), (), ())


def read(folder: Path, skeleton: Skeleton, part: str, bad: list[str] | None) -> dict[str, list[Example]]:
    found = []
    for number, line in enumerate((folder / "labels.txt").read_text().splitlines(), 1):
        name, *cells = line.split()
        if len(cells) != 6:
            refuse(f"{folder / 'labels.txt'}, line {number}: expected six numbers", bad)
            continue
        points = np.array(cells, np.float64).reshape(3, 2)
        found.append(Example(folder / name, points, Path(name).stem))
    return {"": as_skeleton(found, FACE, skeleton)}


LAYOUT = Layout("lines", "labels.txt", lambda folder: (folder / "labels.txt").is_file(), read, skeleton=FACE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(readers.LAYOUTS, LAYOUT.name, LAYOUT)
    own = tmp_path / "lines"
    own.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(own / name), np.zeros((40, 40, 3), np.uint8))
    (own / "labels.txt").write_text("a.png 1 2 3 4 5 6\nb.png 7 8 9\nb.png 9 8 7 6 5 4\n")
    (own / "splits.json").write_text(json.dumps({"test": ["b.png"]}))
    return own


def test_it_is_found_read_and_part_of_a_mixed_set(folder: Path) -> None:
    assert find_layout(folder) == "lines"
    bad: list[str] = []
    (example,) = read_examples(Path(f"{folder}#test"), LSP14, bad=bad)
    assert example.points[LSP14.landmarks.index("neck")].tolist() == [9, 8]
    assert len(bad) == 1
    with pytest.raises(InputError, match="line 2: expected six numbers; mend it, or skip it"):
        read_examples(folder, LSP14)
    table = {"name": "x", "skeleton": "lsp14", "data": {"sources": [{"path": "lines", "layout": "lines"}]}}
    assert len(read_sources(parse_config(table).data, folder.parent, LSP14, [])) == 2


def test_without_its_row_nobody_knows_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(readers.LAYOUTS, LAYOUT.name)
    assert find_layout(folder) is None
    with pytest.raises(ConfigError, match="no layout of data sets is called 'lines'"):
        read_examples(folder, LSP14, "lines")
