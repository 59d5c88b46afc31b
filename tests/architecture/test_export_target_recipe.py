"""The recipe "an export target" of docs/architecture.md, followed with a dummy."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from networks import quantized_checkpoint

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.errors import InputError
from cunet_deploy.export.targets import TARGETS, Option, Target, get_target
from cunet_deploy.export.targets.base import Addition, ExportJob


def write(job: ExportJob, *, words: int = 2) -> Addition:
    """notes/model.txt: the name of the model, as often as is wished."""
    text = " ".join([job.manifest.name] * words)
    return Addition({"notes/model.txt": text.encode()}, {"words": words}, {"notes/model.txt": "to be read"})


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command with a dummy target, registered as the recipe says, and gone after the test."""
    module = ModuleType("cunet_deploy.export.targets.notes")
    module.write = write  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = Target(
        "notes",
        "also writes notes/model.txt",
        f"{module.__name__}:write",
        files=("notes/*.txt",),
        options=(Option("words", "how many words."),),
        command="cat {bundle}/notes/model.txt",
    )
    monkeypatch.setitem(TARGETS, "notes", row)
    # a copy of the command's module, which reads the table when it is loaded
    spec = importlib.util.find_spec("cunet_deploy.cli.export")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy.command


def test_a_new_target_is_offered_written_recorded_and_removed(command: Any, tmp_path: Path) -> None:
    save_checkpoint(quantized_checkpoint(), tmp_path / "q.pt")

    def export(*arguments: str) -> Any:
        return CliRunner().invoke(command, [str(tmp_path / "q.pt"), "-o", str(tmp_path / "b"), *arguments])

    offered = CliRunner().invoke(command, ["--help"], terminal_width=200).output
    assert "|notes]" in offered
    assert "notes also writes notes/model.txt" in offered
    assert "With --target notes: how many words." in offered

    result = export("--target", "notes", "--words", "3")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b" / "notes" / "model.txt").read_text() == "tiny tiny tiny"
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["notes"] == {"words": 3}
    assert "model.txt: 0.000 MB, to be read" in result.output
    assert result.output.splitlines()[-1] == f"next, cat {tmp_path / 'b'}/notes/model.txt"

    refused = export("--words", "3", "--overwrite")
    assert isinstance(refused.exception, InputError)
    assert "--words is for notes; add --target notes" in str(refused.exception)
    assert isinstance(export("--target", "notes").exception, InputError)  # there is a bundle already
    assert export("--overwrite").exit_code == 0
    assert {path.name for path in (tmp_path / "b").rglob("*")} == {
        "model.onnx",
        "manifest.json",
        "golden.npz",
    }


def test_nothing_of_the_dummy_is_left_and_every_row_has_its_writer() -> None:
    with pytest.raises(InputError, match="'notes' is unknown; expected one of cpu, tensorrt"):
        get_target("notes")
    assert all(callable(pkgutil.resolve_name(target.writer)) for target in TARGETS.values())
