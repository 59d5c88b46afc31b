"""``infer`` with several sources."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dots import manifest, scene, write_model

from cunet_deploy._files import file_sha256
from cunet_deploy.cli import cli
from cunet_deploy.media import Frame, Item, OutputPlan, find_items, open_source, plan_items
from cunet_deploy.media.writers.jsonl import json_lines
from cunet_deploy.media.writers.video import VideoWriter

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Result]


def write_clip(path: Path, count: int = 8) -> Path:
    writer = VideoWriter(path, 25, (320, 240))
    for index in range(count):
        writer.write(scene((120 + index % 40, 110), 36)[0])
    writer.close()
    return path


@pytest.fixture
def run(dots_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``infer`` in this process, in a folder with two clips and two photos in ``in``."""
    source = tmp_path / "in"
    source.mkdir()
    write_clip(source / "one.mkv")
    write_clip(source / "two.mp4")
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(source / name), scene()[0])
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str | Path) -> Result:
        given = ["infer", "--model", str(dots_model), "--threads", "1", *map(str, arguments)]
        return CliRunner().invoke(cli, given, prog_name="cunet-deploy")

    return invoke


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir() if path.name != ".cunet-infer")


ALL = [
    *("a.png", "b.png", "landmarks.csv", "landmarks.jsonl"),
    *("one.csv", "one.jsonl", "one.mp4", "two.csv", "two.jsonl", "two.mp4"),
]


def test_a_folder_gives_its_videos_one_by_one_and_its_images_together(run: Run) -> None:
    result = run("in", "-o", "out")
    assert result.exit_code == 0, result.output
    assert names("out") == ALL
    assert "in/one.mkv: 8 frames, 8 with landmarks" in result.stdout
    assert result.stdout.splitlines()[-1] == "3 sources: 3 done, 0 failed or incomplete"


@pytest.mark.parametrize(
    "sources",
    [
        ("in/one.mkv", "in/two.mp4", "in/a.png", "in/b.png"),
        ("in/*",),
        ("in/*.mkv", "in/*.mp4", "in/*.png", "in/one.mkv"),
        ("list.txt",),
    ],
)
def test_however_they_are_named_the_results_are_the_same(run: Run, sources: tuple[str, ...]) -> None:
    Path("list.txt").write_text("# clips\nin/one.mkv\n\nin/two.mp4\nin/*.png\n")
    result = run(*sources, "-o", "out")
    assert result.exit_code == 0, result.output
    assert names("out") == ALL


def test_a_bad_source_does_not_stop_the_others(run: Run) -> None:
    Path("in/one.mkv").write_bytes(b"no video at all" * 99)
    result = run("in", "missing.mp4", "-o", "out")
    assert result.exit_code == 1
    assert names("out") == [name for name in ALL if not name.startswith("one")]
    assert "failed: in/one.mkv: is cut off, damaged or not a video" in result.stderr
    assert "failed: missing.mp4: does not exist" in result.stderr
    assert "4 sources: 2 done, 2 failed or incomplete" in result.stdout


def test_a_source_that_breaks_off_is_incomplete(run: Run) -> None:
    data = write_clip(Path("in/one.mkv"), 80).read_bytes()
    Path("in/one.mkv").write_bytes(data[: len(data) // 2])
    result = run("in", "-o", "out")
    assert result.exit_code == 1
    marks = [f"one.{suffix}.part" for suffix in ("csv", "jsonl", "mp4")]  # they do not reach the end
    assert names("out") == sorted(ALL + marks)
    assert "incomplete: in/one.mkv: " in result.stderr
    write_clip(Path("in/one.mkv"))
    assert "1 done, 0 failed or incomplete, 2 were done before" in run("in", "-o", "out", "--resume").stdout
    assert names("out") == ALL


def test_resume_does_what_is_missing_and_no_more(run: Run) -> None:
    assert run("in", "-o", "out").exit_code == 0
    before = {name: Path("out", name).stat().st_mtime_ns for name in names("out")}
    assert run("in", "-o", "out").exit_code == 2
    Path("out/two.jsonl").rename("out/two.jsonl.part")  # as a run that was killed leaves it
    result = run("in", "-o", "out")
    assert result.exit_code == 2
    assert "two.jsonl.part: was left by a run that did not end; use --resume" in result.stderr
    result = run("in", "-o", "out", "--resume")
    assert result.exit_code == 0, result.output
    assert "3 sources: 1 done, 0 failed or incomplete, 2 were done before" in result.stdout
    assert names("out") == ALL
    after = {name: Path("out", name).stat().st_mtime_ns for name in names("out")}
    assert {name for name in ALL if before[name] != after[name]} == {"two.csv", "two.jsonl", "two.mp4"}
    assert "0 done" in run("in", "-o", "out", "--resume").stdout


@pytest.mark.parametrize(("source", "out"), [("in/one.mkv", "out/one.mp4"), ("in", "out")], ids=["one", "several"])
def test_resume_does_again_what_a_full_disk_cut_short(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: str, out: str
) -> None:
    def write(frame: Frame) -> str:
        if frame.index == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return json_lines(frame)

    with monkeypatch.context() as full:
        full.setattr("cunet_deploy.media.writers.jsonl.json_lines", write)
        full.setattr(OutputPlan, "mark_unfinished", lambda plan: None)  # there is no room for a mark either
        assert run(source, "-o", out).exit_code == 1
    assert lines(Path("out/one.jsonl")) == list(range(5))
    result = run(source, "-o", out, "--resume")
    assert result.exit_code == 0, result.output
    assert lines(Path("out/one.jsonl")) == list(range(8))
    assert source != "in" or "3 sources: 2 done, 0 failed or incomplete, 1 were done before" in result.stdout


def test_resume_does_images_that_were_added_or_changed(run: Run) -> None:
    Path("photos").mkdir()
    shutil.copy("in/a.png", "photos/a.png")
    assert run("photos", "-o", "out").exit_code == 0
    assert "is done already" in run("photos", "-o", "out", "--resume").stdout
    shutil.copy("in/a.png", "photos/added.png")
    result = run("photos", "-o", "out", "--resume")
    assert result.exit_code == 0, result.output
    assert names("out") == ["a.png", "added.png", "landmarks.csv", "landmarks.jsonl"]
    cv2.imwrite("photos/a.png", scene((60, 60), 30)[0])
    assert "2 frames" in run("photos", "-o", "out", "--resume").stdout
    assert "is done already" in run("photos", "-o", "out", "--resume").stdout


@pytest.mark.parametrize(("source", "out"), [("in/one.mkv", "out.mp4"), ("in", "out")], ids=["one", "several"])
def test_resume_refuses_results_of_another_model_or_of_other_options(
    run: Run, dots_model: Path, source: str, out: str
) -> None:
    other = write_model(Path("other.onnx"), manifest(min_score=0.4))
    assert run(source, "-o", out).exit_code == 0
    for options, said in (
        (("--model", other), f'model of SHA-256 "{file_sha256(dots_model)}"'),
        (("--smooth", "off"), 'smooth "one-euro"'),
    ):
        result = run(source, "-o", out, "--resume", *options)
        assert result.exit_code == 2
        assert f"was made with {said}; resume with the same, make all anew, or choose another output" in result.stderr
        assert result.stderr.count("\n") == 1
    assert run(source, "-o", out, "--resume", "--model", other, "--overwrite").exit_code == 0
    done = run(source, "-o", out, "--resume", "--model", other).stdout
    assert "is done already" in done or "3 sources: 0 done, 0 failed or incomplete, 3 were done before" in done
    assert run(source, "-o", out, "--resume", "--model", other, "--overwrite").stdout == done


def test_resume_of_one_source_that_is_done_does_nothing(run: Run) -> None:
    assert run("in/one.mkv", "-o", "out.mp4").exit_code == 0
    assert "is done already" in run("in/one.mkv", "-o", "out.mp4", "--resume").stdout


@pytest.mark.parametrize("sources", [("photos",), ("photos", "in/one.mkv")], ids=["one", "several"])
def test_resume_remembers_images_that_could_not_be_read(run: Run, sources: tuple[str, ...]) -> None:
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(Path("in/a.png").read_bytes())
    Path("photos/b.png").write_bytes(b"no picture")
    assert run(*sources, "-o", "out").exit_code == 1
    result = run(*sources, "-o", "out", "--resume")
    assert result.exit_code == 1
    assert "an image could not be read; --overwrite in place of --resume tries again" in result.stderr


def test_workers_write_what_one_process_writes(run: Run) -> None:
    assert run("in", "-o", "out").exit_code == 0
    result = run("in", "-o", "shared", "--workers", "2")
    assert result.exit_code == 0, result.output
    assert names("shared") == ALL
    for name in ALL:
        if not name.endswith(".mp4"):
            assert Path("shared", name).read_bytes() == Path("out", name).read_bytes()


def test_workers_go_on_where_one_has_a_bad_source(run: Run) -> None:
    Path("in/one.mkv").write_bytes(b"no video at all" * 99)
    result = run("in", "-o", "out", "--workers", "2")
    assert result.exit_code == 1
    assert "failed: in/one.mkv: is cut off" in result.stderr
    assert "3 sources: 2 done, 1 failed" in result.stdout


@pytest.mark.parametrize("options", [("--show",), ("--size", "9x9"), ("-o", "-"), ("-o", "list.txt")])
def test_options_of_one_source_are_refused(run: Run, options: tuple[str, ...]) -> None:
    Path("list.txt").write_text("in/one.mkv\n")
    result = run("in", *options)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_a_list_of_nothing_is_refused(run: Run) -> None:
    Path("list.txt").write_text("# nothing\n")
    assert "lists no source" in run("list.txt").stderr


def test_results_of_one_stem_have_names_of_their_own(tmp_path: Path) -> None:
    texts = ["x/clip.mkv", "x/clip.mp4", "y/clip.mp4", "z/other.mp4", "rtsp://host/cam"]
    plans = plan_items([Item(text) for text in texts], tmp_path, formats=("csv",))
    assert [plan.records["csv"].name for plan in plans] == [
        *("clip.mkv.csv", "x-clip.mp4.csv", "y-clip.mp4.csv", "other.csv", "cam.csv"),
    ]


def test_sources_of_any_name_have_items_of_their_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").rename(tmp_path / "images")
    cv2.imwrite(str(tmp_path / "c.png"), scene()[0])
    items = find_items(["images", "c.png", "images/", "./images/one.mkv"])
    assert items is not None
    assert [sorted(path.name for path in item.originals) for item in items] == [
        *(["a.png", "b.png"], ["one.mkv"], ["two.mp4"], ["c.png"]),
    ]


def test_a_single_source_has_no_items(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.avi", 2)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    for text in (str(clip), str(tmp_path / "a.png"), str(tmp_path / "*.png"), "0", "rtsp://host/cam", "missing.mp4"):
        assert find_items([text]) is None


def start(model: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cunet_deploy", "infer", "in", "-o", "out", "--model", str(model)]
    return subprocess.Popen(
        [*command, "--threads", "1", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not any(path.stat().st_size for path in folder.glob(pattern)):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def wait_for_workers(folder: Path) -> None:
    """Wait until nobody writes any more: workers end with their parent, and their locks with them."""
    import fcntl

    for path in folder.glob("*.part"):
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)


def lines(path: Path) -> list[int]:
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line)["frame"] for line in text.splitlines()]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_killed_can_be_resumed(dots_model: Path, tmp_path: Path, workers: int) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("one.mkv", "three.mkv", "two.mp4"):
        write_clip(source / name, 700)
    with start(dots_model, tmp_path, "--workers", str(workers)) as process:
        wait_for(out, "*.jsonl.part", process)
        process.kill()
    wait_for_workers(out)
    left = names(str(out))
    assert not [name for name in left if name.startswith(".")]
    assert [name for name in left if name.endswith(".part")]
    for path in out.glob("*.jsonl*"):
        assert lines(path) == list(range(len(lines(path))))
    with start(dots_model, tmp_path, "--workers", str(workers), "--resume") as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "is replaced" in stderr
    assert names(str(out)) == [
        f"{stem}.{suffix}" for stem in ("one", "three", "two") for suffix in ("csv", "jsonl", "mp4")
    ]
    for stem in ("one", "two", "three"):
        assert lines(out / f"{stem}.jsonl") == list(range(700))
        assert sum(1 for _ in open_source(out / f"{stem}.mp4")) == 700
    assert "3 sources: " in stdout


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_is_finished(dots_model: Path, tmp_path: Path, workers: int) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("one.mkv", "three.mkv", "two.mp4"):
        write_clip(source / name, 700)
    with start(dots_model, tmp_path, "--workers", str(workers)) as process:
        wait_for(out, "one.jsonl.part", process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr == "cunet-deploy: interrupted\n"
    assert 0 < len(lines(out / "one.jsonl")) <= 700
    assert not (out / "two.jsonl").exists() or workers == 2
    # files that do not reach the end are marked, so that --resume does them again
    for path in out.glob("*.jsonl"):
        assert len(lines(path)) == 700 or path.with_name(f"{path.name}.part").stat().st_size == 0
    with start(dots_model, tmp_path, "--workers", str(workers), "--resume") as process:
        assert process.wait(timeout=120) == 0
    assert not list(out.glob("*.part"))
    for stem in ("one", "two", "three"):
        assert lines(out / f"{stem}.jsonl") == list(range(700))


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_worker_that_is_killed_costs_its_source_only(dots_model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("one.mkv", "three.mkv", "two.mp4"):
        write_clip(source / name, 700)
    with start(dots_model, tmp_path, "--workers", "2") as process:
        wait_for(out, "one.jsonl.part", process)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            process.kill()
            pytest.skip("this system does not tell children")
        pids = [int(pid) for pid in children.read_text().split()]
        writers = [pid for pid in pids if _writes(pid, out / "one.jsonl.part")]
        os.kill(writers[0], signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "failed: in/one.mkv: its process ended (code -9)" in stderr
    assert "3 sources: 2 done, 1 failed" in stdout
    assert lines(out / "two.jsonl") == lines(out / "three.jsonl") == list(range(700))


def _writes(pid: int, path: Path) -> bool:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if link.resolve() == path.resolve():
                return True
        except OSError:
            continue
    return False


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp437"])
def test_names_are_told_whatever_the_terminal_can_show(dots_model: Path, tmp_path: Path, encoding: str) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x99\x82.mkv")
    write_clip(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "cunet_deploy", "infer", name, "missing.mp4", "-o", "out", "--model", dots_model],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    smile = {"utf-8": "\N{SLIGHTLY SMILING FACE}"}.get(encoding, r"\U0001f642")
    assert rf"caf\xe9 {smile}.mkv: 8 frames, 8 with landmarks" in done.stdout.decode(encoding)
    assert rf"wrote out/caf\xe9 {smile}.mp4" in done.stdout.decode(encoding)
    assert len(names(str(tmp_path / "out"))) == 3
