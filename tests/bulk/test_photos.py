"""Photos in a bulk run: those that cannot be read, and those that hold more than one picture."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra [ray] is not installed", allow_module_level=True)
pytest.importorskip("pyarrow.parquet")

from cunet_deploy.bulk.items import Item
from cunet_deploy.bulk.results import Output
from cunet_deploy.bulk.run import load_model
from cunet_deploy.bulk.worker import Settings, Status, Worker
from cunet_deploy.media.readers.images import IMAGE_SUFFIXES

PHOTO = Path(__file__).resolve().parents[1] / "data" / "astronaut.jpg"


def localize(output: Output, item: Item) -> Status:
    return Worker(load_model("face68-s", output), Settings(jsonl=True), output).run(item)


def test_photos_that_cannot_be_read_are_rows_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(PHOTO.read_bytes()[:2000])
    output, item = Output(str(tmp_path / "out")), Item("images", (str(PHOTO), str(tmp_path / "broken.jpg")))
    status = localize(output, item)
    assert (status.frames, status.left_out, status.error) == (1, 1, "")
    *_, row = output.read_rows(output.landmarks_path(item))
    assert (row["source"], row["id"]) == (str(tmp_path / "broken.jpg"), None)
    assert "cut off" in row["error"]


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are Unicode here")
def test_names_that_are_no_unicode_are_written_as_they_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "a: b"
    folder.mkdir()
    good, broken = (folder / os.fsdecode(name) for name in (b"good\xe9.jpg", b"broken\xe9.jpg"))
    good.write_bytes(PHOTO.read_bytes())
    broken.write_bytes(b"")
    output, item = Output(str(tmp_path / "out")), Item("images", (str(good), str(broken)))
    status = localize(output, item)
    assert (status.frames, status.left_out, status.error) == (1, 1, "")
    rows = list(output.read_rows(output.landmarks_path(item)))
    assert [row["source"] for row in rows] == [str(folder / name) for name in ("good\\xe9.jpg", "broken\\xe9.jpg")]
    assert rows[-1]["error"] == "is empty; replace the file"
    lines = [json.loads(line) for line in output.read_bytes(f"jsonl/{item.key}.jsonl").splitlines()]
    assert [line["file"] for line in lines] == ["good\\xe9.jpg", "broken\\xe9.jpg"]


@pytest.mark.parametrize("suffix", [".webp", ".png", ".avif", ".tif"])
def test_further_frames_and_pages_of_a_photo_are_named(tmp_path: Path, suffix: str) -> None:
    path, pictures = tmp_path / f"some{suffix}", [np.full((48, 64, 3), 40 * index, np.uint8) for index in range(4)]
    if suffix == ".tif":
        cv2.imwritemulti(str(path), pictures)
    elif suffix not in IMAGE_SUFFIXES or not hasattr(cv2, "imwriteanimation"):
        pytest.skip("this OpenCV writes no such animations")
    else:
        animation = cv2.Animation()
        animation.frames, animation.durations = pictures, [100] * len(pictures)
        cv2.imwriteanimation(str(path), animation)
    output, item = Output(str(tmp_path / "out")), Item("images", (str(path), str(PHOTO)))
    status = localize(output, item)
    assert (status.frames, status.left_out, status.error) == (2, 3, "")
    first, further, photo = output.read_rows(output.landmarks_path(item))
    assert [(row["source"], row["frame"]) for row in (first, further)] == [(str(path), 0)] * 2
    told = "the first of 4 frames or pages is read; infer reads them all"
    assert [row["error"] for row in (first, further, photo)] == [None, told, None]
    lines = [json.loads(line) for line in output.read_bytes(f"jsonl/{item.key}.jsonl").splitlines()]
    assert [(line["file"], line["frames"]) for line in lines if line.get("error") == told] == [(path.name, 3)]
