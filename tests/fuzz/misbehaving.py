"""``python -m fuzz.misbehaving FOLDER``: a target that does all that it must not, to see whether the runner tells."""

from __future__ import annotations

import ctypes
import json
import sys
import warnings
from pathlib import Path

from cunet_deploy.errors import InputError
from fuzz import runner

WORDS = ("good", "hang", "good", "crash", "escape", "warn", "empty", "refuse", "print", "good")


def _write(root: Path) -> list[Path]:
    (root / "file").write_text("good")
    return [root / "file"]


def _read(root: Path, path: Path) -> None:
    word = path.read_text()
    if word == "hang":
        while True:
            pass
    if word == "crash":
        ctypes.string_at(0)
    if word == "escape":
        raise KeyError(word)
    if word == "warn":
        warnings.warn("well", stacklevel=1)
    if word == "empty":
        raise InputError(" ")
    if word == "print":
        sys.stdout.write("noise\n")
    if word == "refuse":
        raise InputError("no")


if __name__ == "__main__":
    runner.PROCESSOR_SECONDS = 0.5
    target = runner.Target("misbehaving", _write, _read, (lambda data, random: data,))
    root = Path(sys.argv[1]) / "misbehaving"
    (path,) = runner.prepare(target, root)
    outcome = runner.run_cases(target, root, [(path, word.encode()) for word in WORDS])
    found = [[finding.kind, finding.case[1].decode()] for finding in outcome.findings]
    table = {"counts": outcome.counts, "findings": found, "noisy": outcome.noisy, "file": (root / path).read_text()}
    sys.stdout.write(json.dumps(table))
