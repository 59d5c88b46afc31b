"""The comparison of processors finds what differs, and says what does not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from cunet_deploy.errors import InputError
from tools.processors import check, report

SCRIPT = Path(check.__file__).parents[1] / "verify_arm.sh"
MODEL = "face68-xs"


def compare(reference: Path, *options: object) -> Result:
    arguments = ["--reference", reference, "--models", MODEL, "--short", *options]
    return CliRunner().invoke(check.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of this machine, and its report, ``this-machine.json``."""
    folder = tmp_path_factory.mktemp("reference")
    result = compare(folder, "--write", "--json", folder / "this-machine.json")
    assert result.exit_code == 0, result.output
    return folder


def test_a_machine_computes_the_same_twice(reference: Path, tmp_path: Path) -> None:
    result = compare(reference, "--name", "twin", "--json", tmp_path / "twin.json")
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "twin.json").read_text())["rows"]
    assert {row["unit"] for row in rows} == {"pixels", "pixels of video", "heatmap values", "coordinates"}
    assert all(row["values"] > 0 == row["differing"] for row in rows)
    assert f"twin: {MODEL}, golden inputs: 0 of" in result.output


def test_a_value_that_differs_is_named_and_fails(reference: Path, tmp_path: Path) -> None:
    file = next(reference.glob(f"{MODEL}-8-crops-heatmap-values.npy"))
    right = np.load(file)
    wrong = right.copy()
    wrong[1, 2, 3, 4] = np.nextafter(wrong[1, 2, 3, 4], np.float32(9))
    np.save(file, wrong)
    try:
        result = compare(reference, "--name", "other", "--json", tmp_path / "other.json")
    finally:
        np.save(file, right)
    assert result.exit_code == 4
    assert f"other: {MODEL}, 8 crops: 1 of {right.size} heatmap values differ; first: " in result.output
    assert "at (1, 2, 3, 4)" in result.output


def test_coordinates_may_differ_by_what_rounding_of_logarithms_does() -> None:
    found = check.row("m", "i", "coordinates", np.zeros(3), np.array([1e-5, -1e-3, 2e-3]), check.DECODED_PX)
    assert (found["differing"], found["largest"]) == (1, 2e-3)
    assert "at (2,)" in found["first"]


def test_without_a_reference_it_says_how_to_write_one(tmp_path: Path) -> None:
    result = compare(tmp_path)
    assert result.exit_code == 2
    assert "write the reference first" in result.output


def test_the_crops_of_the_check_are_of_every_kind() -> None:
    crops = check.photo_crops(128, 8)
    assert crops.shape == (8, 128, 128, 3)
    assert len({crop.tobytes() for crop in crops}) == 8
    assert any((crop == 128).all(axis=-1).mean() > 0.05 for crop in crops)  # outside the photo


def results(folder: Path, reference: Path, differing: int) -> Path:
    """Reports of this machine and of one more processor."""
    first = json.loads((reference / "this-machine.json").read_text())
    (folder / "this-machine.json").write_text(json.dumps(first))
    rows = [{**row, "differing": differing} for row in first["rows"]]
    other = {**first, "name": "cortex-a99", "instruction_sets": ["asimd"], "rows": rows}
    (folder / "cortex-a99.json").write_text(json.dumps(other))
    (folder / "qemu.txt").write_text("qemu-aarch64 version 9.9\n")
    return folder


@pytest.mark.parametrize(("differing", "exit_code"), [(0, 0), (3, 4)])
def test_reports_become_one_table(reference: Path, tmp_path: Path, differing: int, exit_code: int) -> None:
    folder = results(tmp_path, reference, differing)
    result = CliRunner().invoke(report.main, [str(folder), "--json", str(tmp_path / "all.report")])
    assert result.exit_code == exit_code, result.output
    assert "| `cortex-a99` | asimd |" in result.output
    assert f"{differing * 3} of" in result.output or differing == 0
    table = json.loads((tmp_path / "all.report").read_text())
    assert [run["name"] for run in table["runs"]] == ["cortex-a99"]
    assert table["emulator"] == "qemu-aarch64 version 9.9"


def test_rows_of_models_that_did_not_change_are_kept(reference: Path, tmp_path: Path) -> None:
    report_ = report.collect(results(tmp_path, reference, 0))
    (run,) = report_["runs"]
    assert {row.get("sha256") for row in run["rows"] if row["of"] == MODEL} == {check.model_digest(MODEL)}
    others = [name for name in check.released() if name != MODEL]
    (old,) = [row for row in run["rows"] if row["of"] == MODEL and row["inputs"] == "golden inputs"]
    rows = [{**old, "of": name, "sha256": check.model_digest(name)} for name in others]
    earlier = {"runs": [{**run, "rows": [{**old, "values": 1}, *rows]}]}
    (merged,) = report.merge(report_, earlier)["runs"]
    models = [row["of"] for row in merged["rows"] if row["unit"] == "heatmap values"]
    assert list(dict.fromkeys(models)) == check.released()
    assert all(row["values"] > 1 for row in merged["rows"]), "a model that was checked again has its new rows"
    for wrong in ({**rows[0], "sha256": "0"}, {**rows[0], "of": "gone"}):
        with pytest.raises(InputError, match=f"^{others[0]}: changed since the earlier report"):
            report.merge(report_, {"runs": [{**run, "rows": [wrong, *rows[1:]]}]})
    with pytest.raises(InputError, match="of other processors or versions"):
        report.merge(report_, {"runs": [{**run, "name": "another", "rows": rows}]})


def test_a_folder_without_reports_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(report.main, [str(tmp_path)])
    assert result.exit_code == 2
    assert "verify_arm.sh" in result.output


def test_the_script_says_what_is_missing(tmp_path: Path) -> None:
    environment = {"PYTHON": str(tmp_path / "python"), "PATH": "/usr/bin:/bin"}
    found = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 5
    assert "is missing; run: make .venv/base.stamp, or set PYTHON" in found.stderr
    usage = subprocess.run([SCRIPT, "--wrong"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "tools/verify_arm.sh [--short] [FOLDER]" in usage.stdout
