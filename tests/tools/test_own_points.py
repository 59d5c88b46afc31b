"""The walk through docs/own-points.md, with fewer mice and epochs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import draw_mice
from click.testing import CliRunner

from cunet_deploy.cli import cli
from cunet_deploy.config import load_config
from cunet_deploy.data.readers import read_examples

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_and_two_files_are_enough_to_train_and_use_a_model(tmp_path: Path) -> None:
    draw_mice.write_mice(tmp_path, 40)
    text = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(
        text.replace("epochs = 30", "epochs = 1").replace("epochs = 3\n", "epochs = 1\n")
    )
    skeleton = load_config(tmp_path / "config.toml").landmarks
    examples = read_examples(tmp_path / "cage", skeleton)
    assert len(examples) >= 35
    assert (tmp_path / "mouse.toml").is_file()

    run("train", tmp_path / "config.toml", "--data", tmp_path, "-o", tmp_path / "run", "--threads", 1)
    assert (tmp_path / "run" / "mouse.toml").is_file()  # so that the copied configuration can be trained again
    run(
        "train",
        tmp_path / "run" / "config.toml",
        "--data",
        tmp_path,
        "-o",
        tmp_path / "run",
        "--resume",
        "--threads",
        1,
    )
    run("export", tmp_path / "run" / "quantized.pt", "--bits", 8, "-o", tmp_path / "bundle")
    assert json.loads((tmp_path / "bundle" / "manifest.json").read_text())["skeleton"] == skeleton.to_dict()
    (tmp_path / "mouse.toml").unlink()  # the model knows its landmarks
    report = run("evaluate", tmp_path / "bundle", tmp_path / "cage", "--validation", 0.2, "--per-landmark")
    assert "NME, body" in report
    assert "left_ear" in report
    boxes = tmp_path / "out.csv"
    run("infer", tmp_path / "cage" / "0000.png", "--model", tmp_path / "bundle", "-o", boxes)
    assert boxes.read_text().startswith("frame,file,time_ms,id,x0,y0,x1,y1,nose_x,nose_y,nose_score,left_ear_x")


def test_the_page_shows_the_files_that_the_script_writes() -> None:
    page = (ROOT / "docs" / "own-points.md").read_text()
    for line in (*draw_mice.SKELETON.splitlines()[1:], 'train = ["cage"]', 'layout = "points"'):
        assert line in page, line
    assert "image," + ",".join(f"{name}_{axis}" for name in draw_mice.NAMES for axis in "xy") in page
    commands = re.findall(r"^    cunet-deploy (\w+)", page.partition("\n## ")[0], re.MULTILINE)
    assert commands == ["train", "export", "evaluate", "infer"]
