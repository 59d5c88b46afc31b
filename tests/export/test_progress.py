"""The file of a long measurement's progress: whole or refused, and never taken for that of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.export.progress import ResumeFile


def test_what_was_saved_last_is_there_again_and_goes_when_the_work_is_done(tmp_path: Path) -> None:
    resume = ResumeFile.beside(tmp_path / "bits.toml", weights="1")
    assert resume.load() == {}
    for seen in (1, 2):
        resume.save({"seen": np.array(seen), "a/counts": np.arange(20)})
    assert {name: values.tolist() for name, values in resume.load().items()} == {
        "seen": 2,
        "a/counts": list(range(20)),
    }
    resume.remove()
    assert list(tmp_path.iterdir()) == []


def test_progress_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    ResumeFile(tmp_path / "x.partial", {"weights": "1", "photos": "1"}).save({})
    before = (tmp_path / "x.partial").read_bytes()
    with pytest.raises(InputError, match=r"x\.partial: holds the progress of a run with other photos.*delete the file"):
        ResumeFile(tmp_path / "x.partial", {"weights": "1", "photos": "2"}).load()
    assert (tmp_path / "x.partial").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut", "array"], ids=str)
def test_damaged_progress_is_refused(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "x.partial"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    with pytest.raises(InputError, match=r"x\.partial: .*delete it to begin"):
        ResumeFile(path, {}).load()


def test_progress_cut_anywhere_is_refused(tmp_path: Path) -> None:
    resume = ResumeFile(tmp_path / "x.partial", {"weights": "1"})
    resume.save({"seen": np.array(3), "a/counts": np.arange(20)})
    whole = resume.path.read_bytes()
    for length in range(0, len(whole), 37):
        resume.path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="delete it to begin"):
            resume.load()
