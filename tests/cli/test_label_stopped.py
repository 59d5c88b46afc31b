"""``cunet-deploy label`` that is stopped or fails, and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result
from dots import DOTS, manifest, scene, write_model

from cunet_deploy.cli import cli
from cunet_deploy.errors import ArtifactError
from cunet_deploy.labelling.pictures import Pictures
from cunet_deploy.labelling.run import TeacherEnsemble
from cunet_deploy.media import Picture
from cunet_deploy.media.writers.video import VideoWriter

Label = Callable[..., Result]
GIVEN = (
    *("label", "photos", "clip.mp4", "--teacher", "dots.onnx", "--detector", "full", "--every", "5"),
    *("--within", "0.1"),
)


def write_clip(path: Path, left: int, frames: int) -> None:
    writer = VideoWriter(path, 10, (320, 240))
    for index in range(frames):
        writer.write(scene((left + index, 120))[0])
    writer.close()


@pytest.fixture
def label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Label:
    """Labels two photos, of which one is empty, and two frames of a clip."""
    write_model(tmp_path / "dots.onnx", manifest(skeleton=replace(DOTS, flip_pairs=())))
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "0.png"), scene((150, 110))[0])
    cv2.imwrite(str(tmp_path / "photos" / "1.png"), scene((150, 110))[0] * 0 + 128)
    write_clip(tmp_path / "clip.mp4", 140, 10)
    monkeypatch.chdir(tmp_path)

    def run(out: str, *options: str) -> Result:
        return CliRunner().invoke(cli, [*GIVEN, "-o", f"{out}/set.json", *options])

    return run


def after(monkeypatch: pytest.MonkeyPatch, pictures: int, act: Callable[[], object]) -> None:
    """Act while the picture behind these is labelled."""
    real, seen = TeacherEnsemble.objects, []

    def objects(*arguments: object) -> object:
        seen.append(arguments)
        if len(seen) > pictures:
            act()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TeacherEnsemble, "objects", objects)


def fail(error: BaseException) -> None:
    raise error


def files(folder: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_set_and_resume_does_the_rest(
    label: Label, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    assert label("whole").exit_code == 0
    with monkeypatch.context() as stopped:
        after(stopped, 2, lambda: signal.raise_signal(number))
        result = label("out")
    assert result.exit_code == 130
    assert result.stderr == ("cunet-deploy: interrupted: out/set.json: 3 of 4 pictures are done; go on with --resume\n")
    table = json.loads(Path("out/set.json").read_text())
    names = [row["file_name"] for row in table["images"]]
    assert [Path(name).name for name in names] == ["0.png", "clip_000000.jpg"]
    assert (Path("out") / names[1]).is_file()
    assert [row["image_id"] for row in table["annotations"]] == [1, 2]
    result = label("out")
    assert result.exit_code == 2
    assert "set.json.partial: was left by a run that did not end; go on with that, or overwrite it (--resume)" in (
        result.stderr
    )
    result = label("out", "--resume")
    assert result.exit_code == 0, result.output
    assert result.stdout.replace("out/", "whole/") == label("again").stdout.replace("again/", "whole/")
    assert files("out") == files("whole")
    assert label("out", "--resume").stdout == "out/set.json: is done already\n"


def test_a_run_that_fails_goes_on_where_it_was(label: Label, monkeypatch: pytest.MonkeyPatch) -> None:
    assert label("whole").exit_code == 0
    with monkeypatch.context() as failing:
        after(failing, 3, lambda: fail(ArtifactError("the network broke")))
        result = label("out")
    assert result.exit_code == 3
    assert "the network broke; 3 pictures are labelled: resume afterwards (--resume)" in result.stderr
    assert not Path("out/set.json").exists()
    journal = Path("out/set.json.partial")
    journal.write_bytes(journal.read_bytes() + b'\0\0\n["half a line')  # as a power cut may leave it
    seen: list[object] = []
    with monkeypatch.context() as watched:
        after(watched, 0, lambda: seen.append(1))
        assert label("out", "--resume").exit_code == 0
    assert len(seen) == 1
    assert files("out") == files("whole")


KILLED = """
import os, sys
from cunet_deploy.cli import cli
from cunet_deploy.labelling.pictures import Pictures
from cunet_deploy.labelling.run import TeacherEnsemble
from cunet_deploy.media import Picture
real, seen = TeacherEnsemble.objects, []
def objects(*arguments):
    seen.append(arguments)
    if len(seen) > 3:
        os._exit(9)
    return real(*arguments)
TeacherEnsemble.objects = objects
cli(sys.argv[1:])
"""


def test_a_run_that_is_killed_while_it_replaces_a_set_goes_on(label: Label) -> None:
    assert label("whole").exit_code == 0
    assert label("out", "--every", "3").exit_code == 0
    arguments = [*GIVEN, "-o", "out/set.json", "--overwrite"]
    assert subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False).returncode == 9
    assert Path("out/set.part/clip_000000.jpg").is_file()
    assert label("out", "--resume").exit_code == 0
    assert files("out") == files("whole")
    assert label("out", "--overwrite").exit_code == 0


def stopped_behind(pictures: int, label: Label, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    with monkeypatch.context() as failing:
        after(failing, pictures, lambda: fail(ArtifactError("the network broke")))
        assert label("out", *options).exit_code == 3


def test_what_has_changed_is_labelled_again_and_what_is_gone_left_out(
    label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite("photos/2.png", scene((180, 110))[0])
    stopped_behind(4, label, monkeypatch)
    cv2.imwrite("photos/0.png", scene((100, 130))[0][:, :300])
    Path("photos/2.png").unlink()
    write_clip(Path("clip.mp4"), 120, 4)
    assert label("out", "--resume").exit_code == 0
    rows = json.loads(Path("out/set.json").read_text())["images"]
    assert [(Path(row["file_name"]).name, row["width"]) for row in rows] == [("0.png", 300), ("clip_000000.jpg", 320)]
    assert [path.name for path in Path("out/set").iterdir()] == ["clip_000000.jpg"]
    assert label("whole").exit_code == 0
    assert files("out") == files("whole")


def test_pages_are_known_again_when_files_are_added(label: Label, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cv2.imwritemulti("photos/scan.tif", [scene((150, 120))[0], scene((160, 120))[0]])
    stopped_behind(4, label, monkeypatch)
    cv2.imwrite("photos/a.png", scene((180, 110))[0])
    assert label("out", "--resume").exit_code == 0
    rows = json.loads(Path("out/set.json").read_text())["images"]
    assert sorted(Path(row["file_name"]).name for row in rows) == [
        *("0.png", "a.png", "clip_000000.jpg", "clip_000005.jpg", "scan.tif", "scan_000001.jpg")
    ]


def test_a_complete_set_is_made_anew_where_sources_have_changed(label: Label) -> None:
    assert label("out").exit_code == 0
    result = label("out", "--resume", "--json", "report.json")
    assert (result.exit_code, result.stdout) == (0, "out/set.json: is done already\n")
    assert not Path("report.json").exists()
    for name, value in (("every", "3"), ("sheet", "0")):
        result = label("out", "--resume", f"--{name}", value)
        assert result.exit_code == 2
        assert f"set.json: is of a run with other {name}; go on with the same, or overwrite it" in result.stderr
    cv2.imwrite("photos/2.png", scene((160, 110))[0])
    assert "in 4 of 5 pictures" in label("out", "--resume").stdout
    assert label("whole").exit_code == 0
    assert files("out") == files("whole")
    Path("out/set.json").write_text("[]")
    assert "out/set.json: is no set that was labelled so; choose another name" in label("out", "--resume").stderr
    assert Path("out/set.json").read_text() == "[]"


def test_resume_and_overwrite_together_replace_what_was_made_with_other_options_alone(
    label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = ("--resume", "--overwrite")
    assert label("out").exit_code == 0
    assert label("out", *both).stdout == "out/set.json: is done already\n"
    assert "in 2 of 3 pictures" in label("out", *both, "--every", "10").stdout
    assert label("out", *both, "--every", "10").stdout == "out/set.json: is done already\n"
    stopped_behind(3, label, monkeypatch, *both, "--every", "3")
    looked: list[int] = []
    with monkeypatch.context() as counting:
        after(counting, 0, lambda: looked.append(1))
        assert label("out", *both, "--every", "3").exit_code == 0
        assert len(looked) == 3
    stopped_behind(3, label, monkeypatch, "--overwrite")
    assert label("out", *both, "--min-score", "0.3").exit_code == 0
    assert label("whole", "--min-score", "0.3").exit_code == 0
    assert files("out") == files("whole")
    stopped_behind(3, label, monkeypatch, "--overwrite")
    Path("out/set.json.partial").write_bytes(b"\0\n[1]\n")
    assert label("out", *both).exit_code == 0
    assert not Path("out/set.json.partial").exists()


def test_names_may_be_as_long_as_the_file_system_takes(label: Label, monkeypatch: pytest.MonkeyPatch) -> None:
    out, clip = f"{'x' * 250}.json", f"{'c' * 251}.mp4"
    shutil.copy("clip.mp4", clip)
    with monkeypatch.context() as failing:
        after(failing, 2, lambda: fail(ArtifactError("the network broke")))
        assert label("out", clip, "-o", out).exit_code == 3
    assert label("out", clip, "-o", out, "--resume").exit_code == 0
    assert len(json.loads(Path(out).read_text())["images"]) == 5
    assert not list(Path().glob("*.partial"))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_signal_takes_effect_between_frames_that_are_passed_over(
    label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def is_in(pictures: Pictures, picture: Picture) -> bool:
        looked.append(picture.index)
        signal.raise_signal(signal.SIGINT)
        return False

    monkeypatch.setattr(Pictures, "_is_in", is_in)
    result = label("out")
    assert result.exit_code == 130
    assert looked == [0]
    assert "2 of 4 pictures are done" in result.stderr


def test_what_is_kept_is_not_mixed_with_other_options(label: Label, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_behind(3, label, monkeypatch)
    result = label("out", "--resume", "--min-score", "0.3")
    assert result.exit_code == 2
    assert "set.json.partial: is of a run with other min_score; go on with the same, or overwrite it" in result.stderr
    assert Path("out/set.part/clip_000000.jpg").is_file()
    cv2.imwrite("photos/2.png", scene((160, 110))[0])
    result = label("out", "--resume")
    assert result.exit_code == 0, result.output
    assert "in 4 of 5 pictures" in result.stdout  # a photo that was added is labelled, too
    Path("out/set.json.partial").write_bytes(b"\0\n[1]\n")
    assert "set.json.partial: is damaged; overwrite it to begin anew" in label("out", "--resume").stderr
    assert label("out", "--overwrite").exit_code == 0
    assert not Path("out/set.json.partial").exists()
