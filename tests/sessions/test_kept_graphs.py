"""Contents of the cache of optimized graphs, and removal from it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cunet_deploy.sessions import optimized
from cunet_deploy.sessions.optimized import KeptGraph


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.is_dir() else []


def make(cache: Path, number: int, size: int = 10) -> Path:
    """A graph that was used at that second."""
    before = set(kept(cache))
    with KeptGraph(cache, f"{number:032x}").making() as temporary:
        temporary.write_bytes(bytes(size))
        os.utime(temporary, (number, number))
    (file,) = set(kept(cache)) - before
    return file


def test_the_files_that_were_not_used_for_longest_are_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimized, "MOST_FILES", 3)
    first, second, third = (make(cache, number) for number in (100, 200, 300))
    assert KeptGraph(cache, f"{100:032x}").find() == first  # now it is the last used
    fourth = make(cache, 400)
    assert set(kept(cache)) == {first, third, fourth}
    assert not second.exists()


def test_the_cache_holds_no_more_bytes_than_it_may(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimized, "MOST_BYTES", 100)
    make(cache, 100, 40)
    second, third = make(cache, 200, 50), make(cache, 300, 50)
    assert set(kept(cache)) == {second, third}
    with KeptGraph(cache, "f" * 32).making() as temporary:
        temporary.write_bytes(bytes(101))
    assert set(kept(cache)) == {second, third}


def test_other_files_stay_and_what_killed_programs_left_goes(cache: Path) -> None:
    cache.mkdir()
    choice, old, new = (cache / name for name in ("backend-1.json", ".ort-old.onnx", ".ort-new.onnx"))
    for file in (choice, old, new):
        file.touch()
    past = time.time() - 2 * 24 * 3600
    os.utime(old, (past, past))
    os.utime(choice, (past, past))
    kept_file = make(cache, 100)
    assert set(kept(cache)) == {choice, new, kept_file}


def test_an_error_while_the_graph_is_made_leaves_nothing(cache: Path) -> None:
    def fail() -> None:
        with KeptGraph(cache, "0" * 32).making() as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert kept(cache) == []
