"""Paths of results, by source and by what is asked for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import write_clip

from cunet_deploy.errors import InputError
from cunet_deploy.media import FORMATS, ImageFiles, VideoFile, open_source, plan_outputs
from cunet_deploy.media.readers.images import WRITABLE_IMAGE_SUFFIXES


@pytest.fixture
def clip(tmp_path: Path) -> VideoFile:
    source = open_source(write_clip(tmp_path / "clip.avi", 1))
    assert isinstance(source, VideoFile)
    return source


def _images(folder: Path, *names: str, single: bool = False) -> ImageFiles:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8))
    return ImageFiles(paths, single=single)


def test_a_video_is_called_as_asked_and_its_records_beside_it(clip: VideoFile, tmp_path: Path) -> None:
    plan = plan_outputs(clip, tmp_path / "out.mp4")
    assert plan.files == [tmp_path / name for name in ("out.mp4", "out.jsonl", "out.csv")]
    assert plan_outputs(clip, tmp_path / "out.mp4", draw=False).video is None


def test_without_a_name_files_are_called_after_the_source(clip: VideoFile, tmp_path: Path) -> None:
    assert [str(path) for path in plan_outputs(clip, None).files] == [
        "clip.landmarks.mp4",
        "clip.landmarks.jsonl",
        "clip.landmarks.csv",
    ]
    image = _images(tmp_path, "portrait.jpg", single=True)
    assert str(plan_outputs(image, None).images[0]) == "portrait.landmarks.png"
    assert plan_outputs(image, tmp_path).images[0] == tmp_path / "portrait.landmarks.png"


def test_a_path_that_ends_with_a_slash_is_a_folder(clip: VideoFile, tmp_path: Path) -> None:
    assert plan_outputs(clip, f"{tmp_path}/new/").video == tmp_path / "new" / "clip.landmarks.mp4"
    image = _images(tmp_path, "a.jpg", single=True)
    assert plan_outputs(image, f"{tmp_path}/new.jsonl/").images == (tmp_path / "new.jsonl" / "a.landmarks.png",)


def test_several_images_go_to_a_folder(tmp_path: Path) -> None:
    plan = plan_outputs(_images(tmp_path, "a.jpg", "b.png"), tmp_path / "out")
    names = ("a.jpg", "b.png", "landmarks.jsonl", "landmarks.csv")
    assert plan.files == [tmp_path / "out" / name for name in names]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_record_file_can_be_written_alone(clip: VideoFile, tmp_path: Path, name: str) -> None:
    assert plan_outputs(clip, tmp_path / name).files == [tmp_path / name]


@pytest.mark.parametrize(("name", "field"), [("out.json", "coco"), ("OUT.CSV", "csv"), ("x.coco.json", "coco")])
def test_the_suffix_chooses_the_kind_of_a_file_alone(clip: VideoFile, tmp_path: Path, name: str, field: str) -> None:
    plan = plan_outputs(clip, tmp_path / name)
    assert plan.records == {field: tmp_path / name}


def test_formats_choose_the_files_beside_the_pictures(clip: VideoFile, tmp_path: Path) -> None:
    plan = plan_outputs(clip, tmp_path / "out.mp4", formats=tuple(FORMATS))
    assert [path.name for path in plan.files] == ["out.mp4", "out.jsonl", "out.csv", "out.coco.json", "out_pts"]
    image = _images(tmp_path, "a.jpg", single=True)
    plan = plan_outputs(image, tmp_path / "out.png", formats=("pts", "coco"), draw=False)
    assert [path.name for path in plan.files] == ["out.coco.json", "out.pts"]
    folder = plan_outputs(_images(tmp_path / "in", "a.jpg", "b.jpg"), tmp_path / "out", formats=("pts",))
    assert folder.files == [tmp_path / "out" / "a.jpg", tmp_path / "out" / "b.jpg", tmp_path / "out"]
    with pytest.raises(InputError, match="xml is not written; choose from jsonl, csv, coco, pts"):
        plan_outputs(clip, tmp_path / "out.mp4", formats=("xml",))
    with pytest.raises(InputError, match="leave the formats out"):
        plan_outputs(clip, tmp_path / "out.jsonl", formats=("csv",))


def test_a_pts_file_is_of_one_image(clip: VideoFile, tmp_path: Path) -> None:
    image = _images(tmp_path, "a.jpg", single=True)
    assert plan_outputs(image, tmp_path / "out.pts").files == [tmp_path / "out.pts"]
    for source in (clip, _images(tmp_path / "in", "a.jpg", "b.jpg")):
        with pytest.raises(InputError, match="the format pts"):
            plan_outputs(source, tmp_path / "out.pts")


def test_nothing_and_standard_output_are_no_files(clip: VideoFile) -> None:
    nothing, stdout = plan_outputs(clip, "none"), plan_outputs(clip, "-")
    assert nothing.files == stdout.files == []
    assert (nothing.stdout, stdout.stdout) == (False, True)
    assert not nothing.draws


@pytest.mark.parametrize("name", ["out.png", "out", "out.txt"])
def test_a_video_does_not_go_into_another_kind_of_file(clip: VideoFile, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"clip\.avi is a video; the output may end in \.mp4") as refused:
        plan_outputs(clip, tmp_path / name)
    assert ".pts" not in str(refused.value)


def test_images_do_not_go_into_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"a\.jpg is an image; the output may end in .*\.pts, or in / for a new folder"
    ):
        plan_outputs(_images(tmp_path, "a.jpg", single=True), tmp_path / "out.mp4")
    with pytest.raises(InputError, match="-o DIR"):
        plan_outputs(_images(tmp_path, "a.jpg", "b.jpg"), tmp_path / "out.png")


def test_source_files_are_never_replaced(clip: VideoFile, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is read and would be replaced"):
        plan_outputs(clip, clip.path)
    with pytest.raises(InputError, match="is read and would be replaced"):
        plan_outputs(_images(tmp_path, "a.jpg", "b.png"), tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"two images are called a\.jpg"):
        plan_outputs(_images(tmp_path, "x/a.jpg", "y/a.jpg"), tmp_path / "out")


def test_a_type_that_is_not_written_gets_the_suffix_png(clip: VideoFile, tmp_path: Path) -> None:
    for name in ("a.pgm", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((9, 9), np.uint8))
    folder = open_source(tmp_path)
    assert isinstance(folder, ImageFiles)
    assert [path.name for path in plan_outputs(folder, tmp_path / "out").images] == ["a.pgm.png", "b.png"]
    with pytest.raises(InputError, match=r"a\.pgm is an image; the output may end in"):
        plan_outputs(open_source(tmp_path / "a.pgm"), tmp_path / "out.pgm")
    with pytest.raises(InputError, match="the output may end in"):
        plan_outputs(clip, tmp_path / "%06d.pgm")


@pytest.mark.parametrize("suffix", WRITABLE_IMAGE_SUFFIXES)
def test_every_type_that_a_plan_names_is_written_in_colour(suffix: str) -> None:
    assert cv2.imencode(suffix, np.zeros((20, 20, 3), np.uint8))[0]
