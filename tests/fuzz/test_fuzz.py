"""A short run of the fuzzer, the same cases every time, and all files that once failed. `make fuzz` tries new ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from fuzz.runner import mutated
from fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
CASES = 400


def run_module(*command: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own: this one has threads by now, and must not fork."""
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Failures by target."""
    folder = tmp_path_factory.mktemp("fuzz")
    options = ["--seed", "test", "--cases", str(CASES), "-o", str(folder), "--json", str(folder / "r.json")]
    done = run_module("fuzz", *options)
    assert (folder / "r.json").is_file(), done.stderr
    table: dict[str, list[str]] = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    return table


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_read_and_damaged_ones_do_no_harm(name: str, report: dict[str, list[str]]) -> None:
    assert report[name] == []


def test_each_kind_of_misbehaviour_is_told_from_the_others(tmp_path: Path) -> None:
    found = json.loads(run_module("fuzz.misbehaving", str(tmp_path)).stdout)
    kinds = {"read": 4, "hang": 1, "crash": 1, "escape": 2, "message": 1, "refused": 1}
    assert found["counts"] == kinds
    assert found["findings"] == [
        ["hang", "hang"],
        ["crash", "crash"],
        ["escape", "escape"],
        ["escape", "warn"],
        ["message", "empty"],
    ]
    assert found["noisy"] == 1
    assert found["file"] == "good"


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_gives_the_same_cases_and_few_of_them_are_good_files(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"a": [1, 2.5, "x", null], "b": {"c": true}}\nx = 1, 2\n')
    target = TARGETS[name]
    one, two, other = (list(mutated(target, tmp_path, ["a"], seed, 30)) for seed in ("s", "s", "t"))
    assert one == two
    assert one != other
    assert sum(data == (tmp_path / "a").read_bytes() for _, data in one) < 10


def test_every_mutation_takes_anything(tmp_path: Path) -> None:
    mutations = {mutation for target in TARGETS.values() for mutation in target.mutations}
    for mutation in sorted(mutations, key=lambda item: item.__name__):
        for index in range(50):
            random = Random(index)
            assert isinstance(mutation(random.randbytes(random.randrange(200)), random), bytes)
        assert isinstance(mutation(b"", Random(0)), bytes)
