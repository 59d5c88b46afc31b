"""``cunet-deploy bulk`` without a run: addresses and the progress bar."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra [ray] is not installed", allow_module_level=True)
pytest.importorskip("pyarrow.parquet")

from cunet_deploy.bulk.worker import Status
from cunet_deploy.cli.bulk import _Display, command
from cunet_deploy.errors import InputError

PHOTO = Path(__file__).resolve().parents[1] / "data" / "astronaut.jpg"


def test_a_ray_client_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(PHOTO), "-o", str(tmp_path / "out"), "--address", "ray://127.0.0.1:9"])
    assert isinstance(result.exception, InputError)
    assert "ray job submit" in str(result.exception)


def test_a_video_whose_parts_fail_is_shown_as_one_failure() -> None:
    with _Display() as display:
        display.begin(2, 0)
        for status in (Status("a", "a", 0, error="x"), Status("a", "a", 1, error="x"), Status("b", "b", frames=5)):
            display.update(status)
        (task,) = display._progress.tasks
    assert task.completed == 2
    assert task.fields["text"].endswith("1 failed")
