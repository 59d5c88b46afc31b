"""Settings of a bulk run that goes on: those that change results must be the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra [ray] is not installed", allow_module_level=True)
pytest.importorskip("pyarrow.parquet")

from cunet_deploy.bulk.results import Output
from cunet_deploy.bulk.run import _keep_settings, load_model
from cunet_deploy.bulk.worker import Settings, Worker
from cunet_deploy.cli.bulk import command
from cunet_deploy.errors import InputError

PHOTO = Path(__file__).resolve().parents[1] / "data" / "astronaut.jpg"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--no-smooth",), "out: holds results with smooth true, not smooth false; give the same, or another output"),
        (("--part-seconds", "60"), "part_seconds 120.0, not part_seconds 60.0"),
        (("--detector", "full", "--no-smooth"), 'onnx", smooth true, not detector "full", smooth false'),
    ],
)
def test_a_run_with_other_settings_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    output = Output(str(tmp_path / "out"))
    _keep_settings(output, load_model("face68-s", output), Settings())
    result = CliRunner().invoke(command, [str(PHOTO), "-o", output.url, *options])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)


def test_only_settings_on_which_results_depend_are_compared(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    model = load_model("face68-s", output)
    _keep_settings(output, model, Settings())
    _keep_settings(output, model, Settings(backend="ort:cpu", threads=2, jsonl=True, trust=True))
    with pytest.raises(InputError, match='backend "ort:cpu", not backend "auto"'):
        _keep_settings(output, model, Settings(backend="auto"))


def test_a_detector_by_name_is_not_replaced_by_a_file_in_the_output(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    load_model("face68-s", output)
    worker = Worker(load_model("face68-s", output, detector="full"), Settings(), output)
    assert type(worker._localizer._networks().detector).__name__ == "CoarseToFineSearch"


def test_boxes_of_a_file_are_refused_since_they_are_of_one_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"boxes:a\.json: the boxes of a file are those of one source; use infer"):
        load_model("face68-s", Output(str(tmp_path)), detector="boxes:a.json")
