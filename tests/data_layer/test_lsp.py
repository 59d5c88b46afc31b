"""Both layouts of Leeds Sports Pose, and parts of a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from bodies import write_lsp, write_lspet

from cunet_deploy.data.lsp import read_lsp
from cunet_deploy.data.readers import find_layout, read_examples
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import IBUG68, LSP14, MPII16


def test_lspet_counts_from_1_and_flags_what_is_labelled(tmp_path: Path) -> None:
    people = write_lspet(tmp_path / "lspet", 3, unlabelled=2)
    examples = read_lsp(tmp_path / "lspet")
    assert [example.image.name for example in examples] == ["im00001.jpg", "im00002.jpg", "im00003.jpg"]
    np.testing.assert_allclose([example.points for example in examples], people)
    assert all(np.isnan(example.points).all(axis=1).sum() == 2 for example in examples)


def test_an_occluded_joint_of_lsp_is_labelled_all_the_same(tmp_path: Path) -> None:
    people = write_lsp(tmp_path / "lsp", 2)  # flag 1 means occluded here, not labelled
    np.testing.assert_allclose([example.points for example in read_lsp(tmp_path / "lsp")], people)


def test_a_part_is_named_after_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lspet"
    write_lspet(folder, 9)
    names = {part: [e.image.name for e in read_examples(Path(f"{folder}{part}"), LSP14)] for part in ("", "#test")}
    assert len(names[""]) == 9
    assert names["#test"] == ["im00007.jpg", "im00008.jpg", "im00009.jpg"]
    both = read_examples(Path(f"{folder}#test:clean"), LSP14, "lsp")
    assert [example.image.name for example in both] == ["im00007.jpg", "im00009.jpg"]
    with pytest.raises(InputError, match=r"splits\.json: has no part 'tset'; it has clean, test, train"):
        read_examples(Path(f"{folder}#tset"), LSP14)


def test_a_part_of_a_folder_without_parts_is_one_clear_line(tmp_path: Path) -> None:
    write_lsp(tmp_path / "lsp", 1)
    with pytest.raises(InputError, match=r"splits\.json: is missing; it must say which photos are in test"):
        read_examples(tmp_path / "lsp#test", LSP14)
    (tmp_path / "lsp" / "splits.json").write_text("[3]")
    with pytest.raises(InputError, match="is not a list of parts"):
        read_examples(tmp_path / "lsp#test", LSP14)


def test_joints_are_matched_to_another_body_by_name(tmp_path: Path) -> None:
    people = write_lsp(tmp_path / "lsp", 1)
    (example,) = read_examples(tmp_path / "lsp", MPII16)
    assert example.points[15].tolist() == pytest.approx(people[0, 11])  # left wrist
    assert np.isnan(example.points[6]).all()  # pelvis
    with pytest.raises(InputError, match=r"lsp: skeletons lsp14 and ibug68 have no landmark in common"):
        read_examples(tmp_path / "lsp", IBUG68)


def test_people_with_fewer_than_three_joints_are_left_out(tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 4, unlabelled=12)
    with pytest.raises(InputError, match="no object with 3 labelled landmarks or more; label more"):
        read_examples(tmp_path / "lspet", LSP14)


def test_the_layout_is_seen_from_the_files(tmp_path: Path) -> None:
    write_lsp(tmp_path / "lsp", 1)
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.pts").touch()
    assert find_layout(tmp_path / "lsp") == "lsp"
    assert find_layout(tmp_path / "faces") == "300w"
    assert find_layout(tmp_path) is None
    with pytest.raises(InputError, match="holds no labels"):
        read_examples(tmp_path, LSP14)
    with pytest.raises(InputError, match="is not a folder"):
        read_examples(tmp_path / "nowhere", LSP14)


def test_another_mat_file_is_one_clear_line(tmp_path: Path) -> None:
    write_lsp(tmp_path, 2)
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 14, 5))})
    with pytest.raises(InputError, match=r"joints of shape \(3, 14, 5\) and 2 photos"):
        read_lsp(tmp_path)
    scipy.io.savemat(tmp_path / "joints.mat", {"other": np.zeros(3)})
    with pytest.raises(InputError, match=r"is not the joints\.mat"):
        read_lsp(tmp_path)
    write_lspet(tmp_path / "more", 1)
    (tmp_path / "more" / "images.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(InputError, match=r"images\.json: is not a list of names of photos"):
        read_lsp(tmp_path / "more")
