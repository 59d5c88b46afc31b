"""Training on drawn squares: a network learns to find boxes, is exported, evaluated and used as a detector."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.config import parse_config
from cunet_deploy.data.boxes import read_backgrounds
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.faces import read_faces
from cunet_deploy.data.frames import FrameSampler, whole_frame
from cunet_deploy.errors import InputError
from cunet_deploy.geometry import box_iou
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import read_image
from cunet_deploy.train.tasks import load_task

TABLE: dict[str, Any] = {
    "name": "squares",
    "skeleton": "box",
    "data": {"train": ["photos"], "background": ["empty"], "layout": "faces", "validation_fraction": 0.2},
    "model": {"num_unets": 1, "order": 0, "channels": 16, "growth": 8, "depth": 2, "block": "post", "stem": "s2d"},
    "crop": {"size": 96},
    "boxes": {"min_side": 6.0, "drawn_from": 14.0, "drawn_to": 60.0, "max_tiles": 2},
    "augment": {"negative": 0.1, "erase": 0.0, "blur": 0.0},
    "train": {"epochs": 24, "batch_size": 8, "learning_rate": 1e-2, "ema_decay": 0.8, "validate_every": 24},
    "quant": {"epochs": 1},
}


def draw_photo(rng: np.random.Generator, count: int) -> tuple[np.ndarray, list[list[float]]]:
    """A noisy picture with bright squares, and their rows for faces.json."""
    image = rng.integers(40, 90, (120, 160, 3)).astype(np.uint8)
    rows = []
    for index in range(count):
        side = int(rng.integers(44, 60))
        x, y = 10 + 75 * index + int(rng.integers(0, 20)), int(rng.integers(5, 120 - side - 5))
        image[y : y + side, x : x + side] = (60, 200, 250)
        image[y + side // 3 : y + side // 2, x + side // 4 : x + 3 * side // 4] = 0
        rows.append([float(x), float(y), float(side), float(side), 1.0])
    return image, rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("boxes"), np.random.default_rng(3)
    table = {}
    for folder, names, most in (("photos", 40, 2), ("empty", 4, 0)):
        (root / folder).mkdir()
        for index in range(names):
            image, rows = draw_photo(rng, 1 + index % 2 if most else 0)
            cv2.imwrite(str(root / folder / f"p{index:02}.png"), image)
            if most:
                table[f"p{index:02}.png"] = rows
    (root / "photos" / "faces.json").write_text(json.dumps(table))
    return root


def to_toml(table: dict[str, Any]) -> str:
    plain = [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    nested = [f"[{key}]\n{to_toml(value)}" for key, value in table.items() if isinstance(value, dict)]
    return "\n".join([*plain, *nested])


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, exported to its folder ``bundle``."""
    folder = tmp_path_factory.mktemp("run")
    config = folder / "config.toml"
    config.write_text(to_toml(TABLE))
    for arguments in (
        ["train", config, "--data", data, "-o", folder / "out", "--threads", "1"],
        ["export", folder / "out" / "quantized.pt", "-o", folder / "bundle"],
    ):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return folder


def test_a_network_learns_to_find_boxes(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "out" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["phase"] == "quantized"
    assert rows[-1]["ap_percent"] > 80  # 90 to 100 with 28 seeds, of eight photos
    assert {"recall_percent", "precision_percent"} <= rows[-1].keys()
    assert (run / "out" / "validation.png").is_file()


def test_the_exported_network_computes_what_was_trained(run: Path) -> None:
    manifest = json.loads((run / "bundle" / "manifest.json").read_text())
    assert manifest["boxes"]["smallest"] == 8
    assert manifest["parity"]["values_differing_from_integer_arithmetic"] == 0
    assert 0.05 <= manifest["min_score"] <= 0.95
    result = CliRunner().invoke(cli, ["verify", str(run / "bundle")])
    assert result.exit_code == 0, result.output


def test_a_network_of_boxes_is_evaluated_and_compared(run: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ["evaluate", run / "bundle", data / "photos", "--validation", "0.2"]
    arguments += ["--against", run / "out" / "float.pt", "--json", report]
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    table = json.loads(report.read_text())
    held_back = load_task(parse_config(TABLE), data).num_validation
    assert table["photos"] == held_back
    assert 0 <= table["recall_percent"]["value"] <= 100
    assert "misses" in result.output


def test_a_network_of_boxes_is_no_landmark_model_and_the_other_way_round(run: Path, data: Path) -> None:
    photo = data / "photos" / "p00.png"
    with pytest.raises(InputError, match="finds boxes, not landmarks"):
        Localizer(run / "bundle")
    assert len(Localizer("face68-xs", detector=str(run / "bundle"), threads=1).predict(read_image(photo))) == 0
    result = CliRunner().invoke(cli, ["evaluate", "face68-xs", str(data / "photos")])
    assert result.exit_code == 2 or isinstance(result.exception, InputError), result.output


def test_checkpoints_of_boxes_load(run: Path) -> None:
    assert load_checkpoint(run / "out" / "quantized.pt").config.finds_boxes


def test_drawn_images_are_the_same_for_the_same_seed_and_hold_their_boxes(data: Path) -> None:
    config = parse_config(TABLE)
    photos, cache = read_faces(data / "photos"), PhotoCache()
    sampler = FrameSampler(photos, read_backgrounds(data / "empty"), cache, 96, config.boxes, config.augment)
    seen = 0
    for index in range(30):
        frame, again = (sampler.draw(index, np.random.default_rng([0, index])) for _ in range(2))
        assert np.array_equal(frame.image, again.image)
        assert np.array_equal(frame.boxes, again.boxes)
        for box in frame.boxes:
            x, y = ((box[:2] + box[2:]) / 2).round().astype(int).clip(0, 95)
            x0, y0, x1, y1 = box.round().astype(int).clip(0, 95)
            inside = frame.image[y0 : y1 + 1, x0 : x1 + 1, 2].astype(int)  # squares are bright in red but for a bar
            assert np.median(inside) > frame.image[:, :, 2].mean() or 0 in (x, y)
            seen += 1
    assert seen > 20


def test_a_whole_photo_keeps_its_boxes(data: Path) -> None:
    config, photo = parse_config(TABLE), read_faces(data / "photos")[1]
    frame = whole_frame(photo, PhotoCache()[photo.image], 96, config.boxes)
    assert frame.image.shape == (96, 96, 3)
    # 162 pixels, of which the photo has 160, become 96
    expected = (photo.boxes + 1.5) * 96 / 162 - 0.5 + np.array([0, 20, 0, 20]) * 96 / 162
    assert (box_iou(frame.boxes, expected).max(axis=1) > 0.99).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a list of boxes"),
        ('{"p.png": [[1, 2, 3]]}', "is not x, y, width and height"),
        ("{}", "lists no photo"),
    ],
)
def test_a_bad_list_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "faces.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_faces(tmp_path)


def test_a_missing_photo_is_named_or_noted(tmp_path: Path) -> None:
    (tmp_path / "faces.json").write_text('{"gone.png": [[1, 2, 3, 4, 1]]}')
    with pytest.raises(InputError, match=r"gone\.png: is missing"):
        read_faces(tmp_path)
    bad: list[str] = []
    with pytest.raises(InputError, match="lists no photo"):
        read_faces(tmp_path, bad)
    assert len(bad) == 1


def test_a_worker_process_is_given_all_it_needs_to_draw_the_same_images(data: Path) -> None:
    sampler = load_task(parse_config(TABLE), data).sampler
    drawn = [
        some.batch([some.draw(index, np.random.default_rng(index)) for index in range(4)])
        for some in (sampler, pickle.loads(pickle.dumps(sampler)))
    ]
    for one, other in zip(*((*images, *targets) for images, targets in drawn), strict=True):
        assert np.array_equal(one, other)
    assert sampler.name(0).endswith(".png")
