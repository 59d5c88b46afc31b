from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cunet_deploy.errors import CunetError
from cunet_deploy.media.writers.linefile import LineFile


def test_lines_are_there_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.txt"
    with LineFile(path, overwrite=False) as file:
        for number in range(5000):
            file.add(f"line ü {number}\n")
        assert not path.exists()
        held = next(item for item in path.parent.iterdir()).read_bytes()
        assert held.endswith(b"\n")
    assert path.read_text(encoding="utf-8") == "".join(f"line ü {number}\n" for number in range(5000))
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), LineFile(tmp_path / "out.txt", overwrite=False) as file:
        file.add("line\n")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_lines_are_held_for_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("cunet_deploy.media.writers.linefile.time.monotonic", lambda: now[0])
    with LineFile(tmp_path / "out.txt", overwrite=False) as file:
        (temporary,) = tmp_path.iterdir()
        file.add("1\n")
        assert temporary.stat().st_size == 0
        now[0] += 1.1
        file.add("2\n")
        assert temporary.read_text() == "1\n2\n"


CHILD = """
import resource, signal, sys
from pathlib import Path
from cunet_deploy.media.writers.linefile import LineFile

resource.setrlimit(resource.RLIMIT_FSIZE, (100_003, 100_003))
try:
    with LineFile(Path(sys.argv[1]), overwrite=False) as file:
        try:
            for number in range(10**6):
                file.add(f"line {number} " + "x" * (number % 90) + "\\n")
        except Exception as error:
            print(type(error).__name__, error)
finally:
    print("left")
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_what_does_not_fit_any_more_is_cut_off_at_a_line(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    done = subprocess.run([sys.executable, "-c", CHILD, path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "CunetError" in done.stdout
    assert "too large" in done.stdout
    text = path.read_text()
    assert text.endswith("\n")
    assert 90_000 < len(text) <= 100_003
    assert [line.split()[1] for line in text.splitlines()] == [str(number) for number in range(len(text.splitlines()))]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_said_by_the_name_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(CunetError, match=r"out\.txt: cannot be written: the disk is full"),
        LineFile(tmp_path / "out.txt", overwrite=False) as file,
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        monkeypatch.setattr(file, "_file", full)
        file.add("x" * 99 + "\n")
        file.flush()


KILLED = """
import sys, time
from pathlib import Path
from cunet_deploy.media.writers.linefile import LineFile

with LineFile(Path(sys.argv[1]), overwrite=False) as file:
    for number in range(10**9):
        file.add(f"line {number}\\n")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_process_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "out.txt"]) as process:
        limit = time.monotonic() + 30
        while not (parts := list(tmp_path.iterdir())) or parts[0].stat().st_size < 200_000:
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    data = parts[0].read_bytes()
    assert data.endswith(b"\n")
