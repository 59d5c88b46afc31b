"""The rows of docs/tables.md: which networks are trained, and how their configurations differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cunet_deploy._decode import read_toml

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "tools" / "experiments" / "tables"


def load_rows() -> dict[str, dict[str, Any]]:
    """The trained rows of tools/experiments/tables/rows.toml by name."""
    return read_toml(TABLES / "rows.toml")


def config_of(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a row: tools/experiments/tables/base.toml, or the one it names, with the row's changes."""
    table = read_toml(ROOT / row.get("base", "tools/experiments/tables/base.toml"))
    if "base" not in row:
        table["name"] = name
    for key, value in row.get("set", {}).items():
        table[key] = {**table.get(key, {}), **value} if isinstance(value, dict) else value
    return table


def to_toml(table: dict[str, Any]) -> str:
    """A configuration as TOML: plain values first, then tables of plain values, which may be lists of small tables."""
    plain = [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, values in table.items():
        if isinstance(values, dict):
            plain += ["", f"[{key}]", *(f"{inner} = {_value(value)}" for inner, value in values.items())]
    return "\n".join(plain) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)
