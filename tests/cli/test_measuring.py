"""The commands that measure, on a tiny network with random weights and drawn faces."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner, Result
from drawn import write_faces
from networks import write_models

from cunet_deploy.bench import peak
from cunet_deploy.bench.frames import FRAME_STAGES
from cunet_deploy.cli import cli


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("faces"), 6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """Models; see `write_models`."""
    return write_models(tmp_path_factory.mktemp("made"), faces)


@pytest.fixture(autouse=True)
def short_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests need a peak, not the best one."""
    monkeypatch.setattr(peak, "_SECONDS", 0.05)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def report(path: Path, *arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json", path)
    assert result.exit_code == 0, result.output
    table: dict[str, Any] = json.loads(path.read_text())
    return table


def test_a_checkpoint_its_bundle_and_the_bare_file_are_measured_alike(made: Path, faces: Path, tmp_path: Path) -> None:
    models = [made / "quantized.pt", made / "int8", made / "int8" / "model.onnx"]
    found = [report(tmp_path / f"{i}.json", "evaluate", model, faces) for i, model in enumerate(models)]
    for table in found:
        assert table["objects"] == 6
        assert table["nme_outer_eye_percent"]["value"] == pytest.approx(found[0]["nme_outer_eye_percent"]["value"])
    assert str(found[0]["backend"]).startswith("torch")
    assert str(found[1]["backend"]).startswith("onnxruntime")


@pytest.mark.parametrize("command", ["evaluate", "verify", "bench"])
def test_measuring_a_bundle_needs_no_training_library(command: str, made: Path, faces: Path) -> None:
    arguments = [command, str(made / "int8"), *{"evaluate": [str(faces)], "bench": ["--rounds", "1"]}.get(command, [])]
    code = (
        "import sys; from cunet_deploy.cli import cli\n"
        "for name in ('torch', 'onnx', 'matplotlib', 'scipy'): sys.modules[name] = None\n"
        f"cli({arguments!r}, standalone_mode=False)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_evaluate_shows_the_value_that_it_writes(made: Path, faces: Path, tmp_path: Path) -> None:
    result = run("evaluate", made / "int8", faces, "--json", tmp_path / "r.json", "--per-landmark")
    table = json.loads((tmp_path / "r.json").read_text())
    assert f"{table['nme_outer_eye_percent']['value']:.2f}" in result.stdout
    assert "NME, pupil" in result.stdout
    assert "jaw_0" in result.stdout
    assert len(table["landmarks_outer_eye_percent"]) == 68
    assert {"processor", "cpus"} <= set(table["machine"])
    assert {"python", "onnxruntime", "torch"} <= set(table["versions"])


def test_the_difference_to_another_model_is_paired(made: Path, faces: Path, tmp_path: Path) -> None:
    result = run("evaluate", made / "int8", faces, "--against", made / "float.pt", "--json", tmp_path / "r.json")
    table = json.loads((tmp_path / "r.json").read_text())
    difference = table["difference"]["nme_outer_eye_difference_percent_points"]
    ours, theirs = (t["nme_outer_eye_percent"]["value"] for t in (table, table["against"]))
    assert difference["value"] == pytest.approx(ours - theirs, abs=1e-3)
    assert difference["ci95_low"] <= difference["value"] <= difference["ci95_high"]
    assert f"points of NME against {made / 'float.pt'}" in result.stdout


def test_the_worst_are_drawn_into_a_sheet(made: Path, faces: Path, tmp_path: Path) -> None:
    result = run("evaluate", made / "int8", faces, "--flip-test", "--worst", 4, "-o", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture is not None
    assert picture.shape == (256, 4 * 256, 3)
    for options in (("--worst", 4), ("-o", tmp_path / "other.png")):
        refused = run("evaluate", made / "int8", faces, *options)
        assert refused.exit_code == 2
        assert "go together" in refused.stderr
    refused = run("evaluate", made / "int8", faces, "--worst", 4, "-o", tmp_path / "other.txt")
    assert refused.exit_code == 2
    assert "other.txt: is no picture's name; expected .png or .jpg" in refused.stderr


def test_maps_are_blurred_as_asked_for_and_those_of_the_other_model_are_not(
    made: Path, faces: Path, tmp_path: Path
) -> None:
    files = [tmp_path / "plain.json", tmp_path / "blurred.json"]
    run("evaluate", made / "int8", faces, "--json", files[0])
    run("evaluate", made / "int8", faces, "--blur", "1.5", "--against", made / "int8", "--json", files[1])
    plain, blurred = (json.loads(file.read_text()) for file in files)
    assert blurred["against"]["nme_outer_eye_percent"] == plain["nme_outer_eye_percent"]
    assert blurred["nme_outer_eye_percent"] != plain["nme_outer_eye_percent"]
    assert (blurred["blur"], "blur" in plain, "blur" in blurred["against"]) == (1.5, False, False)
    assert run("evaluate", made / "int8", faces, "--blur", "9").exit_code == 2


def test_several_looks_stand_in_the_report(made: Path, faces: Path, tmp_path: Path) -> None:
    files = [tmp_path / "once.json", tmp_path / "more.json"]
    looks = ("--flip-test", "--scale", "0.9", "--scale", "1.1")
    run("evaluate", made / "int8", faces, "--json", files[0])
    run("evaluate", made / "int8", faces, *looks, "--json", files[1])
    once, more = (json.loads(file.read_text()) for file in files)
    assert (more["flip_test"], more["scales"]) == (True, [1.0, 0.9, 1.1])
    assert not {"flip_test", "scales"} & set(once)
    assert more["nme_outer_eye_percent"] != once["nme_outer_eye_percent"]
    assert run("evaluate", made / "int8", faces, "--scale", "0").exit_code == 2


@pytest.mark.parametrize("option", [("--blur", "1"), ("--flip-test",), ("--scale", "1.1")])
def test_what_is_for_landmarks_is_refused_for_a_network_that_finds_boxes(option: tuple[str, ...], faces: Path) -> None:
    result = run("evaluate", "face-detect-s", faces, *option)
    assert result.exit_code == 2
    assert "face-detect-s finds boxes; leave them out" in result.stderr


def test_a_model_costs_nothing_against_itself(made: Path, faces: Path) -> None:
    result = run("evaluate", made / "int8", faces, "--against", made / "int8")
    assert "costs 0.000 ± 0.000 points" in result.stdout


def test_a_bad_photo_is_named_and_skipped_only_when_asked_for(made: Path, faces: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(faces, tmp_path / "faces"))
    (data / "face001_1.png").write_bytes(b"cut")
    (data / "face002_1.pts").write_text("version: 1\nn_points: 68\n{\n1 2\n")
    refused = run("evaluate", made / "int8", data, "--json", tmp_path / "r.json")
    assert refused.exit_code == 2
    assert "face002_1.pts" in refused.stderr
    assert not (tmp_path / "r.json").exists()
    options = ("--skip-bad", "--against", made / "float", "--json", tmp_path / "r.json")
    result = run("evaluate", made / "int8", data, *options)
    assert result.exit_code == 0
    assert "4 objects, 2 left out" in result.stdout
    assert "face001_1.png" in result.stderr
    assert len(json.loads((tmp_path / "r.json").read_text())["skipped"]) == 2


def test_an_output_that_exists_is_refused_before_anything_is_measured(made: Path, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("mine")
    model = made / "int8"
    for command in (("evaluate", model, faces), ("bench", model), ("verify", model), ("models",)):
        result = run(*command, "--json", tmp_path / "r.json")
        assert result.exit_code == 2, command
        assert result.stdout == ""
        assert "--overwrite" in result.stderr
    assert (tmp_path / "r.json").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("evaluate", "{made}/int8", "{made}/nowhere"), id="no data set"),
        pytest.param(("evaluate", "{made}/int8", "{made}"), id="folder without labels"),
        pytest.param(("evaluate", "{made}/gone.pt", "{faces}"), id="no checkpoint"),
        pytest.param(("evaluate", "no-such-model", "{faces}"), id="no released model"),
        pytest.param(("bench", "{made}/float.pt"), id="bench of a checkpoint"),
        pytest.param(("bench", "{made}/gone.onnx"), id="bench of nothing"),
        pytest.param(("bench", "{made}/int8", "--input", "{made}/float.pt"), id="not an image"),
        pytest.param(("bench", "{made}/int8", "--input", "{faces}", "--batch", "1,2"), id="frames in batches"),
        pytest.param(("bench", "{made}/int8", "--detector", "boxes:x"), id="detector without an input"),
        pytest.param(("bench", "{made}/int8", "--threads", "1,0"), id="no thread"),
        pytest.param(("bench", "{made}/int8", "--batch", "1;2"), id="not a list"),
        pytest.param(("bench", "{made}/int8", "--backend", "ort:cpu,ort:gpu"), id="no such backend"),
        pytest.param(("bench", "{made}/int8", "--compare", "{made}/none.json"), id="no earlier bench"),
        pytest.param(("bench", "{made}/int8", "--plot", "{made}/chart.jpg"), id="chart that is no PNG"),
        pytest.param(("bench",), id="bench without a model"),
        pytest.param(("verify", "{made}/gone"), id="no bundle"),
        pytest.param(("verify", "{made}/int8/model.onnx"), id="file instead of a bundle"),
    ],
)
def test_wrong_arguments_end_in_one_line_and_exit_code_2(arguments: tuple[str, ...], made: Path, faces: Path) -> None:
    result = run(*(argument.format(made=made, faces=faces) for argument in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_bench_compares_models_in_one_run(made: Path, tmp_path: Path) -> None:
    options = ("--rounds", 3, "--calls", 4, "--json", tmp_path / "r.json")
    result = run("bench", made / "float", made / "int8", *options)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "r.json").read_text())
    first, second = table["models"]
    assert (first["weight_bits"], second["weight_bits"]) == (32, 8)
    assert first["calls"] == second["calls"] == 12
    assert first["total_ratio_to_first"]["value"] == 1
    assert second["network_ratio_to_first"]["value"] > 0
    assert second["file_bytes"] == (made / "int8" / "model.onnx").stat().st_size
    assert min(second[key] for key in ("crop_p50_ms", "network_p50_ms", "decode_p50_ms", "load_ms")) > 0
    assert "network / first" in result.stdout


def test_bench_measures_each_combination_and_says_which(made: Path, tmp_path: Path) -> None:
    options = ("--threads", "2,1", "--batch", "3,1", "--rounds", 2, "--calls", 2, "--json", tmp_path / "r.json")
    result = run("bench", made / "int8", "--backend", "ort:cpu", *options)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "r.json").read_text())["models"]
    assert [(row["threads"], row["batch"]) for row in rows] == [(2, 3), (2, 1), (1, 3), (1, 1)]
    assert {row["backend_name"] for row in rows} == {"ort:cpu"}
    assert rows[3]["total_ratio_to_first"]["value"] != 1 == rows[0]["total_ratio_to_first"]["value"]
    assert "threads" in result.stdout


def test_bench_says_what_it_takes_and_how_near_the_peak_it_is(made: Path, tmp_path: Path) -> None:
    result = run("bench", made / "int8", "--rounds", 2, "--calls", 2, "--batch", 3, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "r.json").read_text())
    (row,), (best,) = table["models"], table["peaks"]
    assert row["macs_per_crop"] == row["integer_macs_per_crop"] > 0
    assert list(row["macs_by_weight_x_activation_bits"]) == ["8x8"]
    assert 0 < row["rss_before_bytes"] < row["rss_loaded_bytes"] <= row["rss_peak_bytes"]
    reached = row["macs_per_crop"] * 3 / row["network_p50_ms"] / 1e6
    assert row["reached_gmac_per_second"] == pytest.approx(reached, rel=0.01, abs=1e-4)
    assert row["fraction_of_peak"] == pytest.approx(reached / best["int8_gmac_per_second"], rel=0.05, abs=1e-4)
    assert "1 thread(s), batch 3" in result.stdout
    assert "measured: crops from a drawn picture" in result.stdout


def test_bench_of_photos_measures_the_whole_way(made: Path, faces: Path, tmp_path: Path) -> None:
    options = ("--input", faces, "--rounds", 2, "--calls", 3, "--json", tmp_path / "r.json")
    result = run("bench", made / "int8", *options)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "r.json").read_text())
    (row,) = table["models"]
    assert table["stages"] == list(row["stages_ms"]) == list(FRAME_STAGES)
    assert min(row["stages_ms"][stage]["mean"] for stage in ("read", "detect")) > 0
    assert row["calls"] == 6
    assert row["frames_per_second"] > 0
    assert f"measured: 6 photos, {faces}" in result.stdout


def test_bench_judges_against_an_earlier_report_and_draws_a_chart(made: Path, tmp_path: Path) -> None:
    before, after, chart = tmp_path / "before.json", tmp_path / "after.json", tmp_path / "chart.png"
    settings = ("bench", made / "int8", "--rounds", 5, "--calls", 2)
    assert run(*settings, "--json", before).exit_code == 0
    table = json.loads(before.read_text())
    (row,) = table["models"]
    measured = row["total_median_ms"]
    for factor, exit_code in ((1e-3, 4), (1e3, 0)):
        row["total_median_ms"] = {key: value * factor for key, value in measured.items()}
        before.write_text(json.dumps(table))
        options = ("--compare", before, "--json", after, "--plot", chart, "--overwrite")
        result = run(*settings, *options, "--tolerance", 0.5)
        assert result.exit_code == exit_code, result.output
        (judged,) = json.loads(after.read_text())["comparison"]["rows"]
        assert judged["regression"] == (exit_code == 4) == ("regression:" in result.stderr)
    picture = cv2.imread(str(chart))
    assert picture is not None
    assert picture.shape[1] == 1600


@pytest.mark.parametrize("content", [b"{cut", b"[]", b"{}", b"\xff\xfe", b'{"models": [{"model": 1}], "rounds": 9}'])
def test_bench_refuses_what_is_no_earlier_report_before_it_measures(
    made: Path, tmp_path: Path, content: bytes
) -> None:  # fmt: skip
    (tmp_path / "before.json").write_bytes(content)
    result = run("bench", made / "int8", "--compare", tmp_path / "before.json", "--json", tmp_path / "r.json")
    assert result.exit_code == 3
    assert "before.json" in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "r.json").exists()


def test_bench_without_the_onnx_package_leaves_the_work_out_and_says_so(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = run("bench", made / "int8", "--rounds", 1, "--calls", 1, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert "multiplications left out: onnx is not installed" in result.stdout
    (row,) = json.loads((tmp_path / "r.json").read_text())["models"]
    assert "macs_per_crop" not in row
    assert row["total_p50_ms"] > 0
