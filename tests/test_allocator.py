"""Memory that is freed and needed again."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from cunet_deploy.machine.allocator import keep_freed_memory

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource, sys
from cunet_deploy.machine.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("not glibc")
for _ in range(40):
    b"x" * (48 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-W", "ignore", "-c", FAULTS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_blocks_that_are_freed_and_needed_again_keep_their_pages() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc")
    if HUGE_PAGES.is_file() and "[always]" in HUGE_PAGES.read_text():
        pytest.skip("the system maps large pages by itself")
    assert faults("keep") < faults("usual") / 10


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
