"""Read many damaged files; exit code 1 when one of them does what it should not.

    python -m fuzz                                    20,000 new cases
    python -m fuzz --target video --cases 2000        of videos only
    python -m fuzz --seed test --cases 500            the same cases every time

Before new cases every target reads its good files and those of ``findings``, which failed once.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

from fuzz.runner import Case, Finding, Outcome, Target, mutated, prepare, run_cases, signature
from fuzz.targets import TARGETS

FINDINGS = Path(__file__).parent / "findings"
SMALL = 20_000
"""Bytes of a file that is worth being kept."""


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Parse, run every target, print a table and what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=20_000, help="of all targets together")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="the same seed gives the same cases")
    parser.add_argument("--target", action="append", choices=[*TARGETS], help="only this one; may be repeated")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/fuzz"), help="folder of the files that failed")
    parser.add_argument("--keep", action="store_true", help="also add small ones to tests/fuzz/findings")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what became of each target")
    given = parser.parse_args()
    chosen = [TARGETS[name] for name in given.target or TARGETS]
    whole = sum(target.weight for target in chosen)
    say(f"seed {given.seed}")
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        for target in chosen:
            begun = time.monotonic()
            outcome = _run(target, Path(folder) / target.name, given.seed, round(given.cases * target.weight / whole))
            outcomes[target.name] = outcome
            counts = ", ".join(f"{number} {kind}" for kind, number in sorted(outcome.counts.items()))
            most = f"at most {outcome.most_bytes / 1e6:.0f} MB and {outcome.slowest:.1f} s a case"
            say(f"{target.name:12} {counts}; {most}; {outcome.noisy} noisy; {time.monotonic() - begun:.0f} s")
    if given.json is not None:
        table = {
            name: [f"{finding.kind} {finding.case[0]} {finding.digest}: {finding.text}" for finding in outcome.findings]
            for name, outcome in outcomes.items()
        }
        given.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return _tell(outcomes, given.out, keep=given.keep)


def _run(target: Target, root: Path, seed: str, count: int) -> Outcome:
    paths = prepare(target, root)
    good = run_cases(target, root, [(path, (root / path).read_bytes()) for path in paths])
    outcome = run_cases(target, root, [*_kept(target.name), *mutated(target, root, paths, seed, count)])
    if good.counts != {"read": len(paths)}:
        texts = "; ".join(good.refusals + [finding.text for finding in good.findings])
        outcome.findings.append(Finding(target.name, (paths[0], b""), "good file", texts))
        outcome.counts["good file"] += 1
    return outcome


def _kept(name: str) -> list[Case]:
    """Files that failed once: ``findings/TARGET/DIGEST/PATH``."""
    folder = FINDINGS / name
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [("/".join(path.relative_to(folder).parts[1:]), path.read_bytes()) for path in files]


def _tell(outcomes: dict[str, Outcome], out: Path, *, keep: bool) -> int:
    """Save what failed, and print up to three of each cause."""
    seen: dict[tuple[str, str, str], int] = {}
    findings = [finding for outcome in outcomes.values() for finding in outcome.findings]
    for finding in findings:
        cause = signature(finding)
        seen[cause] = seen.get(cause, 0) + 1
        if seen[cause] > 3:
            continue
        path, data = finding.case
        for place in [out, *([FINDINGS] if keep and 0 < len(data) <= SMALL and seen[cause] == 1 else [])]:
            file = place / finding.target / finding.digest / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        say(f"{finding.kind}: {out / finding.target / finding.digest / path}: {finding.text}")
    total = sum(sum(outcome.counts.values()) for outcome in outcomes.values())
    say(f"{total} cases, {len(findings)} findings of {len(seen)} causes")
    return bool(findings)


if __name__ == "__main__":
    raise SystemExit(main())
