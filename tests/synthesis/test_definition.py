"""The file that defines the landmarks, without a mesh."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy.skeletons import IBUG68
from cunet_deploy.synthesis.landmarks import BrowLine, even_contour, read_definition

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


def test_contour_points_are_evenly_spaced_between_ears_and_chin() -> None:
    angle = np.pi * np.linspace(0, 1, 17) ** 1.3  # crowded near one ear
    curve = np.stack([-np.cos(angle), -1.4 * np.sin(angle), 0.3 * np.sin(angle)], axis=1).astype(np.float32)

    def project(points: NDArray[np.float32]) -> NDArray[np.float32]:
        return points[:, :2] / (4 - points[:, 2:])

    spread = even_contour(curve, project)
    np.testing.assert_allclose(spread[[0, 8, 16]], curve[[0, 8, 16]], atol=1e-5)
    gaps = np.linalg.norm(np.diff(project(spread), axis=0), axis=1)
    for half in (gaps[:8], gaps[8:]):
        assert np.ptp(half) < 0.02 * half.mean()
    np.testing.assert_allclose(spread[:, 0] ** 2 + (spread[:, 1] / 1.4) ** 2, 1, atol=0.01)  # still on the ellipse


def test_a_contour_that_falls_together_stays_where_it_is() -> None:
    points = np.zeros((17, 3), np.float32)
    points[8:, 1] = -np.arange(9)
    spread = even_contour(points, lambda points: points[:, :2])
    np.testing.assert_allclose(spread[8:], points[8:], atol=0.01)
    assert np.isfinite(spread).all()
    np.testing.assert_allclose(even_contour(points * 0, lambda points: points[:, :2]), 0, atol=1e-6)
