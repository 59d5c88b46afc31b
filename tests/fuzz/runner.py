"""Reads damaged files in child processes with limits, and tells what should not have happened.

A child is forked for a few dozen cases, so that a case costs little more than reading the file. Where one dies or does
not come back, that case is to blame; the next child goes on behind it. A case fails that

    crash      kills the process
    hang       takes more than 10 seconds of the processor, or 60 of the clock
    memory     takes more than 2 GB
    escape     raises something else than a `CunetError`, or warns
    message    raises one whose message is empty or has more than one line
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from cunet_deploy.errors import CunetError
from fuzz.mutations import Mutation

__all__ = ["Finding", "Outcome", "Target", "mutated", "prepare", "run_cases", "signature"]

PROCESSOR_SECONDS, CLOCK_SECONDS = 10.0, 60.0
MOST_BYTES = 2 * 10**9
CASES_A_CHILD = 60
MOST_REFUSALS = 10

Case = tuple[str, bytes]
"""Path of the damaged file in the target's folder, and its content."""


@dataclass(frozen=True)
class Target:
    """A kind of file that the product reads.

    Attributes:
        name: of the kind.
        write: writes good files into an empty folder, and gives those that shall be damaged.
        read: what the product does with one of them: given the folder and the file.
        mutations: that suit it.
        weight: how much of the whole is spent on it.
    """

    name: str
    write: Callable[[Path], list[Path]]
    read: Callable[[Path, Path], object]
    mutations: tuple[Mutation, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Finding:
    """A case that failed.

    Attributes:
        target: name of the kind of file.
        case: what was read.
        kind: as listed in this module.
        text: more of it: of an escape the type, the place and the message.
    """

    target: str
    case: Case
    kind: str
    text: str

    @property
    def digest(self) -> str:
        """Identifies the damaged file."""
        return hashlib.sha256(f"{self.case[0]}\0".encode() + self.case[1]).hexdigest()[:12]


@dataclass
class Outcome:
    """Results of some cases.

    Attributes:
        counts: cases by what became of them: "read", "refused", or a kind of finding.
        findings: those that failed.
        refusals: the first messages of what was refused.
        noisy: cases in which a library wrote to stdout or stderr by itself, and some of that.
        most_bytes: largest memory of a child.
        slowest: most seconds of the processor that a case took.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    noisy: int = 0
    noise: str = ""
    most_bytes: int = 0
    slowest: float = 0.0


def prepare(target: Target, root: Path) -> list[str]:
    """Write a target's good files into a folder, and give the paths in it of those that shall be damaged.

    It is done in a child, so that this process stays without the threads that libraries start: it will fork.
    """
    root.mkdir(parents=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            paths = [str(path.relative_to(root)) for path in target.write(root)]
            shutil.copytree(root, root.parent / f"{target.name}.good")
            (root.parent / f"{target.name}.json").write_text(json.dumps(paths))
            code = 0
        except BaseException:  # noqa: BLE001  the parent tells
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"the good files of {target.name} cannot be written")
    written: list[str] = json.loads((root.parent / f"{target.name}.json").read_text())
    return written


def mutated(target: Target, root: Path, paths: Sequence[str], seed: str, count: int) -> Iterator[Case]:
    """Cases of a target; the same seed gives the same ones."""
    good = {path: (root / path).read_bytes() for path in paths}
    for index in range(count):
        random = Random(f"{seed}/{target.name}/{index}")
        path = paths[random.randrange(len(paths))]
        yield path, random.choice(target.mutations)(good[path], random)


def run_cases(target: Target, root: Path, cases: Sequence[Case]) -> Outcome:
    """Read each case in place of the good file."""
    outcome = Outcome()
    start = 0
    while start < len(cases):
        part = cases[start : start + CASES_A_CHILD]
        start += _run_child(target, root, part, outcome)
    return outcome


def _run_child(target: Target, root: Path, cases: Sequence[Case], outcome: Outcome) -> int:
    """Run some cases in a child; give how many it came through, the last one perhaps dead."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(read_end)
        try:
            _child(target, root, cases, write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    done, killed = _watch(child, read_end, target, cases, outcome)
    os.close(read_end)
    _, status = os.waitpid(child, 0)
    if done < len(cases):
        code = os.waitstatus_to_exitcode(status)
        how = "" if code >= 0 else signal.Signals(-code).name
        kind, text = ("hang", "was stopped") if killed else ("crash", how or f"exit code {code}")
        _count(outcome, Finding(target.name, cases[done], kind, text))
        done += 1
    for path in {path for path, _ in cases[:done]}:
        (root / path).write_bytes((root.parent / f"{target.name}.good" / path).read_bytes())
    return done


def _watch(child: int, pipe: int, target: Target, cases: Sequence[Case], outcome: Outcome) -> tuple[int, bool]:
    """Read a child's reports until it ends; give how many cases are done and whether it was stopped."""
    done, buffer = 0, b""
    started, used = time.monotonic(), _processor_seconds(child)
    while True:
        ready, _, _ = select.select([pipe], [], [], 0.5)
        if ready:
            data = os.read(pipe, 1 << 16)
            if not data:
                return done, False
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                _note(json.loads(line), target, cases[done], outcome)
                done += 1
                started, used = time.monotonic(), _processor_seconds(child)
        elif time.monotonic() - started > CLOCK_SECONDS or _processor_seconds(child) - used > PROCESSOR_SECONDS:
            os.kill(child, signal.SIGKILL)
            return done, True


def _note(report: dict[str, Any], target: Target, case: Case, outcome: Outcome) -> None:
    outcome.most_bytes = max(outcome.most_bytes, report["bytes"])
    outcome.slowest = max(outcome.slowest, report["seconds"])
    if report["noise"]:
        outcome.noisy += 1
        outcome.noise = outcome.noise or report["noise"]
    if report["kind"] in ("read", "refused"):
        outcome.counts[report["kind"]] += 1
        if report["kind"] == "refused" and len(outcome.refusals) < MOST_REFUSALS:
            outcome.refusals.append(report["text"])
    else:
        _count(outcome, Finding(target.name, case, report["kind"], report["text"]))


def _count(outcome: Outcome, finding: Finding) -> None:
    outcome.counts[finding.kind] += 1
    outcome.findings.append(finding)


def _processor_seconds(child: int) -> float:
    """Processor time of a child; 0 where it has just ended."""
    try:
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _child(target: Target, root: Path, cases: Sequence[Case], pipe: int) -> None:
    """Read the cases, and report each with a line of JSON; in a process of its own."""
    log = os.open(root.parent / f"{target.name}.log", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))  # whatever they were
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 4 * 10**9,) * 2)
    warnings.simplefilter("error")
    before = 0
    for path, data in cases:
        (root / path).write_bytes(data)
        started = time.process_time()
        kind, text = _read(target, root, root / path)
        took = time.process_time() - started
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if size > MOST_BYTES > before:
            kind, text = "memory", f"{size / 1e9:.1f} GB"
        before = size
        (root / path).write_bytes((root.parent / f"{target.name}.good" / path).read_bytes())
        sys.stdout.flush()
        sys.stderr.flush()
        noise = os.pread(log, 400, 0).decode(errors="replace")
        os.ftruncate(log, 0)
        os.lseek(log, 0, os.SEEK_SET)
        report = {"kind": kind, "text": text, "bytes": size, "seconds": took, "noise": noise}
        os.write(pipe, json.dumps(report).encode() + b"\n")


def _read(target: Target, root: Path, path: Path) -> tuple[str, str]:
    try:
        target.read(root, path)
    except CunetError as error:
        message = str(error)
        if not message.strip() or len(message.splitlines()) != 1:
            return "message", f"{type(error).__name__}: {message!r}"
        return "refused", message
    except BaseException as error:  # noqa: BLE001  that is what is looked for
        return "escape", f"{type(error).__name__} in {_place(error)}: {str(error)[:300]!r}"
    return "read", ""


def _place(error: BaseException) -> str:
    """Place in the product that an error came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "cunet_deploy" in frame.filename]
    return f"{frames[-1].filename.rpartition('cunet_deploy')[2]}:{frames[-1].lineno}" if frames else "a library"


def signature(finding: Finding) -> tuple[str, str, str]:
    """Key that findings of one cause share."""
    return finding.target, finding.kind, finding.text.partition(":")[0] if finding.kind == "escape" else ""
