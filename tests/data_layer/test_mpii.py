"""MPII Human Pose as it is released and as it is commonly converted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from bodies import mpii_person, write_mpii_mat

from cunet_deploy.data.readers import find_layout, read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import LSP14, MPII16

PERSON = np.random.default_rng(1).uniform(40, 200, (16, 2)).round(1)
OTHER = PERSON * 0.5 + 20


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two people in one photo, one in another, and a photo of the test set, in which nobody has joints."""
    unlabelled: dict[str, object] = {"x1": 3.0, "y1": 3.0, "x2": 9.0, "y2": 9.0}
    return write_mpii_mat(
        tmp_path / "mpii",
        [
            ("000.jpg", [mpii_person(PERSON, hidden=(0, 5)), mpii_person(OTHER, missing=(3, 9))]),
            ("001.jpg", [mpii_person(OTHER)]),
            ("002.jpg", [unlabelled]),
            ("003.jpg", []),
        ],
    )


def test_the_release_gives_everybody_with_joints(release: Path) -> None:
    assert find_layout(release) == "mpii"
    examples = read_examples(release, MPII16)
    assert [example.image.name for example in examples] == ["000.jpg", "000.jpg", "001.jpg"]
    np.testing.assert_allclose(examples[0].points, PERSON)  # hidden joints are labelled
    assert np.flatnonzero(np.isnan(examples[1].points).any(axis=1)).tolist() == [3, 9]
    assert len(examples[0].others) == 2


def test_boxes_come_from_centre_and_scale(release: Path) -> None:
    example = read_examples(release, MPII16)[0]
    side = np.ptp(PERSON[:, 1])
    x0, y0, x1, y1 = example.box
    assert (x1 - x0, y1 - y0) == pytest.approx((side, side))
    assert [(x0 + x1) / 2, (y0 + y1) / 2] == pytest.approx(PERSON.mean(axis=0) + np.array([0, 15 * side / 200]))


def test_the_head_is_measured_by_its_box(release: Path) -> None:
    example = read_examples(release, MPII16)[0]
    width, height = np.ptp(PERSON[8:10], axis=0) + np.array([7, 0])
    assert example.sizes["head"] == pytest.approx(0.6 * np.hypot(width, height))


def test_mpii_can_be_read_as_the_joints_of_lsp(release: Path) -> None:
    example = read_examples(release, LSP14)[0]
    assert example.points[12].tolist() == PERSON[8].tolist()  # upper neck
    assert example.points[11].tolist() == PERSON[15].tolist()  # left wrist


def test_the_conversion_of_simple_baselines(tmp_path: Path) -> None:
    folder = tmp_path / "mpii"
    (folder / "annot").mkdir(parents=True)
    visible = np.ones(16, int)
    visible[4] = 0
    joints = np.where(visible[:, None] > 0, PERSON + 1, -1)
    row = {
        "joints_vis": visible.tolist(),
        "joints": joints.tolist(),
        "image": "000.jpg",
        "scale": 0.8,
        "center": [101.0, 91.0],
    }
    (folder / "annot" / "train.json").write_text(json.dumps([row]))
    (folder / "annot" / "valid.json").write_text(json.dumps([{**row, "image": "001.jpg"}, row]))
    boxes = np.zeros((2, 2, 2))
    boxes[:, :, 0], boxes[:, :, 1] = [[0, 0], [30, 40]], [[5, 5], [65, 85]]  # corner, axis, person
    scipy.io.savemat(folder / "annot" / "gt_valid.mat", {"headboxes_src": boxes})
    assert find_layout(folder) == "mpii"
    (train,) = read_examples(Path(f"{folder}#train"), MPII16)
    assert train.image == folder / "images" / "000.jpg"
    np.testing.assert_allclose(np.delete(train.points, 4, axis=0), np.delete(PERSON, 4, axis=0))
    assert np.isnan(train.points[4]).all()
    assert train.box.tolist() == [100 - 80, 90 + 12 - 80, 100 + 80, 90 + 12 + 80]
    assert train.sizes == {}
    valid = read_examples(Path(f"{folder}#valid"), MPII16)
    assert [example.sizes["head"] for example in valid] == [0.6 * 50, 0.6 * 100]
    assert len(read_examples(folder, MPII16)) == 3


def test_the_conversion_of_openpose(tmp_path: Path) -> None:
    joints = np.concatenate([PERSON + 1, np.ones((16, 1))], axis=1)
    joints[2] = 0
    row = {
        "dataset": "MPI",
        "isValidation": 0.0,
        "img_paths": "a.jpg",
        "objpos": [101.0, 91.0],
        "joint_self": joints.tolist(),
        "scale_provided": 0.8,
    }
    (tmp_path / "mpii_annotations.json").write_text(json.dumps([row, {**row, "isValidation": 1.0}, row]))
    assert find_layout(tmp_path) == "mpii"
    assert len(read_examples(tmp_path, MPII16)) == 3
    (valid,) = read_examples(Path(f"{tmp_path}#valid"), MPII16)
    assert np.flatnonzero(np.isnan(valid.points).any(axis=1)).tolist() == [2]
    assert len(valid.others) == 1


def test_other_files_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "mpii_human_pose_v1_u12_1.mat").write_bytes(b"not Matlab" * 30)
    with pytest.raises(InputError, match="is not the release of MPII"):
        read_examples(tmp_path, MPII16)
    scipy.io.savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": 3})
    with pytest.raises(InputError, match="is not the release of MPII"):
        read_examples(tmp_path, MPII16)
    other = tmp_path / "json"
    other.mkdir()
    (other / "train.json").write_text('[{"joints": 3}]')
    with pytest.raises(InputError, match=r"train\.json, row 1: joints: expected array, got int"):
        read_examples(other, MPII16)
    with pytest.raises(InputError, match="no JSON file of coco labels"):
        read_examples(other, MPII16, "coco")
