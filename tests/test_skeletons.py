from __future__ import annotations

import json

import numpy as np
import pytest

from cunet_deploy._decode import decode_json
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import (
    COCO17,
    IBUG68,
    LSP14,
    MPII16,
    SKELETONS,
    Skeleton,
    get_skeleton,
    map_landmarks,
)

# Mirror images among the 68 landmarks. The partner of 59 is 55 and not 57, which is the middle of the lower lip.
PAIRS = [
    *[(0, 16), (1, 15), (2, 14), (3, 13), (4, 12), (5, 11), (6, 10), (7, 9)],
    *[(17, 26), (18, 25), (19, 24), (20, 23), (21, 22)],
    *[(31, 35), (32, 34)],
    *[(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)],
    *[(48, 54), (49, 53), (50, 52), (59, 55), (58, 56)],
    *[(60, 64), (61, 63), (67, 65)],
]
MIDDLE = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


def test_ibug68_swaps_exactly_the_mirrored_landmarks() -> None:
    expected = np.arange(68)
    for left, right in PAIRS:
        expected[left], expected[right] = right, left
    assert IBUG68.flip_order.tolist() == expected.tolist()
    assert [index for index in range(68) if IBUG68.flip_order[index] == index] == MIDDLE


def test_mpii16_swaps_exactly_left_and_right() -> None:
    other = {"left": "right", "right": "left"}
    sides = [name.split("_", 1) for name in MPII16.landmarks]
    expected = ["_".join([other.get(first, first), *rest]) for first, *rest in sides]
    assert [MPII16.landmarks[index] for index in MPII16.flip_order] == expected
    assert len(MPII16) == 16
    assert MPII16.landmarks[:3] == ("right_ankle", "right_knee", "right_hip")
    assert MPII16.landmarks[15] == "left_wrist"


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_mirroring_twice_changes_nothing(skeleton: Skeleton) -> None:
    order = skeleton.flip_order
    assert order[order].tolist() == list(range(len(skeleton)))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_lines_of_a_mirrored_object_are_lines_again(skeleton: Skeleton) -> None:
    order = skeleton.flip_order
    lines = {frozenset(edge) for edge in skeleton.edges}
    assert {frozenset((int(order[a]), int(order[b]))) for a, b in skeleton.edges} == lines


@pytest.mark.parametrize("skeleton", [LSP14, COCO17], ids=lambda skeleton: skeleton.name)
def test_body_landmarks_swap_exactly_left_and_right(skeleton: Skeleton) -> None:
    other = {"left": "right", "right": "left"}
    sides = [name.split("_", 1) for name in skeleton.landmarks]
    expected = ["_".join([other.get(first, first), *rest]) for first, *rest in sides]
    assert [skeleton.landmarks[index] for index in skeleton.flip_order] == expected


def test_lsp14_has_the_order_of_the_data_set() -> None:
    # http://sam.johnson.io/research/lsp.html, joints 1 to 14
    assert LSP14.landmarks[:6] == tuple(
        f"{side}_{part}"
        for side, parts in (("right", ("ankle", "knee", "hip")), ("left", ("hip", "knee", "ankle")))
        for part in parts
    )
    assert LSP14.landmarks[6] == "right_wrist"
    assert LSP14.landmarks[11:] == ("left_wrist", "neck", "head_top")
    # eval_pck.m: norm(gt(:, 10) - gt(:, 3)), counted from 1
    assert LSP14.normalizers["torso"] == ((3 - 1,), (10 - 1,))


def test_coco17_has_the_names_and_sigmas_of_coco() -> None:
    # categories[0]["keypoints"] of person_keypoints_val2017.json
    assert COCO17.landmarks[:5] == ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    assert COCO17.landmarks[5:9] == ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow")
    assert COCO17.landmarks[15:] == ("left_ankle", "right_ankle")
    # pycocotools.cocoeval.Params.setKpParams
    of_cocoeval = [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89]
    assert COCO17.sigmas == pytest.approx([sigma / 10 for sigma in of_cocoeval])


def test_a_skeleton_without_sigmas_is_written_as_before_there_were_any() -> None:
    assert "sigmas" not in IBUG68.to_dict()
    with pytest.raises(InputError, match="sigmas must be 2 positive numbers"):
        Skeleton("pair", ("a", "b"), (), (), sigmas=(0.1,))


def test_landmarks_of_one_skeleton_are_found_in_another_by_name() -> None:
    points = np.arange(28.0).reshape(14, 2)
    mapped = map_landmarks(points, LSP14, MPII16)
    by_name = dict(zip(MPII16.landmarks, mapped, strict=True))
    assert by_name["left_wrist"].tolist() == points[11].tolist()
    assert by_name["upper_neck"].tolist() == points[12].tolist()  # LSP calls it neck
    assert np.isnan(by_name["pelvis"]).all()
    assert map_landmarks(mapped, MPII16, LSP14).tolist() == points.tolist()
    with pytest.raises(InputError, match="no landmark in common"):
        map_landmarks(points, LSP14, IBUG68)


@pytest.mark.parametrize("skeleton", [IBUG68, MPII16], ids=lambda skeleton: skeleton.name)
def test_a_normalizer_has_the_same_length_in_the_mirror(skeleton: Skeleton) -> None:
    order = skeleton.flip_order
    for groups in skeleton.normalizers.values():
        assert {frozenset(int(order[index]) for index in group) for group in groups} == {frozenset(g) for g in groups}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_a_skeleton_survives_the_way_through_json(skeleton: Skeleton) -> None:
    assert decode_json(json.dumps(skeleton.to_dict()), Skeleton) == skeleton


def test_landmark_names_are_unique_and_say_the_part() -> None:
    assert len(set(IBUG68.landmarks)) == len(IBUG68) == 68
    assert (IBUG68.landmarks[0], IBUG68.landmarks[36], IBUG68.landmarks[67]) == ("jaw_0", "left_eye_0", "inner_lip_7")


def test_a_skeleton_is_found_by_name() -> None:
    assert get_skeleton("ibug68") is IBUG68
    with pytest.raises(InputError, match=r"'ibug86'; known: .*ibug68"):
        get_skeleton("ibug86")


def test_an_index_outside_the_landmarks_is_refused() -> None:
    with pytest.raises(InputError, match=r"outside 0\.\.1"):
        Skeleton("pair", ("a", "b"), flip_pairs=((0, 2),), edges=())


def test_a_landmark_in_two_pairs_is_refused() -> None:
    with pytest.raises(InputError, match="two flip pairs"):
        Skeleton("three", ("a", "b", "c"), flip_pairs=((0, 1), (1, 2)), edges=())


@pytest.mark.parametrize(
    ("table", "message"), [({}, "missing required field name"), ({"name": "x", "landmarks": 3}, "landmarks: expected")]
)
def test_a_malformed_table_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_json(json.dumps(table), Skeleton)
