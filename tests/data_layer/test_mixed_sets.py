"""Several data sets in one run: layouts, landmarks that one of them lacks, weights, and labels that others agree on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bodies import COCO_NAMES, write_coco, write_lspet

from cunet_deploy.boxmaps import BoxCode
from cunet_deploy.config import AugmentConfig, Config, parse_config
from cunet_deploy.data.augment import Augmenter
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.sources import read_box_sources, read_sources
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.skeletons import COCO17, LSP14

LIMBS = [name for name in LSP14.landmarks if name not in ("neck", "head_top")]
NECK, HEAD = LSP14.landmarks.index("neck"), LSP14.landmarks.index("head_top")


def config(
    *sources: dict[str, Any], skeleton: str = "lsp14", boxes: dict[str, Any] | None = None, **train: Any
) -> Config:
    tables = {"data": {"sources": list(sources)}, "train": train, "boxes": boxes or {}}
    return parse_config({"name": "x", "skeleton": skeleton, **tables})


def read(folder: Path, *sources: dict[str, Any]) -> list[Example]:
    return read_sources(config(*sources).data, folder, LSP14)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_lspet(tmp_path / "lspet", 6, unlabelled=2)
    keypoints = [[30 + 9 * number, 20 + 11 * number, 2 if number else 0] for number in range(17)]
    row = {
        "category_id": 1,
        "keypoints": [value for point in keypoints for value in point],
        "bbox": [10, 10, 200, 210],
        "area": 9000,
    }
    write_coco(tmp_path / "people", "train", [{**row, "id": n, "image_id": n} for n in (1, 2, 3)], COCO_NAMES)
    return tmp_path


def test_two_layouts_come_together_and_what_one_lacks_does_not_count(data: Path) -> None:
    examples = read(data, {"path": "lspet#train", "layout": "lsp"}, {"path": "people"})
    assert [example.source for example in examples] == ["lspet#train"] * 4 + ["people"] * 3
    crowd, people = examples[0], examples[-1]
    assert crowd.weights is None
    assert people.weights is not None
    assert np.flatnonzero(people.weights == 0).tolist() == [NECK, HEAD]
    assert np.isnan(people.points[[NECK, HEAD]]).all()
    assert people.points[0].tolist() == [30 + 9 * 16, 20 + 11 * 16]  # right ankle


@pytest.mark.parametrize(("weight", "times", "each"), [(1, 1, 1.0), (2, 2, 1.0), (0.5, 1, 0.5), (1.5, 2, 0.75)])
def test_a_source_counts_as_much_as_its_weight(data: Path, weight: float, times: int, each: float) -> None:
    example = read(data, {"path": "lspet", "weight": weight})[0]
    assert example.times == times
    assert (1.0 if example.weights is None else float(example.weights.min())) == each


def test_labels_that_were_left_open_on_purpose_are_not_taken_for_absent(data: Path) -> None:
    plain, ignoring = (read(data, {"path": "lspet", **more})[0] for more in ({}, {"unlabelled": "ignore"}))
    missing = np.isnan(plain.points).any(axis=1)
    assert missing.sum() == 2
    assert ignoring.weights is not None
    assert (ignoring.weights == np.where(missing, 0, 1)).all()


def test_photos_with_people_whom_nobody_labelled_show_no_background(data: Path) -> None:
    config = AugmentConfig(negative=1, rotation=0, flip=0, erase=0, blur=0)
    drawn = []
    for exhaustive in (True, False):
        (example, *_) = read(data, {"path": "lspet", "exhaustive": exhaustive})
        assert example.exhaustive == exhaustive
        augmenter = Augmenter(config, CropRule(32, 0.2), LSP14)
        drawn.append(augmenter.draw(example, PhotoCache()[example.image], np.random.default_rng(0)))
    assert np.isinf(drawn[0].points).all()
    assert np.isfinite(drawn[1].points).any()


def agreement(data: Path, **opinions: tuple[str, list[list[float] | None]]) -> str:
    images = {
        f"{name}.jpg": {"a": [v for point in points for v in point or (None, None)], "from": digits, "torso": 40}
        for name, (digits, points) in opinions.items()
    }
    (data / "agreed.json").write_text(json.dumps({"joints": LIMBS, "about": "x", "images": images}))
    return "agreed.json"


def test_a_file_of_agreement_gives_labels_and_what_each_counts(data: Path) -> None:
    before = read(data, {"path": "lspet"})[0]
    points: list[list[float] | None] = [[50.0 + number, 60.0 + number] for number in range(12)]
    points[0] = None
    labels = agreement(data, im00001=("023111111111", points))
    after, other = read(data, {"path": "lspet", "labels": labels})[:2]
    assert after.weights is not None
    assert after.weights[:4].tolist() == [0, 0.8, 0.8, 1]
    assert np.isnan(after.points[0]).all()
    assert after.points[1].tolist() == [51, 61]
    # neck and head top are the crowd's, and where there is no opinion everything is
    np.testing.assert_array_equal(after.points[[NECK, HEAD]], before.points[[NECK, HEAD]])
    assert after.weights[[NECK, HEAD]].tolist() == [1, 1]
    assert other.weights is None
    everything = np.concatenate([before.points[[0, NECK, HEAD]], points[1:]])  # the ankle that is in doubt too
    np.testing.assert_allclose(after.box, [*np.nanmin(everything, axis=0), *np.nanmax(everything, axis=0)])


@pytest.mark.parametrize(
    ("digits", "points", "message"),
    [
        ("1" * 11, [[1.0, 2.0]] * 12, "expected 12 pairs in a and as many digits"),
        ("1" * 12, [[1.0, 2.0]] * 11, "expected 12 pairs in a and as many digits"),
        ("9" * 12, [[1.0, 2.0]] * 12, "digits of 0, 1, 2, 3"),
        ("1" * 12, [None] * 12, "a source in from and no place in a"),
    ],
)
def test_a_bad_opinion_is_named(data: Path, digits: str, points: list[Any], message: str) -> None:
    labels = agreement(data, im00001=(digits, points))
    with pytest.raises(InputError, match=f"agreed.json: im00001.jpg: .*{message}"):
        read(data, {"path": "lspet", "labels": labels})
    bad: list[str] = []
    examples = read_sources(config({"path": "lspet", "labels": labels}).data, data, LSP14, bad)
    assert (len(examples), len(bad)) == (5, 1)


def test_a_file_of_agreement_on_other_photos_is_refused(data: Path) -> None:
    labels = agreement(data, gone=("1" * 12, [[1.0, 2.0]] * 12))
    with pytest.raises(InputError, match="names no photo of the data set"):
        read(data, {"path": "lspet", "labels": labels})


def test_weights_go_with_their_landmarks_into_the_mirror(data: Path) -> None:
    example = read(data, {"path": "people"})[0]
    weights = np.arange(14.0)
    setup = parse_config({"name": "x", "skeleton": "lsp14", "data": {"train": ["a"]}, "augment": {"flip": 1.0}})
    augmenter = Augmenter(setup.augment, setup.crop, LSP14)
    photo = PhotoCache()[example.image]
    marked = Example(example.image, example.points, "a", given=example.box, weights=weights)
    drawn = augmenter.draw(marked, photo, np.random.default_rng(0))[2]
    assert drawn.tolist() == weights[LSP14.flip_order].tolist()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sources": [{"layout": "lsp"}]}, r"\[data\] sources\[0\]: key 'path' is missing"),
        ({"sources": [{"path": "a", "weigth": 2}]}, r"sources\[0\]: unknown key 'weigth'; did you mean 'weight'"),
        ({"sources": [{"path": "a", "weight": 0}]}, r"\[data\] sources\[0\].weight must be"),
        ({"sources": [{"path": "a"}], "train": ["b"]}, "has train and sources; name every folder in sources"),
        ({}, "train must name at least one folder"),
    ],
)
def test_a_bad_source_is_one_clear_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"name": "x", "skeleton": "lsp14", "data": table})


def test_a_configuration_with_sources_survives_the_way_through_plain_tables() -> None:
    settings = config({"path": "a", "weight": 2}, {"path": "b#c", "layout": "coco", "labels": "d.json"})
    assert parse_config(settings.to_dict()) == settings
    assert [source.path for source in settings.data.parts] == ["a", "b#c"]


def test_boxes_of_several_sources_come_together(data: Path) -> None:
    settings = config({"path": "people", "weight": 2}, {"path": "lspet"}, skeleton="box")
    photos = read_box_sources(settings, data)
    assert [photo.times for photo in photos] == [2] * 3 + [1] * 6
    with pytest.raises(ConfigError, match="'people': for skeleton = \"box\" weight is a whole number"):
        read_box_sources(config({"path": "people", "weight": 1.5}, skeleton="box"), data)


def test_tight_boxes_of_a_source_become_those_that_are_to_be_found(data: Path) -> None:
    table = {"tight_down": 0.1, "tight_width": 1.2, "tight_height": 0.5}
    (plain, *_), (tight, *_) = (
        read_box_sources(config({"path": "lspet", "boxes": boxes}, skeleton="box", boxes=table), data)
        for boxes in ("", "tight")
    )
    np.testing.assert_allclose(BoxCode(**table).tight(tight.boxes), plain.boxes)


def test_all_landmarks_of_a_skeleton_that_a_layout_has_count(data: Path) -> None:
    settings = config({"path": "people"}, skeleton="coco17")
    assert read_sources(settings.data, data, COCO17)[0].weights is None


def test_networks_that_find_landmarks_learn_no_boxes(data: Path) -> None:
    with pytest.raises(ConfigError, match="'lspet': boxes is for skeleton = \"box\"; leave it out"):
        read(data, {"path": "lspet", "boxes": "bodies"})
