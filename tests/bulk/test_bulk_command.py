"""``cunet-deploy bulk`` without a run: addresses and the progress bar."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra [ray] is not installed", allow_module_level=True)
pytest.importorskip("pyarrow.parquet")

from cunet_deploy.bulk.run import _own_sigterm
from cunet_deploy.bulk.worker import Status
from cunet_deploy.cli.bulk import _Display, command
from cunet_deploy.errors import CunetError, InputError

PHOTO = Path(__file__).resolve().parents[1] / "data" / "astronaut.jpg"


def test_a_ray_client_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(PHOTO), "-o", str(tmp_path / "out"), "--address", "ray://127.0.0.1:9"])
    assert isinstance(result.exception, InputError)
    assert "ray job submit" in str(result.exception)


def test_a_detector_that_is_missing_is_said_before_ray_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cunet_deploy.bulk.run._connect", lambda *arguments: pytest.fail("Ray was started"))
    result = CliRunner().invoke(command, [str(PHOTO), "-o", str(tmp_path / "out"), "--detector", "yunet:gone.onnx"])
    assert isinstance(result.exception, InputError)
    assert "there is no file gone.onnx" in str(result.exception)


def test_a_source_that_is_missing_is_named_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cunet_deploy.bulk.run._connect", lambda *arguments: None)
    monkeypatch.setattr("cunet_deploy.bulk.run._statuses", lambda ray, todo, *rest: iter([Status(todo[0].key, "a")]))
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 1})
    monkeypatch.setattr("ray.shutdown", lambda: None)
    (tmp_path / "all.txt").write_text(f"{PHOTO}\ngone.mp4\n")
    out = tmp_path / "out"
    result = CliRunner().invoke(command, [str(tmp_path / "all.txt"), "-o", str(out)])
    assert f"failed: {tmp_path}/gone.mp4: does not exist" in result.stderr
    assert "1 items, 1 failed" in result.stdout
    assert isinstance(result.exception, CunetError)
    assert (result.exception.exit_code, str(result.exception).partition(":")[0]) == (1, "1 of 2 items failed")
    (record,) = (out / "refused").iterdir()
    assert "does not exist" in record.read_text()
    (tmp_path / "gone.mp4").write_bytes(b"-")
    CliRunner().invoke(command, [str(tmp_path / "all.txt"), "-o", str(out)])
    assert not (out / "refused").exists()


def test_a_video_whose_parts_fail_is_shown_as_one_failure() -> None:
    with _Display() as display:
        display.begin(2, 0)
        for status in (Status("a", "a", 0, error="x"), Status("a", "a", 1, error="x"), Status("b", "b", frames=5)):
            display.update(status)
        (task,) = display._progress.tasks
    assert task.completed == 2
    assert task.fields["text"].endswith("1 failed")


def test_an_answer_to_sigterm_that_is_not_of_python_cannot_be_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        with _own_sigterm():
            pass
