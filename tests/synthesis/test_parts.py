"""Small meshes, painting, environments and the camera's flaws: what needs neither assets nor OpenGL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from synthesis_names import TARGET_NAMES

from cunet_deploy.data.ibug import read_pts
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import format_pts
from cunet_deploy.synthesis.environment import Surroundings, irradiance
from cunet_deploy.synthesis.landmarks import BrowLine, read_definition
from cunet_deploy.synthesis.lens import encode_jpeg, take_picture
from cunet_deploy.synthesis.mesh import vertex_normals
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.paint import beard_mask, paint_face
from cunet_deploy.synthesis.rays import cast_rays
from cunet_deploy.synthesis.recipe import sample_face
from cunet_deploy.synthesis.scene import Background, Lens
from cunet_deploy.synthesis.shapes import grid_triangles, smoothstep, spherical, tube

CLEAN = Lens(0, 0, 0, 1, 1, 1, 0, (1, 1, 1), 0, 0, 0, False, 95, 0, 1)


def _ball() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    azimuth, polar = np.arange(0.0, 360.0, 10.0), np.linspace(0, 180, 19)
    points = spherical(azimuth[:, None], polar[None]).reshape(-1, 3)
    return points.astype(np.float32), grid_triangles(len(azimuth), len(polar), closed=True)


def test_triangles_of_a_closed_grid_face_outward() -> None:
    points, triangles = _ball()
    normals = vertex_normals(points, triangles)
    assert ((normals * points).sum(axis=1)[np.abs(points[:, 1]) < 0.99] > 0.9).all()


def test_rays_meet_the_far_or_the_near_side() -> None:
    points, triangles = _ball()
    directions = np.array([[0.3, 0.1, 0.9], [0.0, 0.2, -1.0]])
    origin = np.array([0.0, 0.0, -3.0])
    far, hit = cast_rays(points, triangles, origin, directions, farthest=True)
    assert hit.tolist() == [True, False]
    near, _ = cast_rays(points, triangles, origin, directions, farthest=False)
    assert far.at(points)[0, 2] > near.at(points)[0, 2]
    along = far.at(points)[0] - origin
    np.testing.assert_allclose(along / along[2], directions[0] / directions[0][2], atol=1e-5)


def test_anchors_follow_the_mesh() -> None:
    points, triangles = _ball()
    anchors, _ = cast_rays(points, triangles, np.zeros(3), np.array([[1.0, 1.0, 1.0]]), farthest=True)
    np.testing.assert_allclose(anchors.at(2 * points), 2 * anchors.at(points), rtol=1e-5)


def test_a_tube_keeps_its_radius() -> None:
    path = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], float)
    assert np.hypot(*tube(path, 0.2, closed=False).points[:, 1:].T) == pytest.approx(0.2, abs=1e-6)


def test_smoothstep_goes_either_way() -> None:
    value = np.array([0.0, 0.5, 1.0])
    assert smoothstep(0, 1, value).tolist() == [0, 0.5, 1]
    assert smoothstep(1, 0, value).tolist() == [1, 0.5, 0]


def test_pts_files_are_read_back(tmp_path: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 192, (68, 2))
    (tmp_path / "a.pts").write_text(format_pts(points))
    np.testing.assert_allclose(read_pts(tmp_path / "a.pts", 68), points, atol=6e-4)


def test_light_from_all_sides_is_the_same_everywhere() -> None:
    coefficients = irradiance(np.ones((64, 128, 3), np.float32))
    np.testing.assert_allclose(coefficients[0], 1, atol=2e-3)
    np.testing.assert_allclose(coefficients[1:], 0, atol=2e-3)


def test_light_from_above_and_from_the_right_is_known() -> None:
    image = np.zeros((64, 128, 3), np.float32)
    image[:32] = 1
    assert irradiance(image)[1, 0] > 0.3  # y
    image = np.zeros((64, 128, 3), np.float32)
    image[:, 64:] = 1
    assert irradiance(image)[3, 0] > 0.3  # x
    image = np.zeros((64, 128, 3), np.float32)
    image[:, 32:96] = 1  # the middle lies behind the head
    assert irradiance(image)[2, 0] < -0.3  # z


def test_surroundings_are_the_same_every_time() -> None:
    background = Background("environment", 3, 0.01, 0, 2)
    first, second = (Surroundings(FaceOptions()).behind(background, 0.4, 3, 64) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (64, 64, 3)
    assert first.std() > 1


def test_pictures_of_the_user_come_behind_the_head(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "green.png"), np.full((50, 80, 3), (0, 200, 0), np.uint8))
    surroundings = Surroundings(FaceOptions(backgrounds=str(tmp_path)))
    image = surroundings.behind(Background("picture", 3, 0.0, 0, 0), 0.4, 3, 64)
    np.testing.assert_allclose(image[..., 1], 200, atol=1)


def test_a_panorama_of_the_user_lights_the_head(tmp_path: Path) -> None:
    panorama = np.full((32, 64, 3), (0.1, 0.1, 2.0), np.float32)
    cv2.imwrite(str(tmp_path / "red.hdr"), panorama)
    light = Surroundings(FaceOptions(environments=str(tmp_path))).light(0.0, 0, 1.0)
    assert light[0, 0] > 10 * light[0, 2]


@pytest.mark.parametrize("option", ["backgrounds", "environments"])
def test_an_empty_folder_is_an_error(tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError, match=f"{tmp_path}: holds no"):
        Surroundings(replace(FaceOptions(), **{option: str(tmp_path)}))  # type: ignore[arg-type]


def test_a_panorama_of_the_wrong_form_is_an_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "square.hdr"), np.ones((32, 32, 3), np.float32))
    with pytest.raises(InputError, match="twice as wide as high"):
        Surroundings(FaceOptions(environments=str(tmp_path)))


def test_a_clean_lens_changes_nothing() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (40, 40, 3)).astype(np.float32)
    np.testing.assert_allclose(take_picture(image, CLEAN), image, atol=0.51)


@pytest.mark.parametrize("flaw", [{"defocus": 2.0}, {"motion": 9.0}, {"pixels": 0.3}], ids=str)
def test_blur_takes_away_detail(flaw: dict[str, float]) -> None:
    image = np.random.default_rng(1).uniform(0, 255, (96, 96, 3)).astype(np.float32)
    assert take_picture(image, replace(CLEAN, **flaw)).std() < 0.6 * image.std()  # type: ignore[arg-type]


def test_noise_has_the_wanted_size_and_is_the_same_every_time() -> None:
    image = np.full((96, 96, 3), 128, np.float32)
    noisy = take_picture(image, replace(CLEAN, noise=8.0))
    assert noisy.std() == pytest.approx(8, rel=0.05)
    np.testing.assert_array_equal(noisy, take_picture(image, replace(CLEAN, noise=8.0)))


def test_a_grey_picture_has_no_colour() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (20, 20, 3)).astype(np.float32)
    assert np.ptp(take_picture(image, replace(CLEAN, grey=True)), axis=2).max() == 0


def test_a_jpeg_made_twice_is_worse() -> None:
    image = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    once, twice = (cv2.imdecode(np.frombuffer(encode_jpeg(image, 90, q), np.uint8), 1) for q in (0, 20))
    assert np.abs(once - image.astype(float)).mean() < np.abs(twice - image.astype(float)).mean()


def test_brows_are_painted_where_their_labels_are() -> None:
    brow = read_definition()["brow"]
    line = BrowLine(np.array(brow["x"]), np.array(brow["y"]), 0.06)
    face = sample_face(FaceOptions(without=("beards",)), 4, TARGET_NAMES)
    skin = replace(face.appearance.skin, freckles=0, eyeliner=0.0, eyeshadow=0.0, wrinkles=0.0)
    appearance = replace(face.appearance, skin=skin, brow=replace(face.appearance.brow, density=1.0, width=0.06))
    paint = paint_face(appearance, replace(face.person, age=0.5), line, beard_mask(appearance.beard), 1)
    rows, columns = np.nonzero(paint[..., 3] > 100)
    x, y = columns / paint.shape[1] * 1.8 - 0.9, rows / paint.shape[0] * 2.2 + 6.0
    middle = line.sample(40)
    gap = np.abs(y[x < 0] - np.interp(x[x < 0], middle[:, 0], middle[:, 1]))
    assert (x < 0).sum() > 50
    assert np.percentile(gap, 95) < 0.06
    assert abs(x.mean()) < 0.03  # both sides alike


@pytest.mark.parametrize("kind", ["stubble", "full", "goatee", "moustache"])
def test_beards_grow_on_the_lower_face(kind: str) -> None:
    face = sample_face(FaceOptions(), 4, TARGET_NAMES)
    mask = beard_mask(replace(face.appearance.beard, kind=kind, cheek=0.0, soft=1.5))
    rows, _ = np.nonzero(mask > 0.5)
    assert len(rows) > 20
    assert rows.max() / mask.shape[0] * 2.2 + 6.0 < 7.15
