"""``cunet-deploy label`` that is stopped or fails, and goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result
from dots import DOTS, manifest, scene, write_model

from cunet_deploy.cli import cli
from cunet_deploy.errors import ArtifactError
from cunet_deploy.labelling.run import TeacherEnsemble
from cunet_deploy.media.writers.video import VideoWriter

Label = Callable[..., Result]


@pytest.fixture
def label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Label:
    """Labels two photos, of which one is empty, and two frames of a clip."""
    write_model(tmp_path / "dots.onnx", manifest(skeleton=replace(DOTS, flip_pairs=())))
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "0.png"), scene((150, 110))[0])
    cv2.imwrite(str(tmp_path / "photos" / "1.png"), scene((150, 110))[0] * 0 + 128)
    writer = VideoWriter(tmp_path / "clip.mp4", 10, (320, 240))
    for index in range(10):
        writer.write(scene((140 + index, 120))[0])
    writer.close()
    monkeypatch.chdir(tmp_path)

    def run(out: str, *options: str) -> Result:
        given = ["label", "photos", "clip.mp4", "--teacher", "dots.onnx", "--detector", "full", "--every", "5"]
        return CliRunner().invoke(cli, [*given, "--within", "0.1", "-o", f"{out}/set.json", *options])

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
    assert [Path(name).name for name in names] == ["0.png", "clip_1_000000.jpg"]
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


@pytest.mark.parametrize("error", [ArtifactError("the network broke"), SystemExit(9)], ids=["fails", "is killed"])
def test_a_run_that_fails_goes_on_where_it_was(
    label: Label, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    assert label("whole").exit_code == 0
    with monkeypatch.context() as failing:
        after(failing, 3, lambda: fail(error))
        result = label("out")
    if isinstance(error, ArtifactError):
        assert result.exit_code == 3
        assert "the network broke; 3 pictures are labelled: resume afterwards (--resume)" in result.stderr
    assert not Path("out/set.json").exists()
    with Path("out/set.json.partial").open("ab") as journal:
        journal.write(b'["half a line')  # as a power cut may leave it
    seen: list[object] = []
    with monkeypatch.context() as watched:
        after(watched, 0, lambda: seen.append(1))
        assert label("out", "--resume").exit_code == 0
    assert len(seen) == 1
    assert files("out") == files("whole")


def test_what_is_kept_is_not_mixed_with_other_options(label: Label, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as failing:
        after(failing, 2, lambda: fail(ArtifactError("the network broke")))
        assert label("out").exit_code == 3
    result = label("out", "--resume", "--min-score", "0.3")
    assert result.exit_code == 2
    assert "set.json.partial: is of a run with other min_score; go on with the same, or overwrite it" in result.stderr
    cv2.imwrite("photos/2.png", scene((160, 110))[0])
    result = label("out", "--resume")
    assert result.exit_code == 0, result.output
    assert "in 4 of 5 pictures" in result.stdout  # a photo that was added is labelled, too
    Path("out/set.json.partial").write_bytes(b"{}\n[1]\n")
    assert "set.json.partial: is damaged; overwrite it to begin anew" in label("out", "--resume").stderr
    assert label("out", "--overwrite").exit_code == 0
    assert not Path("out/set.json.partial").exists()
