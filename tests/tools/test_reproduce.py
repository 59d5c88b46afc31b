"""The tables of the method: their rows, what is recorded, and the page that is written from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from drawn import tiny_config, write_faces

from cunet_deploy.config import parse_config
from cunet_deploy.model.networks import build_network
from tools.experiments import pages
from tools.experiments import reproduce as reproduce_tool
from tools.experiments import rows as rows_tool

MEASURED = ("sizes", "latency", "memory", "steps")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return reproduce_tool


@pytest.fixture(scope="module")
def rows(script: ModuleType) -> dict[str, dict[str, Any]]:
    return script.load_rows()  # type: ignore[no-any-return]


def recorded(script: ModuleType) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (script.TABLES / "results").glob("*.json")}


def test_every_row_is_a_valid_configuration_and_stands_in_a_table_that_exists(
    script: ModuleType, rows: dict[str, dict[str, Any]]
) -> None:
    for name, row in rows.items():
        assert set(row["tables"]) <= set(pages.SECTIONS), name
        if "prefix" in row:
            parse_config(script.config_of(row["prefix"], rows[row["prefix"]]))
        elif "checkpoint" not in row:
            parse_config(script.config_of(name, row))


def test_rows_of_one_table_are_trained_alike_but_for_what_they_compare(
    script: ModuleType, rows: dict[str, dict[str, Any]]
) -> None:
    for table in ("order", "depth", "refinement"):
        configs = [
            parse_config(script.config_of(name, row))
            for name, row in rows.items()
            if table in row["tables"] and "prefix" not in row
        ]
        for config in configs[1:]:
            for part in ("data", "crop", "heatmap", "augment", "train", "quant"):
                assert getattr(config, part) == getattr(configs[0], part), (table, config.name)


def test_the_hourglass_has_three_times_the_parameters_and_the_same_time(
    script: ModuleType, rows: dict[str, dict[str, Any]]
) -> None:
    ours, theirs = (parse_config(script.config_of(name, rows[name])) for name in ("order-1", "hourglass"))
    counts = [sum(value.numel() for value in build_network(item.model, 68).parameters()) for item in (ours, theirs)]
    assert 2.8 <= counts[1] / counts[0] <= 3.5
    seconds = recorded(script)["steps"]["seconds"]
    times = [seconds["order-1"] * ours.train.epochs, seconds["hourglass"] * theirs.train.epochs]
    assert times[1] == pytest.approx(times[0], rel=0.04)


def test_what_is_recorded_says_how_it_was_made(script: ModuleType, rows: dict[str, dict[str, Any]]) -> None:
    for name, result in recorded(script).items():
        assert name in (*rows, *MEASURED)
        assert result["command"].startswith(
            f"python -m tools.experiments.reproduce {'measure' if name in MEASURED else 'train'}"
        )
        assert result["machine"]["processor"]
        assert result["versions"]["torch"]
        if name in MEASURED:
            continue
        assert len(result["nme_of_each"]) == result["objects"]
        if result.get("epochs"):
            config = parse_config(script.config_of(name, rows[name]))
            floats = 0 if "parent" in rows[name] else config.train.epochs
            assert len(result["epochs"]) == floats + config.quant.epochs


@pytest.mark.slow
def test_a_row_is_trained_measured_recorded_and_shown(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    write_faces(data / "helen" / "testset", 4)
    write_faces(data / "train", 12)
    tables = tmp_path / "tables"
    tables.mkdir()
    config = tiny_config(data={"train": ["train"]}).to_dict()
    del config["quant"]["layers"]
    (tables / "base.toml").write_text(script.to_toml(config))
    row = f'tables = ["order"]\nlabel = "%s"\nbase = "{tables / "base.toml"}"\n'
    (tables / "rows.toml").write_text(
        f"[one]\n{row % 'K = 0'}\n[two]\n{row % 'K = 1'}set = {{ train = {{ seed = 1 }} }}\n"
    )
    for module in (script, rows_tool):
        monkeypatch.setattr(module, "TABLES", tables)
        monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(script.main, [str(item) for item in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    def state(name: str) -> int:
        return (tmp_path / "runs" / name / "state.pt").stat().st_mtime_ns

    run("train", "one", "two", "--data", data, "--runs", tmp_path / "runs")
    made = state("one")
    first = json.loads((tables / "results" / "one.json").read_text())
    run("train", "one", "--data", data, "--runs", tmp_path / "runs")
    assert state("one") == made, "a finished row is not trained again"
    assert json.loads((tables / "results" / "one.json").read_text()) == first
    rows = (tables / "rows.toml").read_text()
    (tables / "rows.toml").write_text(rows.replace(row % "K = 0", row % "K = 0" + "set = { train = { seed = 2 } }\n"))
    other = CliRunner().invoke(script.main, ["train", "one", "--data", str(data), "--runs", str(tmp_path / "runs")])
    assert (other.exit_code, other.output) == (1, "error: one: training failed; the message stands above\n")
    (tables / "rows.toml").write_text(rows)
    assert "not recorded" not in run("list")
    assert script.update(write=True) == []
    page = (tmp_path / "docs" / "tables.md").read_text()
    assert f"{first['nme_percent']['value']:.2f} %" in page
    assert "`two`" in page
    assert script.update(write=False) == []
    (tmp_path / "docs" / "tables.md").write_text("old")
    assert script.update(write=False) == [tmp_path / "docs" / "tables.md"]
