"""The built wheel, installed alone into an empty environment, finds landmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def _run(*command: str | Path, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, f"{command} exited {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that holds the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "tools" / "constraints-cpu.txt", wheel, cwd=folder)
    return python


def test_the_wheel_holds_two_models_their_cards_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("model.onnx", "manifest.json", "golden.npz", "numbers.json", "README.md"):
        assert {f"cunet_deploy/_models/{model}/{name}" for model in ("face68-s", "face68-xs")} <= {*names}
    assert "cunet_deploy/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert len(tops) == 2
    assert "cunet_deploy" in tops
    assert all(top == "cunet_deploy" or top.endswith(".dist-info") for top in tops)


def test_an_empty_environment_finds_the_face_without_training_libraries(
    python: Path, astronaut: Path, tmp_path: Path
) -> None:
    missing = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'matplotlib') if u.find_spec(n)])"
    assert _run(python, "-c", missing, cwd=tmp_path).strip() == "[]"

    _run(python.with_name("cunet-deploy"), "verify", "face68-s", "--exact", cwd=tmp_path)
    _run(python.with_name("cunet-deploy"), "infer", astronaut, "-o", "out.jpg", cwd=tmp_path)

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [len(line["landmarks"]) for line in lines] == [68]
    assert (tmp_path / "out.jpg").stat().st_size > 1000
    # the face is in the upper middle of the picture
    xs, ys = zip(*lines[0]["landmarks"], strict=True)
    assert 130 < sum(xs) / 68 < 220
    assert 60 < sum(ys) / 68 < 140
