"""Calibration: what each method records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from drawn import write_faces
from networks import float_checkpoint

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint, load_checkpoint, save_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.cli.calibrate import command as calibrate_command
from cunet_deploy.cli.export import command as export_command
from cunet_deploy.config import QuantConfig
from cunet_deploy.export.bundle import quantized_checkpoint
from cunet_deploy.export.calibration import calibrate_checkpoint
from cunet_deploy.export.crops import list_photos
from cunet_deploy.export.ranges import read_ranges, write_ranges
from cunet_deploy.quantize.floats import calibrate, observe
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.quantize.observers import METHODS, RangeRule, histogram_of, mse_range

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces"), 9)


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "float.pt"
    save_checkpoint(float_checkpoint(), path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def ranges_of(checkpoint: Checkpoint, faces: Path, method: Any = "min-max") -> dict[str, tuple[float, float]]:
    return calibrate_checkpoint(checkpoint, list_photos(faces, make_manifest(checkpoint), 256), RangeRule(method))


@pytest.mark.parametrize("block", ["pre", "post"])
def test_min_max_is_what_the_plain_calibration_gives_bit_for_bit(block: str, faces: Path) -> None:
    checkpoint = float_checkpoint(block)
    crops = list_photos(faces, make_manifest(checkpoint), 256).read(0, 9)
    expected = calibrate(checkpoint.graph, checkpoint.folded(), [normalize(crops)])
    found = ranges_of(checkpoint, faces)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("block", ["pre", "post"])
def test_each_rounded_value_is_counted_once(block: str) -> None:
    checkpoint, histograms = float_checkpoint(block), {}  # type: ignore[var-annotated]
    graph = checkpoint.graph
    observe(graph, checkpoint.folded(), torch.zeros(2, 3, 64, 64), histograms)
    shared = activation_groups(graph).of
    rounded = [node for node in graph.nodes if node.op in ("conv", "affine", "add")]
    size = {node.output: 2 * node.channels * (64 // node.stride_to_input) ** 2 for node in graph.nodes}
    joined = sum(
        size[name]
        for node in graph.nodes
        if node.op == "concat"
        for name in node.inputs
        if shared[name] != shared[node.output]
    )
    assert sum(item.total for item in histograms.values()) == sum(size[node.output] for node in rounded) + joined
    assert (joined > 0) == (block == "pre")


def test_other_methods_clip_the_features_and_never_the_heatmaps(faces: Path) -> None:
    checkpoint = float_checkpoint()
    full, heatmaps = ranges_of(checkpoint, faces), checkpoint.graph.outputs[-1]
    for method in METHODS[1:]:
        found = ranges_of(checkpoint, faces, method)
        assert found[heatmaps] == full[heatmaps]
        assert all(full[name][0] <= low <= high <= full[name][1] for name, (low, high) in found.items())
        assert sum(high < full[name][1] for name, (_, high) in found.items()) > len(found) / 4, method


def test_the_range_of_a_feature_is_chosen_from_its_values(faces: Path) -> None:
    checkpoint = float_checkpoint()
    crops = normalize(list_photos(faces, make_manifest(checkpoint), 256).read(0, 9))
    weight, bias = (checkpoint.folded()[f"stem.conv.{name}"] for name in ("weight", "bias"))
    values = torch.nn.functional.conv2d(crops, weight, bias, 2, 1).relu()
    assert ranges_of(checkpoint, faces, "mse")["stem.conv"] == pytest.approx(mse_range(histogram_of(values), 255))


@pytest.mark.parametrize("name", ["face68-s", "face68-m"])
def test_recorded_files_are_in_the_form_that_is_written_today(name: str, tmp_path: Path) -> None:
    recorded, checkpoint = ROOT / "calibration" / f"{name}.json", load_checkpoint(ROOT / "models" / name / "float.pt")
    write_ranges(read_ranges(recorded, checkpoint), checkpoint, tmp_path / "again.json", crops=256)
    assert (tmp_path / "again.json").read_bytes() == recorded.read_bytes()


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        ((), {"method": "min-max"}),
        (("--method", "percentile"), {"method": "percentile", "percentile": 99.99}),
        (("--method", "percentile", "--percentile", "99"), {"method": "percentile", "percentile": 99.0}),
        (("--method", "entropy"), {"method": "entropy", "activation_bits": 8}),
        (("--method", "mse"), {"method": "mse", "activation_bits": 8}),
    ],
    ids=lambda item: "-".join(item).replace("--", "") if isinstance(item, tuple) else "",
)
def test_the_file_says_how_it_was_made(
    options: tuple[str, ...], recorded: dict[str, Any], float_file: Path, faces: Path, tmp_path: Path
) -> None:
    result = run("calibrate", float_file, "--images", faces, "-o", tmp_path / "r.json", *options)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "r.json").read_text())
    del table["ranges"]
    checksum = load_checkpoint(float_file).checksum
    assert table == {"format": 1, "model": "tiny", "checkpoint": checksum, "crops": 9, **recorded}
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]  # the progress is gone


@pytest.mark.parametrize("command", [calibrate_command, export_command], ids=["calibrate", "export"])
def test_the_methods_that_are_offered_are_those_that_exist(command: Any) -> None:
    (option,) = (option for option in command.params if option.name == "method")
    assert tuple(option.type.choices) == METHODS


def test_a_percentile_without_its_method_is_refused(float_file: Path, faces: Path, tmp_path: Path) -> None:
    result = run("calibrate", float_file, "--images", faces, "-o", tmp_path / "r.json", "--percentile", 99)
    assert (result.exit_code, "--method percentile" in result.stderr) == (2, True)


def test_export_takes_a_method_for_photos_and_none_for_recorded_ranges(
    float_file: Path, faces: Path, tmp_path: Path
) -> None:
    ranges = tmp_path / "r.json"
    assert run("calibrate", float_file, "--images", faces, "-o", ranges, "--method", "mse").exit_code == 0
    assert run("export", float_file, "--calibration", ranges, "-o", tmp_path / "a").exit_code == 0
    assert run("export", float_file, "--calibration", faces, "--method", "mse", "-o", tmp_path / "b").exit_code == 0
    found = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab"]
    assert found[0]["calibration_loss"]["crops_are"] == "drawn"
    assert found[1]["calibration_loss"]["crops_are"] == "real"
    refused = run("export", float_file, "--calibration", ranges, "--method", "mse", "-o", tmp_path / "c")
    assert (refused.exit_code, "chosen already" in refused.stderr) == (2, True)
    refused = run("export", float_file, "--bits", 32, "--method", "mse", "-o", tmp_path / "c")
    assert (refused.exit_code, "change what --calibration gives" in refused.stderr) == (2, True)


def test_a_model_quantized_after_training_keeps_the_threshold_of_its_parent(faces: Path) -> None:
    parent = Checkpoint("float", float_checkpoint().config, float_checkpoint().state, scores=ScoreCalibration(0.123))
    assert quantized_checkpoint(parent, QuantConfig(), faces).scores.min_score == 0.123


def test_bias_correction_needs_photos_and_brings_the_landmarks_nearer(
    float_file: Path, faces: Path, tmp_path: Path
) -> None:
    ranges, moved = tmp_path / "r.json", []
    assert run("calibrate", float_file, "--images", faces, "-o", ranges).exit_code == 0
    command = ("export", float_file, "--bits", 4, "--calibration", ranges)
    refused = run(*command, "--correct-bias", "-o", tmp_path / "x")
    assert (refused.exit_code, "--correct-bias needs photos" in refused.stderr) == (2, True)
    for name, options in (("plain", ()), ("corrected", ("--correct-bias",))):
        result = run(*command, *options, "--parity", faces, "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "bit for bit equal" in result.stdout
        table = json.loads((tmp_path / name / "manifest.json").read_text())
        moved.append(table["calibration_loss"]["heatmap_mean"])
    assert moved[1] < 0.9 * moved[0]
    photos = quantized_checkpoint(float_checkpoint(), QuantConfig(weight_bits=4), faces, correct_on=faces)
    assert photos.config.quant.correct_bias
