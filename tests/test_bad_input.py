"""Every file argument of every command, given something it is not: one line, the documented code, nothing written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from drawn import CONFIG_TOML, write_faces
from networks import random_checkpoint
from rtx import need_rtx

from cunet_deploy.cli import cli
from cunet_deploy.tensorrt.sidecar import sidecar_path

# The argument under test is FILE; GOOD_x are replaced by things that are fine, OUT by a path that does not exist.
COMMANDS = {
    "train CONFIG": "train FILE --data GOOD_DATA -o OUT",
    "train --data": "train GOOD_CONFIG --data FILE -o OUT",
    "export CHECKPOINT": "export FILE -o OUT",
    "export --calibration": "export GOOD_FLOAT --calibration FILE -o OUT",
    "export --parity": "export GOOD_QUANTIZED --parity FILE -o OUT",
    "export --correct-bias": "export GOOD_FLOAT --calibration GOOD_RANGES --correct-bias --parity FILE -o OUT",
    "calibrate CHECKPOINT": "calibrate FILE --images GOOD_FACES -o OUT",
    "calibrate --images": "calibrate GOOD_FLOAT --images FILE -o OUT",
    "sensitivity CHECKPOINT": "sensitivity FILE --data GOOD_FACES -o OUT --json OUT.json",
    "sensitivity --data": "sensitivity GOOD_FLOAT --data FILE -o OUT --json OUT.json",
    "sensitivity --calibration": "sensitivity GOOD_FLOAT --data GOOD_FACES --calibration FILE -o OUT --json OUT.json",
    "convert LEGACY": "convert FILE -o OUT",
    "infer SOURCE": "infer FILE --model GOOD_BUNDLE -o OUT",
    "infer --model": "infer GOOD_IMAGE --model FILE -o OUT.jpg",
    "infer --detector boxes": "infer GOOD_IMAGE --model GOOD_BUNDLE --detector boxes:FILE -o OUT.jpg",
    "infer --detector yunet": "infer GOOD_IMAGE --model GOOD_BUNDLE --detector yunet:FILE -o OUT.jpg",
    "infer --detector onnx": "infer GOOD_IMAGE --model GOOD_BUNDLE --detector onnx:FILE -o OUT.jpg",
    "label SOURCE": "label FILE --teacher GOOD_BUNDLE -o OUT.json",
    "label --teacher": "label GOOD_IMAGE --teacher FILE -o OUT.json",
    "evaluate MODEL": "evaluate FILE GOOD_FACES --json OUT",
    "evaluate DATASET": "evaluate GOOD_BUNDLE FILE --json OUT",
    "evaluate --against": "evaluate GOOD_BUNDLE GOOD_FACES --against FILE --json OUT",
    "verify BUNDLE": "verify FILE",
    "verify --checkpoint": "verify GOOD_BUNDLE --checkpoint FILE",
    "verify --engine": "verify GOOD_BUNDLE --engine FILE",
    "build BUNDLE": "build FILE --flavour tensorrt_rtx -o OUT",
    "build --timing-cache": "build GOOD_LOWERED --flavour tensorrt_rtx --timing-cache FILE -o OUT",
    "inspect MODEL": "inspect FILE --json OUT",
    "bench MODEL": "bench FILE --rounds 1 --json OUT",
    "bench --input": "bench GOOD_BUNDLE --rounds 1 --input FILE --json OUT",
}
KINDS = ["missing", "empty", "text", "random.onnx", "random.pt", "random.mp4", "random.jpg", "folder"]
KINDS += ["random.engine", "described.engine"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Arguments that are fine."""

    from cunet_deploy.checkpoint.storage import save_checkpoint
    from cunet_deploy.config import QuantConfig, load_config
    from cunet_deploy.export.bundle import export_checkpoint, quantized_checkpoint, ranges_of
    from cunet_deploy.export.ranges import write_ranges

    root = tmp_path_factory.mktemp("good")
    faces = write_faces(root / "data" / "faces", 8)
    (root / "config.toml").write_text(CONFIG_TOML)
    config = load_config(root / "config.toml")
    parent = random_checkpoint(config)
    small = quantized_checkpoint(parent, QuantConfig(), faces)
    save_checkpoint(parent, root / "float.pt")
    save_checkpoint(small, root / "quantized.pt")
    write_ranges(ranges_of(parent, faces), parent, root / "ranges.json", crops=8)
    export_checkpoint(small, root / "bundle")
    export_checkpoint(small, root / "lowered", target="tensorrt")
    return {
        "GOOD_DATA": root / "data",
        "GOOD_FACES": faces,
        "GOOD_CONFIG": root / "config.toml",
        "GOOD_FLOAT": root / "float.pt",
        "GOOD_QUANTIZED": root / "quantized.pt",
        "GOOD_RANGES": root / "ranges.json",
        "GOOD_BUNDLE": root / "bundle",
        "GOOD_LOWERED": root / "lowered",
        "GOOD_IMAGE": faces / "face000_1.png",
    }


def bad(folder: Path, kind: str) -> Path:
    """Something that is no argument of any command."""
    path = folder / f"bad_{kind}"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        noise = b"these are words\n" * 20 if kind == "text" else random.Random(kind).randbytes(3000)
        path.write_bytes(b"" if kind == "empty" else noise)
    if kind == "described.engine":
        sidecar_path(path).write_text('{"format": 1}')
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_it_is_refused_in_one_line(command: str, kind: str, good: dict[str, Path], tmp_path: Path) -> None:
    if command.startswith("build"):
        need_rtx()
    line = command.replace("FILE", str(bad(tmp_path, kind))).replace("OUT", str(tmp_path / "out"))
    for name, path in good.items():
        line = line.replace(name, str(path))
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(cli, line.split())
    assert result.exit_code in (2, 3, 6), result.output
    assert result.exit_code != 6 or kind == "random.engine", result.output  # native code that nothing describes
    message = result.stderr.strip()
    assert len([row for row in message.splitlines() if "error" in row.lower()]) == 1, message
    assert "Traceback" not in message
    assert "bad_" in message, message  # the file is named
    assert sorted(tmp_path.rglob("*")) == before
