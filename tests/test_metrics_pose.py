"""PCK, PCKh and OKS-AP against numbers worked by hand and against the published implementations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.errors import InputError
from cunet_deploy.skeletons import COCO17, IBUG68, LSP14, MPII16

FloatArray = NDArray[np.float64]
NAN = float("nan")


def eval_pck(prediction: FloatArray, truth: FloatArray) -> tuple[FloatArray, float, float]:
    """Output of ``eval_pck.m`` (github.com/bearpaw/eval_pose) for LSP, as shares: per joint, mean, area."""
    thresholds = [step / 100 for step in range(21)]
    distances = np.array(
        [
            [np.linalg.norm(p - t) / np.linalg.norm(person[9] - person[2]) for p, t in zip(found, person, strict=True)]
            for found, person in zip(prediction, truth, strict=True)
        ]
    )
    curve = [float(np.mean(distances <= threshold)) for threshold in thresholds]
    area = sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / (len(thresholds) - 1)
    return (distances <= 0.2).mean(axis=0), curve[-1], area


def test_pck_of_fully_labelled_people_is_that_of_the_published_script() -> None:
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 150, (40, 14, 2))
    prediction = truth + rng.normal(0, 12, truth.shape)
    joints, mean, area = eval_pck(prediction, truth)
    errors = metrics.normalized_errors(prediction, truth, LSP14, "torso")
    correct = metrics.correct_joints(errors, 0.2)
    np.testing.assert_allclose(metrics.joint_shares(correct), joints)
    assert metrics.share(correct).value == pytest.approx(mean)
    assert metrics.share(metrics.curve_parts(errors, 0.2)).value == pytest.approx(area)


def test_pck_by_hand() -> None:
    # two people, torsos of 50 and 100 pixels: a joint may be off by 10 and by 20
    truth = np.zeros((2, 14, 2))
    truth[0, 9], truth[1, 9] = (30, 40), (0, 100)
    prediction = truth.copy()
    prediction[0, 0] += (10, 0)  # exactly 0.2: correct
    prediction[0, 1] += (11, 0)
    prediction[1, 0] += (0, 20)
    prediction[1, 13] = np.inf  # not found
    correct = metrics.correct_joints(metrics.normalized_errors(prediction, truth, LSP14), 0.2)
    assert metrics.share(correct).value == pytest.approx(26 / 28)
    assert metrics.joint_shares(correct)[[0, 1, 13]].tolist() == [1, 0.5, 0.5]


def test_a_pair_is_swapped_when_each_joint_lies_where_the_other_is_labelled() -> None:
    truth = np.zeros((4, 14, 2))
    truth[:, 9] = (100, 0)  # the torso is 100, a joint may be off by 20
    (left, right), *others = LSP14.flip_pairs
    assert not {9, 12} & {left, right}
    truth[:, left], truth[:, right] = (200, 0), (260, 0)
    for pair in others:
        truth[:, pair] = NAN
    prediction = truth.copy()
    prediction[1, [left, right]] = prediction[1, [right, left]]  # swapped
    prediction[2, left] = prediction[2, right]  # both on the right: wrong, and not swapped
    truth[3, left] = NAN
    errors, mirrored = (
        metrics.normalized_errors(found, truth, LSP14, "torso", [100.0] * 4)
        for found in (prediction, prediction[:, LSP14.flip_order])
    )
    swapped = metrics.swapped_pairs(errors, mirrored, LSP14, 0.2)
    assert swapped[:3, 0].tolist() == [0, 1, 0]
    assert np.isnan(swapped[3]).all()
    assert np.isnan(swapped[:, 1:]).all()


def test_labels_so_near_that_both_readings_hold_are_not_swapped() -> None:
    errors = np.full((1, 14), 0.1)
    assert metrics.swapped_pairs(errors, errors, LSP14, 0.2).tolist() == [[0] * 6]


def test_one_joint_that_lies_between_both_labels_makes_no_pair_right() -> None:
    errors, mirrored = np.full((1, 14), 0.1), np.full((1, 14), 0.1)
    (left, right), *_ = LSP14.flip_pairs
    errors[0, left] = 0.3
    assert metrics.swapped_pairs(errors, mirrored, LSP14, 0.2).tolist() == [[1, *[0] * 5]]
    mirrored[0, right] = 0.3
    assert metrics.swapped_pairs(errors, mirrored, LSP14, 0.2).tolist() == [[0] * 6]


def test_only_labelled_joints_count_and_people_weigh_by_their_joints() -> None:
    correct = np.array([[1, 1, 1, 1], [0, NAN, NAN, NAN], [NAN] * 4])
    assert metrics.share(correct).value == pytest.approx(4 / 5)  # not the mean of 1 and 0
    assert metrics.joint_shares(correct)[0] == 0.5
    assert np.isnan(metrics.joint_shares(np.full((2, 1), NAN))[0])
    with pytest.raises(InputError, match="no object has a number"):
        metrics.share(np.full((2, 3), NAN))


def test_the_torso_is_the_other_diagonal_where_one_end_is_not_labelled() -> None:
    truth = np.zeros((1, 14, 2))
    truth[0, 9], truth[0, 8] = (3, 4), (6, 8)
    assert metrics.normalizer_lengths(truth, LSP14, "torso").tolist() == [5]
    truth[0, 2] = NAN
    assert metrics.normalizer_lengths(truth, LSP14, "torso").tolist() == [10]
    truth[0, 3] = NAN
    assert np.isnan(metrics.normalizer_lengths(truth, LSP14, "torso")).all()


def test_the_interval_is_over_people() -> None:
    # half of the people are right in all joints, half in none: as uncertain as a coin for each person, not each joint
    correct = np.repeat(np.arange(100) % 2, 14).reshape(100, 14).astype(float)
    estimate = metrics.share(correct)
    assert estimate.value == 0.5
    assert estimate.margin == pytest.approx(1.96 * 0.05, rel=0.1)


def test_a_paired_difference_is_known_better_than_both_shares() -> None:
    rng = np.random.default_rng(0)
    theirs = (rng.random((300, 1)) < 0.6).astype(float).repeat(14, axis=1)
    ours = theirs.copy()
    ours[:6, 0] = 1 - ours[:6, 0]
    difference = metrics.paired_share_difference(ours, theirs)
    assert difference.value == pytest.approx((ours - theirs).mean())
    assert difference.margin < metrics.share(ours).margin / 10
    ours[0, 0] = NAN
    with pytest.raises(InputError, match="cannot be paired"):
        metrics.paired_share_difference(ours, theirs)


def test_pckh_leaves_pelvis_and_thorax_out_of_the_mean() -> None:
    assert [n for n, c in zip(MPII16.landmarks, metrics.counted_joints(MPII16), strict=True) if not c] == [
        "pelvis",
        "thorax",
    ]
    assert metrics.counted_joints(LSP14).all()


def evaluate_of_hrnet(prediction: FloatArray, truth: FloatArray, heads: FloatArray) -> dict[float, float]:
    """The mean of ``MPIIDataset.evaluate`` (HRNet, lib/dataset/mpii.py) at some thresholds, by its steps.

    What it prints as Mean@0.1 is at 0.11: it takes the twelfth of the thresholds 0, 0.01, 0.02 and so on.
    """
    visible = np.isfinite(truth).all(axis=2).T  # (16, N), as there
    sizes = 0.6 * np.linalg.norm(heads[:, 1] - heads[:, 0], axis=1)
    errors = np.nan_to_num(np.linalg.norm(prediction - truth, axis=2).T / sizes) * visible
    counts = visible.sum(axis=1)
    left_out = np.isin(np.arange(16), (6, 7))
    ratio = np.where(left_out, 0, counts / counts[~left_out].sum())
    found = {}
    for threshold in (0.5, 0.11, 0.1):
        joints = ((errors <= threshold) * visible).sum(axis=1) / visible.sum(axis=1)
        found[threshold] = float((joints * ratio).sum())
    return found


def test_pckh_is_that_of_the_published_script() -> None:
    rng = np.random.default_rng(5)
    truth = rng.uniform(0, 300, (50, 16, 2))
    prediction = truth + rng.normal(0, 1, truth.shape) * rng.choice([2.0, 10.0, 30.0], (50, 1, 1))
    truth[rng.random((50, 16)) < 0.2] = NAN
    heads = np.cumsum(rng.uniform(20, 60, (50, 2, 2)), axis=1)
    lengths = 0.6 * np.linalg.norm(heads[:, 1] - heads[:, 0], axis=1)
    errors = metrics.normalized_errors(prediction, truth, MPII16, "head", lengths)
    counted = np.where(metrics.counted_joints(MPII16), errors, np.nan)
    published = evaluate_of_hrnet(prediction, truth, heads)
    for threshold, value in published.items():
        assert metrics.share(metrics.correct_joints(counted, threshold)).value == pytest.approx(value), threshold
    assert published[0.11] != published[0.1]


def test_a_length_that_was_not_labelled_is_the_skeletons() -> None:
    truth = np.zeros((2, 16, 2))
    truth[:, 9] = (0, 10)
    errors = metrics.normalized_errors(truth + 5.0, truth, MPII16, "head", [20.0, NAN])
    assert errors[:, 0].tolist() == pytest.approx([np.sqrt(50) / 20, np.sqrt(50) / 10])


def test_what_is_measured_hangs_on_the_default_normalizer() -> None:
    (lsp, mpii) = (metrics.pck_threshold(skeleton) for skeleton in (LSP14, MPII16))
    assert lsp is not None
    assert mpii is not None
    assert (lsp.title, lsp.key, mpii.title, mpii.key) == ("PCK@0.2", "pck_20", "PCKh@0.5", "pckh_50")
    assert metrics.pck_threshold(IBUG68) is None


def test_the_similarity_of_a_point_falls_as_coco_defines() -> None:
    truth = np.full((1, 17, 2), NAN)
    truth[0, 0], truth[0, 5] = (10, 10), (50, 60)
    found = np.nan_to_num(truth)
    assert metrics.object_similarity(found, truth, [900.0], COCO17.sigmas).tolist() == [[1.0]]
    found[0, 0] += (3, 4)  # d = 5, s^2 = 900, k = 2 * 0.026
    expected = (np.exp(-25 / (2 * 900 * 0.052**2)) + 1) / 2
    assert metrics.object_similarity(found, truth, [900.0], COCO17.sigmas)[0, 0] == pytest.approx(expected)
    with pytest.raises(InputError, match="a sigma for each of 17"):
        metrics.object_similarity(found, truth, [900.0], ())


@dataclass(frozen=True)
class Picture:
    """Picture of the fixture: G true people and D found ones."""

    truth: FloatArray
    boxes: FloatArray
    areas: FloatArray
    found: FloatArray
    scores: FloatArray


def pictures() -> list[Picture]:
    """Made up: people who are found well, badly or not, some without labels, found ones where nobody is."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(25):
        people = int(rng.integers(0, 5))
        corner = rng.uniform(0, 400, (people, 1, 2))
        truth = corner + rng.uniform(0, 100, (people, 17, 2))
        boxes = np.concatenate([truth.min(axis=1), truth.max(axis=1)], axis=1).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        noise = rng.choice([1.0, 4.0, 8.0, 16.0, 40.0], (people, 1, 1))
        found = truth + rng.normal(0, 1, truth.shape) * noise
        kept = rng.random(people) < 0.9
        extra = rng.uniform(0, 500, (int(rng.integers(0, 3)), 17, 2))
        truth[rng.random((people, 17)) < 0.3] = NAN
        truth[rng.random(people) < 0.15] = NAN
        found = np.concatenate([found[kept], extra])
        made.append(Picture(truth, boxes, 0.6 * sides.prod(axis=1), found, rng.random(len(found))))
    return made


def coco_eval(made: list[Picture]) -> list[float]:
    """AP, AP50, AP75 and AR of ``pycocotools`` on the pictures."""
    from pycocotools.coco import COCO  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-not-found, import-untyped, unused-ignore]

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for index, picture in enumerate(made):
        for truth, (x0, y0, x1, y1), area in zip(picture.truth, picture.boxes, picture.areas, strict=True):
            flags = np.isfinite(truth).all(axis=1)
            rows = np.concatenate([np.nan_to_num(truth), 2.0 * flags[:, None]], axis=1)
            box = [x0, y0, x1 - x0, y1 - y0]
            own = {"id": len(annotations) + 1, "image_id": index, "category_id": 1, "bbox": box, "area": area}
            annotations.append(
                {**own, "iscrowd": 0, "keypoints": rows.ravel().tolist(), "num_keypoints": int(flags.sum())}
            )
        for found, score in zip(picture.found, picture.scores, strict=True):
            rows = np.concatenate([found, np.ones((17, 1))], axis=1)
            results.append({"image_id": index, "category_id": 1, "keypoints": rows.ravel().tolist(), "score": score})
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": index} for index in range(len(made))],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": annotations,
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(evaluation.stats[place]) for place in (0, 1, 2, 5)]


OF_PYCOCOTOOLS = [0.07478406640178367, 0.13995014715978454, 0.06514451119207801, 0.24893617021276593]
"""`coco_eval` of the `pictures` with pycocotools 2.0.11."""


def ours(made: list[Picture]) -> list[float]:
    images = [
        metrics.PeopleInImage(
            picture.scores,
            metrics.object_similarity(picture.found, picture.truth, picture.areas, COCO17.sigmas, picture.boxes),
            np.array([np.isnan(points).any(axis=1).all() for points in picture.truth], np.bool_),
        )
        for picture in made
    ]
    (ap, ar), (ap50, _), (ap75, _) = (
        metrics.oks_average_precision(images, thresholds) for thresholds in (metrics.OKS_THRESHOLDS, [0.5], [0.75])
    )
    return [ap, ap50, ap75, ar]


def test_oks_ap_is_that_of_pycocotools() -> None:
    assert ours(pictures()) == pytest.approx(OF_PYCOCOTOOLS, abs=1e-12)


def test_the_recorded_numbers_are_those_of_the_pycocotools_that_is_here() -> None:
    pytest.importorskip("pycocotools")
    assert coco_eval(pictures()) == pytest.approx(OF_PYCOCOTOOLS, abs=1e-12)


def test_oks_ap_by_hand() -> None:
    # Two people, three found: right, wrong, right by falling score. Precision 1, 1/2, 2/3, made 1, 2/3, 2/3; recall
    # 1/2, 1/2, 1. Of the 101 recalls 51 are reached with precision 1 and 50 with 2/3.
    image = metrics.PeopleInImage(
        np.array([0.9, 0.8, 0.7]), np.array([[0.96, 0.1], [0.2, 0.3], [0.5, 0.97]]), np.zeros(2, np.bool_)
    )
    ap, ar = metrics.oks_average_precision([image])
    assert ap == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert ar == 1
    # The first is as similar to both, and takes the last, as COCOeval does; so the other one is left for the second.
    tie = metrics.PeopleInImage(np.array([0.9, 0.8]), np.array([[0.8, 0.8], [0.9, 0.0]]), np.zeros(2, np.bool_))
    assert metrics.oks_average_precision([tie], (0.5,)) == pytest.approx((1, 1))
    nobody = metrics.PeopleInImage(np.array([0.5]), np.zeros((1, 0)), np.zeros(0, np.bool_))
    assert np.isnan(metrics.oks_average_precision([nobody])).all()


@pytest.mark.parametrize(("place", "recall"), [(19, 1.0), (20, 0.0)])
def test_of_an_image_the_twenty_surest_people_count(place: int, recall: float) -> None:
    similarity = np.zeros((25, 1))
    similarity[place] = 1
    image = metrics.PeopleInImage(np.linspace(0.9, 0.1, 25), similarity, np.zeros(1, np.bool_))
    assert metrics.oks_average_precision([image])[1] == recall
