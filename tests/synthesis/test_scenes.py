from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from opengl import need_renders

from cunet_deploy.data.faces import read_faces
from cunet_deploy.errors import InputError
from cunet_deploy.synthesis.dataset import write_renders
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.render import Layer
from cunet_deploy.synthesis.scenes import Head, SceneJob, SceneOptions, _put, place_heads


def test_scenes_have_no_one_or_many_heads() -> None:
    counts = Counter(len(place_heads(np.random.default_rng(seed), 480, 10)) for seed in range(400))
    assert counts[0] > 10
    assert counts[1] > 60
    assert max(counts) == 10


def test_faces_overlap_little_and_near_ones_come_last() -> None:
    for seed in range(100):
        heads = place_heads(np.random.default_rng(seed), 480, 10)
        assert [head.side for head in heads] == sorted(head.side for head in heads)
        for one in heads:
            assert 0 <= one.x < 480
            assert 0 <= one.y < 480
            for other in heads:
                near = (one.side + other.side) / 2 - min(one.side, other.side) * 0.3
                assert one is other or max(abs(one.x - other.x), abs(one.y - other.y)) > near - min(
                    one.side, other.side
                )


@pytest.mark.parametrize(
    ("given", "said"),
    [({"size": 50}, "size is 50"), ({"heads": 0}, "heads is 0"), ({"heads": 16}, "heads is 16")],
)
def test_a_value_out_of_range_is_named(given: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SceneOptions(**given)  # type: ignore[arg-type]


def test_labels_go_where_the_head_goes() -> None:
    picture = np.zeros((60, 60, 4), np.uint8)
    points = np.tile([[20.0, 15.0], [40.0, 15.0], [20.0, 35.0], [40.0, 35.0]], (17, 1))
    for x, y in points.astype(int):
        picture[y, x] = 255
    scene = np.zeros((100, 100, 3), np.float32)
    (moved, _), alpha = _put(scene, Layer(picture, points, np.full(68, 2)), Head(0, 50.0, 40.0, 40.0))
    np.testing.assert_allclose(moved[:4], [[30, 20], [70, 20], [30, 60], [70, 60]], atol=1.1)
    for x, y in moved[:4]:
        patch = scene[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
        assert patch.max() > 100
    assert alpha.shape == (100, 100)


def test_a_folder_of_scenes_is_read_by_training(tmp_path: Path) -> None:
    need_renders()
    job = SceneJob(SceneOptions(FaceOptions(size=96, seed=2), 160, 4))
    assert write_renders(job, 6, tmp_path) == 6
    photos = read_faces(tmp_path / "scenes")
    lines = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    assert [len(photo.boxes) for photo in photos] == [len(line["faces"]) for line in lines]
    assert sum(len(photo.boxes) for photo in photos) >= 3
    for photo, line in zip(photos, lines, strict=True):
        for box, face in zip(photo.boxes, line["faces"], strict=True):
            landmarks = np.array(face["landmarks"])
            np.testing.assert_allclose(box, [*landmarks.min(axis=0), *landmarks.max(axis=0)], atol=0.02)
    with pytest.raises(InputError, match="heads was 4, is 3"):
        write_renders(SceneJob(SceneOptions(FaceOptions(size=96, seed=2), 160, 3)), 6, tmp_path)
