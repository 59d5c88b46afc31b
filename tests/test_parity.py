"""Distances between the landmarks of two networks, with numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dots import scene

from cunet_deploy.errors import InputError
from cunet_deploy.geometry import Crop
from cunet_deploy.parity import compare_sessions, locate_in_crops, measure
from cunet_deploy.preprocess import sample
from cunet_deploy.sessions import open_session


def test_distances_are_of_landmarks_and_the_worst_crop_is_the_mean_of_its_own() -> None:
    expected = np.zeros((2, 2, 2))
    found = expected + np.array([[[0, 0], [3, 4]], [[1, 0], [0, -3]]])  # 0 and 5 px in one crop, 1 and 3 in the other
    maps = np.zeros((2, 2, 4, 4), np.float32)
    maps[0, 0, 1, 1] = -0.32
    parity = measure(expected, np.zeros_like(maps), found, maps)
    assert parity.to_dict() == {
        "crops": 2,
        "mean_px": 2.25,
        "worst_crop_px": 2.5,
        "max_px": 5.0,
        "heatmap_mean": 0.005,
    }


def test_crops_keep_their_order_whatever_the_batch(dots_model: Path) -> None:
    image, _ = scene()
    height, width = image.shape[:2]
    crops = np.stack([sample(image, Crop((width / 2 + 4 * step, height / 2), 120, 64)) for step in range(5)])
    session = open_session(dots_model, threads=1)
    points, maps = locate_in_crops(session, crops)
    for batch in (1, 2):
        again, again_maps = locate_in_crops(session, crops, batch)
        np.testing.assert_allclose(again, points, atol=1e-5)
        np.testing.assert_allclose(again_maps, maps, atol=1e-6)
    assert compare_sessions(session, session, crops).max_px == 0
    with pytest.raises(InputError, match="at least one crop"):
        compare_sessions(session, session, crops[:0])
    session.close()
