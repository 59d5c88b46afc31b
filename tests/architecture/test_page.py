"""docs/architecture.md names files and definitions that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_decision_is_where_the_page_says() -> None:
    rows = re.findall(r"^\| .+? \| (.*`.*) \|$", PAGE.partition("## Where is it decided?")[2], re.MULTILINE)
    assert len(rows) >= 20
    for row in rows:
        for name, file in re.findall(r"`(\w+)`[^`]* in `([\w/]+\.py)`", row):
            assert re.search(rf"\b{name}\b", (ROOT / "cunet_deploy" / file).read_text(encoding="utf-8")), (name, file)


def test_every_module_that_the_page_names_is_there() -> None:
    for file in set(re.findall(r"(?<![\w/.])((?:cunet_deploy/)?(?:\w+/)+\w+\.py|\w+\.py)\b", PAGE)):
        candidates = (ROOT / file, ROOT / "cunet_deploy" / file)
        found = any(path.is_file() for path in candidates) or any((ROOT / "cunet_deploy").rglob(f"*/{file}"))
        assert found, file
