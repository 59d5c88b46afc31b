"""The file that defines the landmarks, without a mesh."""

from __future__ import annotations

import numpy as np
import pytest

from cunet_deploy.skeletons import IBUG68
from cunet_deploy.synthesis.landmarks import BrowLine, read_definition

MIRROR = {a: b for pair in IBUG68.flip_pairs for a, b in (pair, pair[::-1])}


def test_every_landmark_is_defined_once() -> None:
    table = read_definition()
    right = [int(key) for key in table["points"]]
    fixed = right + [MIRROR[number] for number in right if number in MIRROR]
    ridge = [int(key) for key in table["ridge"]]
    assert sorted([*range(17), *range(17, 27), *ridge, *fixed]) == list(range(68))


def test_weights_of_a_point_sum_to_one() -> None:
    for rows in read_definition()["points"].values():
        assert sum(weight for _, weight in rows) == pytest.approx(1)


def test_strips_and_directions_belong_together() -> None:
    contour = read_definition()["contour"]
    assert len(contour["front"]) == len(contour["outward"]) == 9
    assert contour["rear"][0][0] < 0  # the right ear
    assert contour["rear"][-1][0] == contour["front"][-1][0] == 0  # the chin


def test_brow_labels_are_evenly_spaced_and_above_the_middle_line() -> None:
    brow = read_definition()["brow"]
    line = BrowLine(np.array(brow["x"]), np.array(brow["y"]), 0.08)
    labels = line.labels()
    gaps = np.linalg.norm(np.diff(labels, axis=0), axis=1)
    assert np.ptp(gaps) < 0.1 * gaps.mean()
    np.testing.assert_allclose(labels - line.sample(5), [[0, 0.02]] * 5, atol=1e-12)
    np.testing.assert_allclose(line.sample(5)[[0, -1]], [[-0.57, 7.4], [-0.13, 7.44]], atol=1e-9)
