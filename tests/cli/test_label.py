"""``cunet-deploy label``: from photos and a clip to a set that training reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dots import DOTS, draw, manifest, scene, write_model

from cunet_deploy._files import file_sha256
from cunet_deploy.cli import cli
from cunet_deploy.config import DataConfig, SourceConfig
from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.checks import usable_examples
from cunet_deploy.data.examples import Example, PhotoCache
from cunet_deploy.data.sources import read_sources
from cunet_deploy.media import read_image
from cunet_deploy.media.writers.video import VideoWriter
from cunet_deploy.skeletons import Skeleton

PLAIN = replace(DOTS, flip_pairs=())  # colours stay what they are in a mirror image
CENTERS = ((150, 110), (120, 140), (190, 120))


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return write_model(tmp_path / "dots.onnx", manifest(skeleton=PLAIN))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, center in enumerate(CENTERS):
        cv2.imwrite(str(folder / f"photo{index}.png"), scene(center)[0])
    return folder


def label(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["label", *(str(argument) for argument in arguments)])


def read(folder: str, data: Path, skeleton: Skeleton = PLAIN) -> list[Example]:
    config = DataConfig(sources=(SourceConfig(folder, layout="coco"),))
    return usable_examples(read_sources(config, data, skeleton), PhotoCache(), None)


def test_photos_become_a_set_that_training_reads(teacher: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"not a picture")
    out, report = tmp_path / "set" / "train.json", tmp_path / "report.json"
    sources = (photos, photos / "photo0.png")  # of which one is named twice
    result = label(*sources, "--teacher", teacher, "-o", out, "--detector", "full", "--json", report, "--within", 0.1)
    assert result.exit_code == 1, result.output  # something could not be read
    assert "skipped: broken.png: is damaged" in result.stderr
    assert "3 of 3 objects labelled, in 3 of 3 pictures" in result.stdout
    examples = read("set", tmp_path)
    assert [example.image for example in examples] == sorted(photos.glob("photo*.png"))
    for example, center in zip(examples, CENTERS, strict=True):
        np.testing.assert_allclose(example.points, scene(center)[1], atol=2)
        np.testing.assert_allclose(example.box, [*example.points.min(axis=0), *example.points.max(axis=0)], atol=0.02)
    table = json.loads(out.read_text())
    assert table["info"]["teachers"][0]["sha256"] == file_sha256(teacher)
    assert table["info"]["within"] == 0.1
    assert all(0.5 < score <= 1 for row in table["annotations"] for score in row["keypoint_scores"])
    assert read_image(out.with_suffix(".doubts.jpg")).shape == (256, 768, 3)
    numbers = json.loads(report.read_text())
    assert [row["joint"] for row in numbers["joints"]] == list(PLAIN.landmarks)
    assert {row["agreed_percent"] for row in numbers["joints"]} == {100.0}
    assert sorted(path.name for path in out.parent.iterdir()) == ["train.doubts.jpg", "train.json"]


def test_frames_of_a_clip_become_photos_beside_the_set(teacher: Path, tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 10, (320, 240))
    for index in range(20):
        writer.write(scene((140 + index, 120))[0])
    writer.close()
    options = ("--teacher", teacher, "--detector", "full", "--every", 5, "--seconds", "0.5:1.9", "--within", 0.1)
    out = tmp_path / "camera" / "annotations" / "train.json"
    result = label(tmp_path / "clip.mp4", *options, "-o", out)
    assert result.exit_code == 0, result.output
    examples = read("camera#train", tmp_path)
    folder = tmp_path / "camera" / "train"
    assert [example.image for example in examples] == [folder / f"clip_{index:06d}.jpg" for index in (5, 10, 15)]
    np.testing.assert_allclose(examples[1].points, scene((150, 120))[1], atol=3)
    again = label(tmp_path / "clip.mp4", *options, "-o", out)
    assert again.exit_code == 2
    assert "exists" in again.stderr
    assert label(tmp_path / "clip.mp4", *options, "-o", out, "--overwrite", "--every", 10).exit_code == 0
    assert [path.name for path in folder.iterdir()] == ["clip_000010.jpg"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    writer = VideoWriter(tmp_path / "clip.mp4", 10, (320, 240))
    for index in range(10):
        writer.write(scene((140 + index, 120))[0])
    writer.close()
    return tmp_path / "clip.mp4"


def test_overwrite_replaces_no_file_that_is_not_a_frame_of_the_set(teacher: Path, clip: Path, tmp_path: Path) -> None:
    options = ("--teacher", teacher, "--detector", "full", "--every", 5, "--within", 0.1, "-o", tmp_path / "mine.json")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own.jpg").write_bytes(b"a photo")
    result = label(clip, *options, "--overwrite")
    assert result.exit_code == 2
    assert "holds own.jpg, which is no frame of" in result.stderr
    assert (folder / "own.jpg").read_bytes() == b"a photo"
    (folder / "own.jpg").unlink()
    assert label(clip, *options, "--overwrite").exit_code == 0
    assert label(clip, *options, "--overwrite").exit_code == 0
    assert len(list(folder.iterdir())) == 2


def test_the_frames_of_a_set_are_not_labelled_into_itself(teacher: Path, clip: Path, tmp_path: Path) -> None:
    options = ("--teacher", teacher, "--detector", "full", "--every", 5, "--within", 0.1, "-o", tmp_path / "set.json")
    assert label(clip, *options).exit_code == 0
    result = label(tmp_path / "set", *options, "--overwrite")
    assert result.exit_code == 2
    assert "holds the frames of the set that is being written" in result.stderr
    assert len(list((tmp_path / "set").iterdir())) == 2


def test_a_contact_sheet_in_the_way_is_noticed_before_any_work(teacher: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "set.doubts.jpg").write_bytes(b"of an earlier set")
    result = label(clip, "--teacher", teacher, "--detector", "full", "-o", tmp_path / "set.json")
    assert result.exit_code == 2
    assert "set.doubts.jpg: exists already" in result.stderr
    assert not (tmp_path / "set.json").exists()


def test_pages_of_files_of_one_name_become_photos_of_their_own(teacher: Path, tmp_path: Path) -> None:
    for name, left in (("a", 100), ("b", 200)):
        (tmp_path / name).mkdir()
        pages = [scene((left, 120))[0], scene((left + 10, 120))[0]]
        assert cv2.imwritemulti(str(tmp_path / name / "scan.tif"), pages)
    options = ("--teacher", teacher, "--detector", "full", "--within", 0.1, "-o", tmp_path / "set.json")
    result = label(tmp_path / "a" / "scan.tif", tmp_path / "b" / "scan.tif", *options)
    assert result.exit_code == 0, result.output
    files = [row["file_name"] for row in json.loads((tmp_path / "set.json").read_text())["images"]]
    assert len(files) == len(set(files)) == 4
    assert all((tmp_path / file).is_file() for file in files)


def test_joints_on_which_teachers_differ_stay_open(teacher: Path, photos: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", manifest(skeleton=replace(PLAIN, name="other")))
    names = ("left_top", "right_top", "middle", "right_bottom", "left_bottom")  # the last two exchanged
    write_model(tmp_path / "swapped.onnx", manifest(skeleton=replace(PLAIN, landmarks=names)))
    options = ("--detector", "full", "--within", 0.1, "--sheet", 0)
    same = label(photos, "--teacher", teacher, "--teacher", other, *options, "-o", tmp_path / "same" / "a.json")
    assert same.exit_code == 0, same.output
    assert all(np.isfinite(example.points).all() for example in read("same", tmp_path))
    swapped = ("--teacher", teacher, "--teacher", tmp_path / "swapped.onnx")
    result = label(photos, *swapped, *options, "-o", tmp_path / "less" / "a.json")
    assert result.exit_code == 0, result.output
    for example in read("less", tmp_path):
        np.testing.assert_array_equal(np.isfinite(example.points[:, 0]), [True, True, True, False, False])
    strict = label(photos, *swapped, *options, "--min-joints", 0.9, "-o", tmp_path / "none" / "a.json")
    assert "0 of 3 objects labelled" in strict.stdout
    boxes = read_boxes(tmp_path / "none", "coco")
    assert [photo.scores.tolist() for photo in boxes] == [[0.0]] * 3  # somebody is there: no background


def test_boxes_of_a_detector_are_taken_and_several_objects_found(teacher: Path, tmp_path: Path) -> None:
    points = np.stack([scene((80, 120), 30)[1], scene((230, 120), 30)[1]])
    cv2.imwrite(str(tmp_path / "two.png"), draw(points, 30, (240, 320)))
    boxes = {"two.png": [[50, 90, 110, 150], [200, 90, 260, 150]]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    where = f"boxes:{tmp_path / 'boxes.json'}"
    out = tmp_path / "set" / "two.json"
    result = label(tmp_path / "two.png", "--teacher", teacher, "--detector", where, "-o", out, "--within", 0.1)
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose([example.points for example in read("set", tmp_path)], points, atol=2.5)


def test_where_nothing_is_found_nothing_is_written(teacher: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((240, 320, 3), 128, np.uint8))
    out = tmp_path / "set" / "train.json"
    result = label(tmp_path / "empty.png", "--teacher", teacher, "--detector", "full", "-o", out)
    assert result.exit_code == 2
    assert "nothing was found in 1 pictures" in result.stderr
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("beside", [(), ("broken.mp4",)], ids=["alone", "beside what cannot be read"])
def test_a_part_behind_the_end_of_a_clip_is_told(
    teacher: Path, clip: Path, tmp_path: Path, beside: tuple[str, ...]
) -> None:
    options = ("--teacher", teacher, "--detector", "full", "--seconds", "60:", "-o", tmp_path / "set.json")
    (tmp_path / "broken.mp4").write_bytes(b"not a clip")
    result = label(*(tmp_path / name for name in beside), clip, *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no frame of the clips is in the part that is wanted; give another one (--seconds)" in result.stderr


def test_sources_of_which_none_can_be_read_say_why(teacher: Path, tmp_path: Path) -> None:
    sources = tmp_path / "a.mp4", tmp_path / "b.mp4"
    for path in sources:
        path.write_bytes(b"not a clip")
    result = label(*sources, "--teacher", teacher, "--detector", "full", "-o", tmp_path / "set.json")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no picture can be read; " in result.stderr
    assert str(sources[0]) in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "set.txt"), "give -o SET.json"),
        (("-o", "set.json", "--seconds", "5"), "expected FROM:TO"),
        (("-o", "set.json", "--seconds", "5:2"), "expected FROM:TO"),
        (("-o", "set.json", "--skeleton", "lsp14"), "no landmark in common"),
        (("-o", "set.json", "--skeleton", "lps14"), "no skeleton is called"),
        (("-o", "set.json", "--teacher", "face-detect-s"), "finds boxes"),
    ],
)
def test_wrong_usage_is_one_line(
    options: tuple[str, ...], message: str, teacher: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = label(photos, "--teacher", teacher, "--detector", "full", *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not list(tmp_path.glob("set*"))
