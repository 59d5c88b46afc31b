"""Measuring a network of body joints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bodies import write_lspet
from click.testing import CliRunner
from drawn import tiny_config
from networks import random_checkpoint

from cunet_deploy.checkpoint.storage import save_checkpoint
from cunet_deploy.cli import cli


def test_the_cost_of_a_body_model_is_said_in_points_of_pck(tmp_path: Path) -> None:
    write_lspet(tmp_path / "lspet", 6)
    config = replace(tiny_config(), skeleton="lsp14")
    for name, seed in (("a.pt", 0), ("b.pt", 1)):
        save_checkpoint(random_checkpoint(config, seed), tmp_path / name)
    dataset = f"{tmp_path / 'lspet'}#train:clean"
    report = str(tmp_path / "r.json")
    line = ["evaluate", str(tmp_path / "a.pt"), dataset, "--against", str(tmp_path / "b.pt"), "--json", report]
    result = CliRunner().invoke(cli, [*line, "--per-landmark"])
    assert result.exit_code == 0, result.output
    spoken = " ".join(result.stdout.split())
    assert f"points of PCK@0.2 against {tmp_path / 'b.pt'}, paired over the same people" in spoken
    table = json.loads((tmp_path / "r.json").read_text())
    assert table["objects"] == 2
    assert "pck_20_lost_percent_points" in table["difference"]
    assert set(table["landmarks_pck_20_percent"]) >= {"left_wrist", "head_top"}
    assert "PCK@0.2 of each joint" in result.stdout
