from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from bodies import write_lspet
from numpy.typing import NDArray

from cunet_deploy import metrics
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.lsp import read_lsp
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.evaluation import TTA, Evaluation, compare, evaluate
from cunet_deploy.evaluation.gallery import worst_objects, worst_sheet
from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder, encode, input_to_map
from cunet_deploy.manifest import Manifest
from cunet_deploy.skeletons import IBUG68, LSP14, MPII16, map_landmarks

MANIFEST = Manifest(
    "toy", IBUG68, CropRule(128, 1.4), 4, Decoder(), 8, 8, 0.3, "none", ("drawn",), 17, "test", "0" * 64
)


@dataclass
class KnowingNetwork:
    """Draws heatmaps around the labels of the objects that it is told, in order, moved by pixels of the photo."""

    examples: Sequence[Example]
    moved: tuple[float, float] = (0.0, 0.0)
    manifest: Manifest = MANIFEST
    backend: str = "toy"
    seen: list[NDArray[np.uint8]] = field(default_factory=list)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        done = sum(map(len, self.seen))
        self.seen.append(images)
        crops = [(self.manifest.crop.crop(e.box), e.points) for e in self.examples[done : done + len(images)]]
        cells = [input_to_map(crop.to_input(points + self.moved), 4) for crop, points in crops]
        return encode(np.stack(cells), self.manifest.map_size, 1.2)

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """Three photos of 200 x 150 pixels with a face of 68 points on an ellipse each."""
    found = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.full((150, 200, 3), 60 * index, np.uint8))
        angles = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        radius = 30.0 + 10 * index
        points = np.stack([100 + radius * np.cos(angles), 75 + radius * np.sin(angles)], axis=1)
        found.append(Example(path, points, str(index)))
    return found


def test_a_network_that_knows_the_labels_has_almost_no_error(examples: list[Example]) -> None:
    evaluation = evaluate(KnowingNetwork(examples), examples, PhotoCache())
    assert np.abs(evaluation.points - evaluation.truth).max() < 0.1
    assert {measure.key: measure.estimate.value for measure in evaluation.measures()}[
        "failure_rate_outer_eye_percent"
    ] == 0


def test_errors_are_counted_in_the_photo_whatever_the_scale_of_the_crop(examples: list[Example]) -> None:
    evaluation = evaluate(KnowingNetwork(examples, moved=(3, 4)), examples, PhotoCache())
    eyes = [np.linalg.norm(example.points[36] - example.points[45]) for example in examples]
    np.testing.assert_allclose(evaluation.nme("outer_eye"), 5 / np.array(eyes), rtol=0.01)
    np.testing.assert_allclose(evaluation.nme("box"), [5 / 60, 5 / 80, 5 / 100], rtol=0.01)


def test_the_mean_is_over_objects_and_not_over_batches(examples: list[Example]) -> None:
    network = KnowingNetwork(examples, moved=(3, 4))
    evaluation = evaluate(network, examples, PhotoCache(), batch_size=2)
    assert [len(images) for images in network.seen] == [2, 1]
    measures = {measure.key: measure.estimate.value for measure in evaluation.measures()}
    assert measures["nme_box_percent"] == pytest.approx(100 * (5 / 60 + 5 / 80 + 5 / 100) / 3, rel=0.01)
    whole = evaluate(KnowingNetwork(examples, moved=(3, 4)), examples, PhotoCache())
    np.testing.assert_allclose(evaluation.points, whole.points, atol=1e-4)


def test_crops_are_sampled_around_the_label_box(examples: list[Example]) -> None:
    network = KnowingNetwork(examples)
    evaluate(network, examples, PhotoCache())
    (images,) = network.seen
    assert [int(image[64, 64, 0]) for image in images] == [0, 60, 120]
    assert int(images[2][0, 0, 0]) == 120  # 112 pixels of a photo that is 150 high
    assert images.shape == (3, 128, 128, 3)


def test_an_unlabelled_landmark_counts_nowhere(examples: list[Example]) -> None:
    points = examples[0].points.copy()
    points[5] = np.nan
    partly = [replace(examples[0], points=points), *examples[1:]]
    evaluation = evaluate(KnowingNetwork(examples, moved=(3, 4)), partly, PhotoCache())
    assert np.isnan(evaluation.errors("box")[0, 5])
    assert evaluation.landmarks_percent()["jaw_5"] == pytest.approx(
        100 * np.mean([5 / np.linalg.norm(e.points[36] - e.points[45]) for e in examples[1:]]), rel=0.01
    )


def test_progress_is_told_for_every_object(examples: list[Example]) -> None:
    steps: list[int] = []
    evaluate(KnowingNetwork(examples), examples, PhotoCache(), batch_size=2, advance=steps.append)
    assert steps == [2, 1]


def test_a_bad_photo_is_named(examples: list[Example]) -> None:
    examples[1].image.write_bytes(b"not a photo")
    with pytest.raises(InputError, match=r"1\.png: is damaged or not an image"):
        evaluate(KnowingNetwork(examples), examples, PhotoCache())


def test_the_label_of_a_photo_that_is_not_there_is_named(examples: list[Example]) -> None:
    examples[1].image.unlink()
    listed = [replace(example, where=f"points.csv, line {number}") for number, example in enumerate(examples, 2)]
    with pytest.raises(InputError, match=r"^points\.csv, line 3: .*1\.png: is missing; "):
        evaluate(KnowingNetwork(listed), listed, PhotoCache())


def test_a_bad_photo_is_left_out_and_noted_when_asked_for(examples: list[Example]) -> None:
    examples[1].image.write_bytes(b"")
    good, bad = [examples[0], examples[2]], []  # type: tuple[list[Example], list[str]]
    evaluation = evaluate(KnowingNetwork(good), examples, PhotoCache(), bad=bad)
    assert list(evaluation.examples) == good
    assert len(bad) == 1
    assert "1.png" in bad[0]
    assert np.abs(evaluation.points - evaluation.truth).max() < 0.1


def test_nothing_left_to_evaluate_is_an_error(examples: list[Example]) -> None:
    for example in examples:
        example.image.unlink()
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate(KnowingNetwork(examples), examples, PhotoCache(), bad=[])


def test_labels_of_another_skeleton_are_refused(examples: list[Example]) -> None:
    other = [replace(examples[0], points=examples[0].points[:5])]
    with pytest.raises(InputError, match="5 landmarks, the model predicts 68"):
        evaluate(KnowingNetwork(other), other, PhotoCache())


def test_a_network_that_returns_nan_is_reported_rather_than_scored(examples: list[Example]) -> None:
    class Broken(KnowingNetwork):
        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return super().run(images) * np.float32(np.nan)

    with pytest.raises(CunetError, match="not finite"):
        evaluate(Broken(examples), examples, PhotoCache())


def at(examples: list[Example], moved: float) -> Evaluation:
    points = np.stack([example.points for example in examples]) + np.array([moved, 0])
    return Evaluation(MANIFEST, "toy", tuple(examples), points, np.ones(points.shape[:2]))


def test_a_model_that_is_twice_as_wrong_is_100_percent_worse(examples: list[Example]) -> None:
    difference, relative = compare(at(examples, 4), at(examples, 2))
    assert relative.estimate.to_dict() == {"value": 100, "ci95_low": 100, "ci95_high": 100}
    assert difference.estimate.value == pytest.approx(100 * at(examples, 2).nme().mean())
    assert difference.estimate.low > 0


def test_models_are_compared_on_the_same_objects_only(examples: list[Example]) -> None:
    with pytest.raises(InputError, match="different objects"):
        compare(at(examples, 1), at(examples[:2], 1))


def test_models_of_different_landmarks_are_not_compared(examples: list[Example]) -> None:
    ours = at(examples, 1)
    mirrored = replace(IBUG68, name="mirrored", landmarks=IBUG68.landmarks[::-1])
    theirs = replace(ours, manifest=replace(MANIFEST, skeleton=mirrored))
    with pytest.raises(InputError, match="different landmarks"):
        compare(ours, theirs)


def test_a_report_has_its_units_in_the_keys(examples: list[Example]) -> None:
    table = at(examples, 2).to_dict()
    assert table["objects"] == 3
    for key in ("nme_outer_eye_percent", "nme_pupil_percent", "nme_box_percent", "auc_outer_eye_percent"):
        assert set(table[key]) == {"value", "ci95_low", "ci95_high"}


POSE = replace(MANIFEST, skeleton=LSP14, crop=CropRule(128, 1.25))


@pytest.fixture
def people(tmp_path: Path) -> list[Example]:
    """Four people, each with two joints that are not labelled."""
    labels = write_lspet(tmp_path / "lspet", 4, unlabelled=2)
    examples = read_lsp(tmp_path / "lspet")
    assert all(np.isnan(points).any(axis=1).sum() == 2 for points in labels)
    return examples


def moved_joints(people: list[Example], joint: int, shift: float) -> Evaluation:
    """All joints right but one of the first person, which is off by ``shift`` torsos."""
    points = np.nan_to_num(np.stack([example.points for example in people]))
    length = metrics.normalizer_lengths(people[0].points[None], LSP14)[0]
    points[0, joint, 0] += shift * length
    return Evaluation(POSE, "toy", tuple(people), points, np.ones(points.shape[:2]))


def test_bodies_are_measured_by_the_share_of_correct_joints(people: list[Example]) -> None:
    joint = int(np.flatnonzero(np.isfinite(people[0].points).all(axis=1))[0])
    evaluation = moved_joints(people, joint, 0.15)
    values = {measure.key: measure.estimate.value for measure in evaluation.measures()}
    assert values["pck_20_percent"] == 100
    assert values["pck_10_percent"] == pytest.approx(100 * 47 / 48)
    assert values["auc_pck_20_percent"] == pytest.approx(100 * (47 + 5.5 / 20) / 48)
    assert "nme_torso_percent" not in values
    assert evaluation.landmark_key == "landmarks_pck_20_percent"
    far = moved_joints(people, joint, 0.3)
    labelled = sum(np.isfinite(example.points[joint]).all() for example in people)
    assert far.landmarks_percent()[LSP14.landmarks[joint]] == pytest.approx(100 * (1 - 1 / labelled))


def test_what_eight_bits_cost_is_said_in_points_of_pck(people: list[Example]) -> None:
    joint = int(np.flatnonzero(np.isfinite(people[0].points).all(axis=1))[0])
    (lost,) = compare(moved_joints(people, joint, 0.3), moved_joints(people, joint, 0.1))
    assert (lost.key, lost.unit) == ("pck_20_lost_percent_points", "points")
    assert lost.estimate.value == pytest.approx(100 / 48)
    assert lost.estimate.low == 0


def test_a_labelled_head_is_the_unit_of_pckh(people: list[Example]) -> None:
    heads = [Example(e.image, map_landmarks(e.points, LSP14, MPII16), e.photo, sizes={"head": 40.0}) for e in people]
    points = np.nan_to_num(np.stack([example.points for example in heads]))
    wrist = MPII16.landmarks.index("left_wrist")
    for row in points:
        row[wrist, 0] += 30  # more than half of 40
        row[MPII16.landmarks.index("right_ankle"), 0] += 19
    manifest = replace(POSE, skeleton=MPII16)
    evaluation = Evaluation(manifest, "toy", tuple(heads), points, np.ones(points.shape[:2]))
    assert evaluation.landmarks_percent()["left_wrist"] == 0
    assert evaluation.landmarks_percent()["right_ankle"] == 100


def test_average_precision_is_measured_where_areas_are_known(people: list[Example]) -> None:
    with_areas = tuple(replace(example, sizes={"area": 5000.0}) for example in people)
    evaluation = replace(moved_joints(people, 0, 0), examples=with_areas)
    values = {measure.key: measure.estimate.value for measure in evaluation.measures()}
    assert values["oks_ap_percent"] == pytest.approx(100)
    assert values["oks_ar_percent"] == pytest.approx(100)
    assert "oks_ap_percent" not in {measure.key for measure in moved_joints(people, 0, 0).measures()}
    some = replace(evaluation, examples=(*with_areas[:2], *people[2:]))
    titles = {measure.key: measure.title for measure in some.measures()}
    assert titles["oks_ap_percent"] == f"OKS AP, boxes given, 2 of {len(people)} people have an area"


def test_the_flip_test_of_a_symmetric_network_changes_nothing(people: list[Example]) -> None:
    @dataclass
    class Symmetric(KnowingNetwork):
        """Answers for the mirror image of a crop with the mirrored maps."""

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            if not self.seen or len(self.seen) % 2 == 0:
                self.maps = super().run(images)
                return self.maps
            np.testing.assert_array_equal(images, self.seen[-1][:, :, ::-1])
            self.seen.append(images[:0])
            return self.maps[:, LSP14.flip_order, :, ::-1]

    once = evaluate(KnowingNetwork(people, manifest=POSE), people, PhotoCache())
    both = evaluate(Symmetric(people, manifest=POSE), people, PhotoCache(), tta=TTA(flip=True))
    np.testing.assert_allclose(both.points, once.points, atol=1e-5)
    assert both.to_dict()["flip_test"] is True


def test_the_flip_test_takes_the_mean_of_both_looks(people: list[Example]) -> None:
    @dataclass
    class Shifted(KnowingNetwork):
        """Sees everything a cell further to the right of the photo in the mirror image of a crop."""

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            if len(self.seen) % 2 == 0:
                self.maps = super().run(images)
                return self.maps
            self.seen.append(images[:0])
            return np.roll(self.maps, 1, axis=3)[:, LSP14.flip_order, :, ::-1]

    once = evaluate(KnowingNetwork(people, manifest=POSE), people, PhotoCache())
    both = evaluate(Shifted(people, manifest=POSE), people, PhotoCache(), tta=TTA(flip=True))
    cells = np.array([POSE.crop.crop(example.box).side / POSE.map_size for example in people])
    moved = (both.points - once.points) / cells[:, None, None]
    labelled = np.isfinite(once.truth).all(axis=-1)
    np.testing.assert_allclose(moved[labelled], np.tile([0.5, 0], (labelled.sum(), 1)), atol=0.08)


def test_maps_of_crops_of_other_sizes_are_averaged_where_they_belong(people: list[Example]) -> None:
    @dataclass
    class Scaled(KnowingNetwork):
        """Sees all people once in each size."""

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            scale = (1.0, 0.9, 1.3)[len(self.seen)]
            self.seen.append(images)
            rule = replace(self.manifest.crop, padding=self.manifest.crop.padding * scale)
            cells = [input_to_map(rule.crop(example.box).to_input(example.points), 4) for example in self.examples]
            return encode(np.stack(cells), self.manifest.map_size, 1.5)

    network = Scaled(people, manifest=POSE)
    evaluation = evaluate(network, people, PhotoCache(), tta=TTA(scales=(0.9, 1.3)))
    assert len(network.seen) == 3
    cells = np.array([POSE.crop.crop(example.box).side / POSE.map_size for example in people])
    moved = np.linalg.norm(evaluation.points - evaluation.truth, axis=-1) / cells[:, None]
    assert np.nanmax(moved) < 0.1
    assert evaluation.to_dict()["scales"] == [1.0, 0.9, 1.3]


def test_a_blur_reads_the_same_landmarks_from_gaussians_and_stands_in_the_report(people: list[Example]) -> None:
    once = evaluate(KnowingNetwork(people, manifest=POSE), people, PhotoCache())
    blurred = evaluate(KnowingNetwork(people, manifest=POSE), people, PhotoCache(), blur=0.5)
    labelled = np.isfinite(once.truth).all(axis=-1)
    moved = np.linalg.norm(blurred.points - once.points, axis=-1)[labelled]
    assert 0 < moved.max() < 1
    assert blurred.to_dict()["blur"] == 0.5
    assert "blur" not in once.to_dict()


def test_the_worst_come_first_in_the_gallery(people: list[Example]) -> None:
    joint = int(np.flatnonzero(np.isfinite(people[2].points).all(axis=1))[0])
    evaluation = moved_joints(people, joint, 0)
    evaluation.points[2, joint] += 500  # far outside the photo
    evaluation.points[1] += 2
    assert worst_objects(evaluation, 2) == [2, 1]
    sheet = worst_sheet(evaluation, PhotoCache(), 3)
    assert sheet.shape == (256, 3 * 256, 3)


def test_of_faces_the_largest_mean_errors_are_the_worst(examples: list[Example]) -> None:
    evaluation = evaluate(KnowingNetwork(examples, moved=(3, 4)), examples, PhotoCache())
    assert worst_objects(evaluation, 3) == [0, 1, 2]  # the same shift is most of the smallest face


def test_where_labels_say_what_is_hidden_the_report_says_how_well_scores_tell_it(examples: list[Example]) -> None:
    class Telling(KnowingNetwork):
        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            maps = super().run(images)
            maps[:, :9] *= 0.6
            return maps

    def measured(labels: list[Example]) -> dict[str, float]:
        evaluation = evaluate(Telling(labels), labels, PhotoCache())
        return {measure.key: measure.estimate.value for measure in evaluation.measures()}

    assert "visibility_auc_percent" not in measured(examples)
    visible = np.ones(68)
    visible[:9] = 0
    assert measured([replace(example, visible=visible) for example in examples])["visibility_auc_percent"] == 100
    assert measured([replace(examples[0], visible=1 - visible), *examples[1:]])["visibility_auc_percent"] == 0
