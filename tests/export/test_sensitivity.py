"""Costs of fewer bits layer by layer are those of a network of these bits, and the file fits the budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from drawn import tiny_config, write_faces
from networks import random_checkpoint

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.checkpoint.storage import Checkpoint, save_checkpoint
from cunet_deploy.cli import cli
from cunet_deploy.config import QuantConfig, load_bits
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.data.ibug import read_300w
from cunet_deploy.errors import InputError
from cunet_deploy.evaluation import evaluate
from cunet_deploy.export import sensitivity
from cunet_deploy.export.bundle import ranges_of
from cunet_deploy.export.crops import list_photos
from cunet_deploy.export.progress import ResumeFile
from cunet_deploy.export.sensitivity import Measurement, Prober, bits_toml
from cunet_deploy.export.targets.cpu import write_model

FORMATS = ("4", "1")


def small(**model_table: object) -> Checkpoint:
    """One U-Net that halves the resolution once."""
    sizes = {"num_unets": 1, "order": 0, "depth": 1, "channels": 32, "growth": 16}
    config = tiny_config(model={**sizes, **model_table})
    return random_checkpoint(config, 2, heads=0.3)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces"), 5)


@pytest.fixture(scope="module")
def make(faces: Path) -> Callable[[Checkpoint], Prober]:
    def prober(checkpoint: Checkpoint) -> Prober:
        photos = list_photos(faces, make_manifest(checkpoint), 100)
        return Prober(checkpoint, ranges_of(checkpoint, faces), photos)

    return prober


@pytest.fixture(scope="module")
def prober(make: Callable[[Checkpoint], Prober]) -> Prober:
    return make(small())


@pytest.fixture(scope="module")
def measurement(prober: Prober) -> Measurement:
    return prober.measure(FORMATS)


def nme(checkpoint: Checkpoint, faces: Path) -> np.ndarray:
    examples = read_300w(faces, 68)
    return evaluate(TorchSession(checkpoint, exact=False), examples, PhotoCache()).nme()


@pytest.mark.parametrize("layer", ["stem.conv", "down.0.ahead.0", "heads.0"])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_measured_is_the_error_of_a_network_with_that_one_layer_in_that_format(
    layer: str, name: str, prober: Prober, measurement: Measurement, faces: Path
) -> None:
    found = measurement.errors[measurement.layers.index(layer), FORMATS.index(name)]
    quant = QuantConfig(layers={layer: name})
    np.testing.assert_allclose(found, nme(prober.checkpoint.with_ranges(prober.ranges, quant), faces), rtol=1e-6)


def test_the_baseline_is_everything_at_eight_bits(prober: Prober, measurement: Measurement, faces: Path) -> None:
    expected = nme(prober.checkpoint.with_ranges(prober.ranges, QuantConfig()), faces)
    np.testing.assert_allclose(measurement.baseline, expected, rtol=1e-6)
    assert measurement.nme_percent == pytest.approx(100 * expected.mean(), abs=1e-5)


def test_other_boxes_make_other_photos(faces: Path) -> None:
    """Measurements that are kept for later are not those of crops of other boxes."""
    photos = list_photos(faces, make_manifest(small()), 100)
    boxes = [example.box for example in photos.examples]
    given, moved = (
        replace(photos, items=tuple(replace(e, given=box + by) for e, box in zip(photos.examples, boxes, strict=True)))
        for by in (0.0, 3.0)
    )
    assert len({photos.checksum, given.checksum, moved.checksum}) == 3


def test_every_convolution_is_measured_with_its_weights_counted(prober: Prober, measurement: Measurement) -> None:
    convolutions = [node.output for node in prober.graph.nodes if node.op == "conv"]
    assert list(measurement.layers) == convolutions
    folded = prober.checkpoint.folded()
    assert list(measurement.counts) == [folded[f"{layer}.weight"].numel() for layer in convolutions]


def test_a_layer_that_two_passes_share_is_changed_in_both(make: Callable[[Checkpoint], Prober], faces: Path) -> None:
    prober = make(small(passes=2))  # its convolutions run twice, with one set of integer weights
    assert not any(layer.startswith("again.") for layer in prober.layers)
    found = prober.measure(["ternary"])
    layer = "down.0.ahead.0"
    quant = QuantConfig(layers={layer: "ternary"})
    expected = nme(prober.checkpoint.with_ranges(prober.ranges, quant), faces)
    np.testing.assert_allclose(found.errors[found.layers.index(layer), 0], expected, rtol=1e-6)
    assert not np.array_equal(expected, found.baseline)


def test_the_most_sensitive_layer_comes_first(measurement: Measurement) -> None:
    costs = {
        layer: np.mean([measurement.moved_percent(layer, name) ** 2 for name in FORMATS])
        for layer in measurement.layers
    }
    order = [costs[layer] for layer in measurement.by_sensitivity()]
    assert order == pytest.approx(sorted(order, reverse=True))
    assert order[0] > 2 * order[-1]


def test_a_landmark_that_moves_costs_what_random_moves_of_that_length_add_to_its_error() -> None:
    rng = np.random.default_rng(0)
    errors, moves = rng.normal(0, 1, (20_000, 2)), rng.normal(0, 0.1, (20_000, 2))
    errors *= 3 / np.linalg.norm(errors, axis=1, keepdims=True)
    errors, moves = np.concatenate([errors, errors]), np.concatenate([moves, -moves])
    before, after = (np.linalg.norm(points, axis=1) for points in (errors, errors + moves))
    squares = np.square(moves).sum(axis=1)
    found = Measurement(("a",), ("4",), (1,), before, after[None, None], squares[None, None])
    assert found.choices()["a"][1].cost == pytest.approx(100 * (after - before).mean(), rel=0.05)


def test_the_moves_are_those_of_the_landmarks(prober: Prober, measurement: Measurement, faces: Path) -> None:
    examples, points = read_300w(faces, 68), []
    for quant in (QuantConfig(), QuantConfig(layers={"stem.conv": "4"})):
        session = TorchSession(prober.checkpoint.with_ranges(prober.ranges, quant), exact=False)
        points.append(evaluate(session, examples, PhotoCache()).points)
    labels = np.stack([example.points for example in examples])
    lengths = np.linalg.norm(labels[:, 36] - labels[:, 45], axis=1)[:, None]
    moved = np.linalg.norm(points[1] - points[0], axis=2) / lengths
    assert measurement.moved_percent("stem.conv", "4") == pytest.approx(
        100 * np.sqrt(np.square(moved).mean()), rel=1e-5
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_the_file_fits_the_budget_and_uses_it(share: float, prober: Prober, measurement: Measurement) -> None:
    smallest, full = (
        len(write_model(prober.checkpoint.with_ranges(prober.ranges, QuantConfig(layers=layers))))
        for layers in (dict.fromkeys(measurement.layers, "1"), {"stem.conv": "4"})
    )
    budget = round(smallest + share * (full - smallest))
    plan = prober.plan(measurement, budget)
    quant = QuantConfig(layers={layer: name for layer, name in plan.formats.items() if name != "8"})
    assert plan.bytes == len(write_model(prober.checkpoint.with_ranges(prober.ranges, quant)))
    assert plan.bytes <= budget
    assert plan.formats.keys() == set(measurement.layers)
    cheapest = prober._fitting(measurement.choices(), budget)
    assert cheapest is not None
    assert budget - 700 < prober._file_bytes(cheapest) <= budget


def test_what_the_plan_costs_is_measured_with_all_its_bits_at_once(
    prober: Prober, measurement: Measurement, faces: Path
) -> None:
    plan = prober.plan(measurement)
    quant = QuantConfig(layers=plan.formats)
    together = nme(prober.checkpoint.with_ranges(prober.ranges, quant), faces)
    assert plan.measured.value == pytest.approx(100 * (together - measurement.baseline).mean(), abs=1e-4)
    sizes = [
        len(write_model(prober.checkpoint.with_ranges(prober.ranges, QuantConfig(layers=layers))))
        for layers in ({}, dict.fromkeys(measurement.layers, "1"))
    ]
    assert plan.bytes <= max(sum(sizes) // 2, min(sizes))


def test_the_plan_is_no_worse_than_one_format_for_all_inner_layers(prober: Prober, measurement: Measurement) -> None:
    formats = {layer: "8" if layer.startswith(("stem.", "heads.")) else "4" for layer in measurement.layers}
    alike = prober._tried(measurement, formats)
    plan = prober.plan(measurement, alike.bytes)
    assert plan.bytes <= alike.bytes
    assert plan.measured.value <= alike.measured.value


def test_a_budget_out_of_reach_says_what_the_least_is(prober: Prober, measurement: Measurement) -> None:
    least = len(
        write_model(
            prober.checkpoint.with_ranges(prober.ranges, QuantConfig(layers=dict.fromkeys(measurement.layers, "1")))
        )
    )
    with pytest.raises(InputError, match=f"has {least} bytes at least"):
        prober.plan(measurement, least - 1)


def test_the_written_file_gives_the_planned_bits(prober: Prober, measurement: Measurement, tmp_path: Path) -> None:
    plan = prober.plan(measurement)
    (tmp_path / "bits.toml").write_text(bits_toml(measurement, plan, "cunet-deploy sensitivity float.pt"))
    read = load_bits(tmp_path / "bits.toml", QuantConfig())
    model = write_model(prober.checkpoint.with_ranges(prober.ranges, read))
    assert len(model) == plan.bytes
    text = (tmp_path / "bits.toml").read_text()
    assert "#     cunet-deploy sensitivity float.pt\n" in text
    first = measurement.by_sensitivity()[0]
    assert f"{measurement.points(first, '1').value:.3f}" in next(row for row in text.splitlines() if first in row)


class StoppedError(Exception):
    """The program ends here."""


def test_after_an_interruption_the_measurement_is_that_of_an_unbroken_run(
    prober: Prober, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["ternary", "4"]
    at_once = prober.measure(names)
    monkeypatch.setattr(sensitivity, "BATCH", 2)
    whole = prober.measure(names)
    np.testing.assert_allclose(whole.errors, at_once.errors, rtol=1e-5)
    resume, total = ResumeFile(tmp_path / "x.partial", {"weights": "1"}), len(prober.layers) * len(names) * 5
    seen = [0]

    def stop_later(steps: int) -> None:
        seen[-1] += steps
        if seen[-1] > 0.4 * total * len(seen):
            raise StoppedError

    for _ in range(2):
        with pytest.raises(StoppedError):
            prober.measure(names, resume=resume, advance=stop_later)
        seen.append(0)
    resumed = prober.measure(names, resume=resume, advance=lambda steps: seen.append(steps))
    assert seen[3] > 0.6 * total  # of the first two runs
    assert sum(seen[3:]) == total
    np.testing.assert_array_equal(resumed.errors, whole.errors)
    np.testing.assert_array_equal(resumed.moves, whole.moves)
    np.testing.assert_array_equal(resumed.baseline, whole.baseline)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "float.pt"
    save_checkpoint(small(), path)
    return path


def test_the_command_goes_on_after_ctrl_c_and_its_file_exports(
    float_file: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, resume = tmp_path / "bits.toml", tmp_path / "bits.toml.partial"
    command: list[Any] = ["sensitivity", float_file, "--data", faces, "-o", out, "--images", 2]
    command += ["--formats", "8,1", "--json", tmp_path / "r.json"]
    save = ResumeFile.save

    def save_and_stop(self: ResumeFile, arrays: Any) -> None:
        save(self, arrays)
        raise KeyboardInterrupt

    monkeypatch.setattr(ResumeFile, "save", save_and_stop)
    stopped = run(*command)
    assert (stopped.exit_code, f"{resume} holds the progress" in stopped.stderr) == (130, True)
    assert [path.name for path in tmp_path.iterdir()] == [resume.name]
    monkeypatch.setattr(ResumeFile, "save", save)
    refused = run(*command, "--formats", "4")
    assert (refused.exit_code, "other formats" in refused.stderr) == (2, True)
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert not resume.exists()
    report = json.loads((tmp_path / "r.json").read_text())
    assert f"{report['file_bytes'] / 1e6:.3f} MB" in result.stdout
    assert "1" in {row["chosen"] for row in report["layers"]}
    assert {row["layer"] for row in report["layers"]} >= {"stem.conv", "heads.0"}
    assert run("export", float_file, "--bits", out, "--calibration", faces, "-o", tmp_path / "b").exit_code == 0
    assert (tmp_path / "b" / "model.onnx").stat().st_size == report["file_bytes"]


def test_what_was_measured_serves_for_another_budget(
    float_file: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command: list[Any] = ["sensitivity", float_file, "--data", faces, "--images", 2, "--formats", "1"]
    command += ["--keep", tmp_path / "measured"]
    assert run(*command, "-o", tmp_path / "a.toml", "--json", tmp_path / "a.json").exit_code == 0
    monkeypatch.setattr(Prober, "_changed", None)  # nothing is measured again
    result = run(*command, "-o", tmp_path / "b.toml", "--budget", "10MB", "--json", tmp_path / "b.json")
    assert result.exit_code == 0, result.output
    small, large = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert small["file_bytes"] < large["file_bytes"]
    assert {row["chosen"] for row in large["layers"]} == {"8"}
    costs = [{row["layer"]: row["formats"] for row in report["layers"]} for report in (small, large)]
    assert costs[0] == costs[1]
    (tmp_path / "measured").write_bytes(b"something else")
    result = run(*command, "-o", tmp_path / "c.toml")
    assert (result.exit_code, "measured: is damaged" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "small"), "--budget small: expected bytes"),
        (("--budget", "0.4TB"), "such as 0.40MB"),
        (("--budget", "1kB"), "bytes at least, the budget is 1000; allow more"),
        (("--formats", "4,9"), "'9' is unknown"),
        (("--formats", "8"), "names none beside 8"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_wrong_options_are_refused_in_one_line(
    options: tuple[str, ...], message: str, float_file: Path, faces: Path, tmp_path: Path
) -> None:
    result = run("sensitivity", float_file, "--data", faces, "-o", tmp_path / "b.toml", *options)
    assert (result.exit_code, message in result.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


def test_photos_without_labels_are_refused(float_file: Path, astronaut: Path, tmp_path: Path) -> None:
    result = run("sensitivity", float_file, "--data", astronaut.parent, "-o", tmp_path / "b.toml")
    assert (result.exit_code, "without labels" in result.stderr) == (2, True)
