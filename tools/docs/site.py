"""Gather the pages of the documentation's site: ``python -m tools.docs.site``, which `make docs` runs.

Pages are read where they lie, in README.md, docs/ and models/. The folder build/pages has them at the same places with
all that they link to, so that a link that works in the repository works in the site, and a dead one is found.
"""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["gather"]

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "calibration/README.md",
    "docs/**/*",
    "models/*/*.md",
    "models/*/*.json",
    "models/*/*.toml",
    "tools/experiments/tables/*.toml",
)


def gather(target: Path) -> None:
    """Copy the pages and what they link to into a folder, which holds nothing else afterwards."""
    shutil.rmtree(target, ignore_errors=True)
    for pattern in PAGES:
        for file in ROOT.glob(pattern):
            if file.is_file():
                copy = target / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)


if __name__ == "__main__":
    gather(ROOT / "build" / "pages")
