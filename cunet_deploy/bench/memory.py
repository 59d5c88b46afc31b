"""Memory that a network takes, measured in a process of its own: within one process the models before it would count.

``python -m cunet_deploy.bench.memory`` reads what to measure as JSON on stdin and writes what it found as JSON; use
`measure_memory`, which starts it.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy.bench.latency import Scene, Work
from cunet_deploy.bench.setups import Input, Setup
from cunet_deploy.errors import CunetError

__all__ = ["Memory", "measure_memory", "parse_status", "resident_bytes", "watch_memory"]

STATUS = Path("/proc/self/status")

_CALLS = 20
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process, in bytes; ``None`` where the system does not tell.

    Attributes:
        rss_before_bytes: with Python, numpy, OpenCV and the picture loaded, but neither a runtime nor the model.
        rss_loaded_bytes: after the model was opened.
        rss_steady_bytes: median over calls, after the first half of them.
        rss_peak_bytes: the most at any time.
    """

    rss_before_bytes: int | None
    rss_loaded_bytes: int | None
    rss_steady_bytes: int | None
    rss_peak_bytes: int

    def to_dict(self) -> dict[str, int]:
        """Return the known figures."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def measure_memory(setup: Setup, given: Input, *, python: str = sys.executable) -> Memory | str:
    """Run a setup in a fresh process.

    Args:
        setup: the model and how it runs.
        given: what it is given.
        python: the interpreter.

    Returns:
        What it took, or one line that says why that is not known.
    """
    task = json.dumps({"setup": setup.to_dict(), "input": asdict(given), "calls": _CALLS})
    line = [python, "-m", "cunet_deploy.bench.memory"]
    try:
        done = subprocess.run(
            line, input=task, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the process that measures it cannot run ({error})"
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return f"the process that measures it failed: {last}"
    try:
        table = json.loads(done.stdout.strip().splitlines()[-1])
        return table["reason"] if "reason" in table else Memory(**table)
    except (ValueError, TypeError, IndexError) as error:
        return f"the process that measures it answered something else ({error})"


def watch_memory(
    setup: Setup, work: Work, calls: int, *, resident: Callable[[], tuple[int | None, int] | None] | None = None
) -> Memory | str:
    """Load and run a setup in this process, and look at its memory meanwhile.

    Args:
        setup: the model and how it runs.
        work: what it is given.
        calls: how many, at least 2.
        resident: current and peak bytes of this process, the current ones ``None`` where only the peak is known;
            ``None``: nothing is. Left out: the system is asked.

    Returns:
        What it took, or why that is not known.
    """
    look = resident or resident_bytes
    runner = work.begin(time.perf_counter)
    with contextlib.ExitStack() as opened:
        opened.callback(runner.close)
        before = look()
        if before is None:
            return f"{sys.platform} does not tell how much memory a process takes"
        session = setup.open()
        opened.callback(session.close)
        loaded = look()
        seen = []
        for _ in range(calls):
            runner.call(session)
            seen.append(look())
    steady = [now[0] for now in seen[len(seen) // 2 :] if now is not None and now[0] is not None]
    peak = max(now[1] for now in (before, loaded, *seen) if now is not None)
    return Memory(before[0], loaded[0] if loaded else None, int(np.median(steady)) if steady else None, peak)


def parse_status(text: str) -> tuple[int, int] | None:
    """Current and peak resident bytes from the text of Linux's ``/proc/self/status``; ``None``: they are not in it."""
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB", text, re.MULTILINE))
    if len(found) != 2:
        return None
    return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024


def resident_bytes() -> tuple[int | None, int] | None:
    """Current and peak resident bytes of this process; ``None`` where the system does not tell."""
    try:
        return parse_status(STATUS.read_text(encoding="ascii", errors="replace")) or _peak_only()
    except OSError:
        return _peak_only()


def _peak_only() -> tuple[None, int] | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None, int(peak) if sys.platform == "darwin" else int(peak) * 1024


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    setup, given = Setup(**task["setup"]), Input(**task["input"])
    # drawing a picture would leave freed memory behind, which the model would fill unseen
    grey = Scene.centred(np.full((720, 1280, 3), 128, np.uint8), setup.batch)
    work = grey if given.source is None else given.work(setup.batch)
    found = watch_memory(setup, work, int(task["calls"]))
    return {"reason": found} if isinstance(found, str) else asdict(found)


def _main() -> int:
    try:
        answer = _answer(json.load(sys.stdin))
    except CunetError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
