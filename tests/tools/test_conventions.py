"""Errors of face models less what another convention of landmarks explains."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy.errors import InputError
from tools.experiments import conventions

FACES = 60


def _faces(seed: int = 0) -> NDArray[np.float64]:
    """(60, 68, 2) faces of one mean shape: moved, enlarged, turned, each a little different."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(68, 2))
    mean[36:42, 0], mean[42:48, 0] = -0.8, 0.8  # the eyes lie left and right
    mean[36], mean[45] = [-1.0, 0.0], [1.0, 0.0]
    angle, size = rng.uniform(-0.5, 0.5, FACES), rng.uniform(40, 90, FACES)
    turn = np.stack([np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([-np.sin(angle), np.cos(angle)], 1)], 1)
    shapes = mean + rng.normal(size=(FACES, 68, 2)) * 0.01
    return np.asarray(shapes @ turn * size[:, None, None] + rng.uniform(100, 400, (FACES, 1, 2)))


def _scaled_offset(faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """(60, 68, 2) the same step of each landmark in every face, turned and enlarged with it."""
    middle = faces.mean(axis=1, keepdims=True)
    return np.asarray(0.1 * (faces - middle) @ np.array([[0.0, 1.0], [-1.0, 0.0]]))


def test_a_constant_offset_is_all_of_the_error() -> None:
    truth = _faces()
    found = truth + _scaled_offset(truth)
    report = conventions.measure(found, truth)
    assert report["as_it_is"]["all"]["value"] > 5
    assert report["offset"]["all"]["value"] < 0.2 * report["as_it_is"]["all"]["value"]


def test_noise_is_no_convention() -> None:
    truth = _faces()
    found = truth + np.random.default_rng(1).normal(size=truth.shape) * 3
    report = conventions.measure(found, truth)
    before = report["as_it_is"]["all"]["value"]
    assert report["offset"]["all"]["value"] == pytest.approx(before, rel=0.05)
    assert report["linear"]["all"]["value"] > 0.6 * before


def test_offsets_come_from_other_faces() -> None:
    truth = _faces()
    found = truth.copy()
    found[0] += 25  # a single face that is off says nothing of itself
    moved = conventions.move(found, truth, np.inf)
    np.testing.assert_allclose(moved[0] - truth[0], 25, atol=3)


def test_shifts_are_signed_and_in_percent_of_the_eyes() -> None:
    truth = _faces()
    eyes = np.linalg.norm(truth[:, 45] - truth[:, 36], axis=1)
    report = conventions.measure(truth + np.array([0.02, -0.01]) * eyes[:, None, None], truth)
    assert report["shift"]["right"]["value"] == pytest.approx(2)
    assert report["shift"]["down"]["value"] == pytest.approx(-1)


def test_too_few_faces_are_named() -> None:
    faces = _faces()[:4]
    with pytest.raises(InputError, match="4 faces are too few; expected at least 5"):
        conventions.move(faces, faces, np.inf)


def test_the_table_has_a_row_for_each_model() -> None:
    truth = _faces()
    row = {"model": "models/some", **conventions.measure(truth + 1, truth)}
    text = conventions.table_of({"rows": [row, row], "faces": FACES, "photos": "a/b", "command": "x"})
    assert text.count("| `some` |") == 2
    assert "60 faces of a/b" in text


def test_the_document_is_current() -> None:
    assert conventions.update(write=False) == []
