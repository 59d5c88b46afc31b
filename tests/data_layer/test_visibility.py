"""Labels that say which landmarks are hidden: read beside renders, and moved along with the picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import tiny_config, write_faces

from cunet_deploy.config import AugmentConfig, parse_config
from cunet_deploy.data.augment import Augmenter
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.data.sources import read_sources
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.skeletons import IBUG68

STATES = [2, 1, 0] + [2] * 65
SEEN = [1.0, 0.0, 0.0] + [1.0] * 65


def line(name: str, visibility: list[int]) -> str:
    return json.dumps({"image": name, "yaw": 3.0, "visibility": visibility}) + "\n"


@pytest.fixture
def renders(tmp_path: Path) -> Path:
    """A folder of two drawn faces."""
    return write_faces(tmp_path / "faces", 2)


@pytest.mark.parametrize("where", ["faces.jsonl", "blocks/00000.jsonl"])
def test_lines_beside_a_folder_say_what_is_hidden(renders: Path, where: str) -> None:
    path = renders.parent / where
    path.parent.mkdir(exist_ok=True)
    path.write_text(line("faces/face000_1.png", STATES) + line("other/face001_1.png", STATES))
    told, untold = read_300w(renders, 68)
    assert told.visible is not None
    assert told.visible.tolist() == SEEN
    assert untold.visible is not None
    assert np.isnan(untold.visible).all()


def test_folders_without_lines_and_results_of_infer_say_nothing(renders: Path) -> None:
    assert all(example.visible is None for example in read_300w(renders, 68))
    (renders.parent / "faces.jsonl").write_text('{"image": "faces/face000_1.png", "landmarks": []}\n')
    assert all(example.visible is None for example in read_300w(renders, 68))


@pytest.mark.parametrize("text", [line("faces/face000_1.png", [2, 2]), "no JSON\n"])
def test_bad_lines_are_refused_or_left_out(renders: Path, text: str) -> None:
    (renders.parent / "faces.jsonl").write_text(line("faces/face001_1.png", STATES) + text)
    with pytest.raises(InputError, match=r"faces\.jsonl, line 2"):
        read_300w(renders, 68)
    bad: list[str] = []
    assert len(read_300w(renders, 68, bad=bad)) == 2
    assert len(bad) == 1


def test_renders_and_photos_come_together_and_photos_may_leave_open_what_is_hidden(renders: Path) -> None:
    (renders.parent / "faces.jsonl").write_text(line("faces/face000_1.png", STATES))
    write_faces(renders.parent / "photos", 1)
    for visibility in ("", "unknown"):
        sources = [{"path": "faces", "weight": 1.5}, {"path": "photos", "visibility": visibility}]
        config = parse_config({"name": "x", "skeleton": "ibug68", "data": {"sources": sources}})
        render, _, photo = read_sources(config.data, renders.parent, IBUG68)
        assert render.visible is not None
        assert render.visible.tolist() == SEEN
        assert (photo.visible is None) == (visibility == "")
        assert photo.visible is None or np.isnan(photo.visible).all()


def draw(renders: Path, **changes: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, points and visibility of a crop of the first face with some augmentation."""
    still = dict.fromkeys(AugmentConfig.__dataclass_fields__, 0.0)
    example = replace(read_300w(renders, 68)[0], visible=np.array(SEEN))
    augmenter = Augmenter(AugmentConfig(**{**still, **changes}), CropRule(64, 1.4), IBUG68)
    drawn = augmenter.draw(example, PhotoCache()[example.image], np.random.default_rng(5))
    return drawn.image, drawn.points, drawn.visible


def test_what_is_hidden_trades_places_in_a_mirror_image(renders: Path) -> None:
    assert np.flatnonzero(draw(renders, flip=1.0)[2] == 0).tolist() == [14, 15]


def test_what_a_rectangle_covers_is_hidden(renders: Path) -> None:
    before, points, _ = draw(renders)
    after, _, visible = draw(renders, erase=1.0)
    covered = (before != after).any(axis=2)
    inside = np.array([covered[tuple(np.rint(point[::-1]).astype(int).clip(0, 63))] for point in points])
    assert 3 < inside.sum() < 65
    assert (visible == np.where(inside, 0, SEEN)).all()


def test_the_data_are_others_when_visibility_counts_and_differs(renders: Path) -> None:
    from cunet_deploy.train.landmarks import LandmarkTask

    examples = read_300w(renders, 68)
    hidden = [replace(example, visible=np.array(SEEN)) for example in examples]
    for peak, same in ((1.0, True), (0.5, False)):
        config = tiny_config(heatmap={"hidden_peak": peak})
        sums = {LandmarkTask(config, each, PhotoCache()).checksum for each in (examples, hidden)}
        assert (len(sums) == 1) == same
